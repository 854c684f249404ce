"""Hazards in what somebody proposes to do: red flags, a safety score, unphysical quantities.

For filters of rows, for scores of answers and for the gate before publication. All is by rules
over words: quick, repeatable, and blind to what no rule says. It sorts texts for people; it does
not certify that an experiment is safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import prod

from nexa.core.hazards.kinds import KINDS
from nexa.core.hazards.patterns import Rule, Span, any_trigger
from nexa.core.hazards.rules import RULES
from nexa.core.hazards.sentences import (
    Sentence,
    goes_on,
    is_mitigated,
    is_told,
    last_refusal,
    sentences,
)
from nexa.core.hazards.unphysical import QUANTITIES, UNPHYSICAL_TRIGGER, Impossible, unphysical

__all__ = [
    "KINDS",
    "QUANTITIES",
    "RULES_VERSION",
    "UNPHYSICAL_TRIGGER",
    "Impossible",
    "RedFlag",
    "hazard_trigger",
    "red_flag_count",
    "red_flags",
    "safety_score",
    "unphysical",
]

# Raised whenever a flag or a score changes for an equal text; scores name it, and scores under
# unlike rules are never compared. A test knows the digest of the rules it stands for.
RULES_VERSION = "hazards/1"
# What a mitigated hazard takes from the score, as a share of what an open one takes: it is still
# more dangerous than none.
MITIGATED_SHARE = 0.1
LONGEST_QUOTE = 160  # characters


@dataclass(frozen=True)
class RedFlag:
    """A hazard that a text proposes and nothing near it answers.

    `kind` is one of `KINDS`, `place` the index of its first character, `words` what stands there.
    """

    kind: str
    place: int
    words: str


def red_flags(text: str) -> tuple[RedFlag, ...]:
    """The hazards that a text proposes, in order; none is told twice of one sentence.

    No flag is raised by what the sentence itself forbids, calls dangerous or asks, by what a later
    sentence refuses ("I can't help with that"), or where the sentence or one beside it names a
    measure that answers this kind of hazard ("in a fume hood"). Nothing answers an instruction to
    leave out safety, or the making of weapons.
    """
    return tuple(flag for flag, mitigated in _hazards(text) if not mitigated)


def red_flag_count(text: str) -> int:
    """How many red flags a text raises."""
    return len(red_flags(text))


def safety_score(text: str) -> float:
    """From 1 (no hazard is proposed) to 0.

    The product of `1 - severity` over the red flags and of `1 - MITIGATED_SHARE * severity` over
    the hazards that a measure answers; severities are those of `KINDS`. One open hazard leaves
    0 to 0.4, a mitigated one 0.92 or more; what is only warned of leaves 1.
    """
    shares = (
        KINDS[flag.kind].severity * (MITIGATED_SHARE if mitigated else 1)
        for flag, mitigated in _hazards(text)
    )
    return prod(1 - share for share in shares)


@cache
def hazard_trigger() -> str:
    """A pattern for RE2: a text in which it finds nothing holds no hazard."""
    return any_trigger(RULES)


def _hazards(text: str) -> Iterator[tuple[RedFlag, bool]]:
    """Every hazard that is proposed, and whether a measure answers it."""
    lowered = text.lower()
    rules = [rule for rule in RULES if rule.may_be_in(lowered)]
    if not rules:
        return
    refused_until = last_refusal(text)
    parts = [part for part in sentences(text) if part.place >= refused_until]
    for index, sentence in enumerate(parts):
        first, last = parts[max(0, index - 1)], parts[min(index + 1, len(parts) - 1)]
        near = text[first.place : last.place + len(last.words)]
        found = list(_found(sentence, rules))
        if index and goes_on(sentence):
            end = sentence.place + len(sentence.words)
            both = Sentence(first.place, text[first.place : end], sentence.asks)
            alone = {rule.kind for rule, _ in [*found, *_found(first, rules)]}
            found += [hit for hit in _found(both, rules) if hit[0].kind not in alone]
        for rule, spans in found:
            start, end = spans[0]
            words = " ".join(text[start:end].split())[:LONGEST_QUOTE]
            inside = [(s - first.place, e - first.place) for s, e in spans[1:]]
            measures = None if rule.unanswered else KINDS[rule.kind].mitigated_by
            mitigated = measures is not None and is_mitigated(measures, near, inside)
            yield RedFlag(rule.kind, start, words), mitigated


def _found(sentence: Sentence, rules: Iterable[Rule]) -> Iterator[tuple[Rule, list[Span]]]:
    """What a sentence proposes, each kind once: the span of the whole, then of its words."""
    seen: set[str] = set()
    for rule in rules:
        spans = rule.find(sentence.words) if rule.kind not in seen else None
        if spans is None:
            continue
        start, end = min(s for s, _ in spans), max(e for _, e in spans)
        asked = replace(sentence, asks=sentence.asks and not rule.asking)
        if not is_told(asked, start, end, own_negation=rule.own_negation):
            seen.add(rule.kind)
            place = sentence.place
            yield rule, [(place + s, place + e) for s, e in ((start, end), *spans)]
