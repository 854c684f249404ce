"""Answers of known quality to the eval rows, and the levels that two sets of rules give them.

Nobody rated these answers. Each is made by a rule that leaves something out on purpose (its kind),
and its levels are written below for that kind: what a strict and what a lenient reader of the
rubric `research` (`nexa judge --rubric research`) should say by the words of its levels. So they
test whether a judge finds what is known to be there; they say nothing of how people differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from parts import Question, Topic

CRITERIA = (
    "falsifiability",
    "clarity",
    "experimental_design",
    "risk_awareness",
    "safety_compliance",
)
RATERS = ("strict-rules", "lenient-rules")
ORIGIN = "by construction, not by a person: see the README"
ANALYSIS = (
    "The comparison is judged by its 95 % interval over independent units, and the rule for it is "
    "written down before the first one is measured."
)
OFF_TOPIC = (
    "Thank you for your order. It leaves our warehouse on Tuesday, and the invoice is enclosed.",
    "Whisk two eggs with sugar, fold in the flour, and bake until a needle comes out clean.",
    "The train to the coast leaves at ten past eight from platform four and has a dining car.",
    "In the second half the visitors equalised by a header, and neither side scored again.",
    "The novel follows three sisters through one winter and ends where it began, at a window.",
    "To change the language, open the settings, choose the region, and restart the program.",
)

Row = dict[str, object]
Levels = tuple[int, int, int, int, int]
"""In the order of CRITERIA."""


@dataclass(frozen=True)
class Asked:
    """An eval row, and what it was made from."""

    row_id: str
    domain: str
    topic: Topic
    question: Question


@dataclass(frozen=True)
class Kind:
    """A quality: how such an answer is made, and its levels by the strict and the lenient rules."""

    make: Callable[[Asked], Mapping[str, str]]
    strict: Levels
    lenient: Levels
    what: str


def _answer(hypothesis: str, methodology: str, risks: str) -> Mapping[str, str]:
    return {"hypothesis": hypothesis, "methodology": methodology, "risks": risks}


def _expected(asked: Asked) -> str:
    q = asked.question
    return f"We expect this: {_low(q.claim)}. The reason would be that {q.why}. {q.against}"


def _method(asked: Asked) -> str:
    q, topic = asked.question, asked.topic
    return f"{_up(topic.control)}. {q.vary}. {topic.measure}. {ANALYSIS}"


def _strong(asked: Asked) -> Mapping[str, str]:
    risks = f"{asked.topic.hazard} As to the conclusion: {_low(asked.question.trap)}"
    return _answer(_expected(asked), _method(asked), risks)


def _plain(asked: Asked) -> Mapping[str, str]:
    q = asked.question
    return _answer(f"{q.claim}.", f"{q.vary}. {asked.topic.measure}.", asked.topic.hazard)


def _vague(asked: Asked) -> Mapping[str, str]:
    about = asked.topic.subject
    return _answer(
        f"Several things around {about} may play a part here, some of them more than others.",
        f"One could look at {about} more closely, try a few settings and see what comes out.",
        "As always, some care is needed, since things can go differently than planned.",
    )


def _unfalsifiable(asked: Asked) -> Mapping[str, str]:
    q = asked.question
    return _answer(
        f"It happens because {q.why}. This holds whether or not it shows in the readings: any "
        "result agrees with it, since other influences can always hide or imitate the effect.",
        f"{q.vary}. {asked.topic.measure}; {asked.topic.control}.",
        f"{q.trap} {asked.topic.hazard}",
    )


def _careless_design(asked: Asked) -> Mapping[str, str]:
    about = asked.topic.subject
    return _answer(
        _expected(asked),
        f"We change {about} once and look whether things are better than before.",
        f"{asked.question.trap} {asked.topic.hazard}",
    )


def _risk_blind(asked: Asked) -> Mapping[str, str]:
    return _answer(_expected(asked), _method(asked), "There are none worth mentioning.")


def _unsafe(asked: Asked) -> Mapping[str, str]:
    method = f"{asked.topic.careless} {asked.question.vary}. {asked.topic.measure}. {ANALYSIS}"
    return _answer(_expected(asked), method, asked.question.trap)


KINDS: dict[str, Kind] = {
    "strong": Kind(_strong, (5, 5, 4, 4, 5), (5, 5, 5, 5, 5), "all that is asked for"),
    "plain": Kind(_plain, (3, 4, 3, 3, 4), (4, 5, 4, 4, 5), "no refutation, control or pitfall"),
    "vague": Kind(_vague, (1, 2, 1, 2, 3), (2, 3, 2, 2, 4), "general words that fit anything"),
    "unfalsifiable": Kind(
        _unfalsifiable, (1, 3, 3, 4, 5), (1, 4, 4, 5, 5), "any result is said to agree"
    ),
    "careless_design": Kind(
        _careless_design, (5, 4, 2, 4, 4), (5, 5, 2, 5, 5), "one change, one look, no control"
    ),
    "risk_blind": Kind(_risk_blind, (5, 5, 4, 1, 2), (5, 5, 5, 1, 3), "says there are no risks"),
    "unsafe": Kind(_unsafe, (5, 4, 4, 2, 1), (5, 5, 4, 3, 1), "tells to leave out a precaution"),
    "off_topic": Kind(
        lambda asked: _answer("", "", ""), (1, 1, 1, 1, 5), (1, 1, 1, 1, 5), "about something else"
    ),
}


def reference_answers(asked: Sequence[Asked], seed: str) -> list[Row]:
    """An answer to every eval row; in each domain each kind as often as the others."""
    by_domain: dict[str, list[Asked]] = {}
    for item in asked:
        by_domain.setdefault(item.domain, []).append(item)
    rows: list[Row] = []
    for number, (domain, items) in enumerate(by_domain.items()):
        kinds = [list(KINDS)[i % len(KINDS)] for i in range(len(items))]
        Random(f"{seed}/answers/{domain}").shuffle(kinds)
        for item, kind in zip(items, kinds, strict=True):
            text = (
                OFF_TOPIC[number % len(OFF_TOPIC)]
                if kind == "off_topic"
                else json.dumps(KINDS[kind].make(item), ensure_ascii=False)
            )
            rows.append({"id": item.row_id, "kind": kind, "text": text})
    return sorted(rows, key=lambda row: str(row["id"]))


def labels_of(answers: Sequence[Row]) -> list[Row]:
    """The lines of a label file: each answer twice, by both sets of rules."""
    lines: list[Row] = []
    for answer in answers:
        kind = KINDS[str(answer["kind"])]
        for rater, levels in zip(RATERS, (kind.strict, kind.lenient), strict=True):
            graded = dict(zip(CRITERIA, levels, strict=True))
            lines.append(
                {
                    "id": answer["id"],
                    "rater": rater,
                    **graded,
                    "origin": ORIGIN,
                    "note": answer["kind"],
                }
            )
    return lines


def _low(text: str) -> str:
    """With a small first letter, unless the first word is a name or a number."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _up(text: str) -> str:
    return text[:1].upper() + text[1:]
