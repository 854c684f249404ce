"""A rule about a sentence: patterns that stand near each other; and how to look for many at once.

A rule's first pattern, its trigger, keeps to what RE2 understands (nothing that looks ahead or
behind), so that a quick look over many texts can search for the triggers of all rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

NEAR = 100  # characters that a hazard's words may lie apart

BRACKETS = re.compile(r"\\.|[()\[\]|]")
GROUP = re.compile(r"(\\b)?\(\?:(.*)\)(\\b)?")

Span = tuple[int, int]


@dataclass(frozen=True)
class Rule:
    """A hazard of a kind: every pattern of `needs` within `within` characters, in any order.

    `excused_by` names contexts in which the same words mean something harmless. `own_negation`:
    the words hold the negation that makes the hazard. `asking`: asked for, it is a hazard too.
    `unanswered`: it does away with a measure, so that no measure answers it.
    """

    kind: str
    needs: tuple[str, ...]
    within: int = NEAR
    excused_by: str | None = None
    own_negation: bool = False
    asking: bool = False
    unanswered: bool = False

    def may_be_in(self, lowered: str) -> bool:
        """Whether a text in lower case holds letters that the trigger cannot do without.

        Many times quicker than the trigger, and it lets nothing pass that the trigger finds.
        """
        return any(literal in lowered for literal in self._literals)

    def find(self, words: str) -> tuple[Span, ...] | None:
        """Where the words of each pattern stand; None: not all of them, or not near each other."""
        trigger, *others = self._patterns
        first = [match.span() for match in trigger.finditer(words)]
        places = [[match.span() for match in other.finditer(words)] for other in others if first]
        if not first or not all(places):
            return None
        for span in first:
            near = [_nearest(span, found) for found in places]
            spans = (span, *near)
            if max(end for _, end in spans) - min(start for start, _ in spans) <= self.within:
                return None if self._excuse and self._excuse.search(words) else spans
        return None

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        # ASCII as in RE2: `\b` and upper and lower case are then the same in both.
        return tuple(re.compile(need, re.IGNORECASE | re.ASCII) for need in self.needs)

    @cached_property
    def _excuse(self) -> re.Pattern[str] | None:
        return re.compile(self.excused_by, re.IGNORECASE) if self.excused_by else None

    @cached_property
    def _literals(self) -> tuple[str, ...]:
        return tuple({_literal(part) for part in alternatives(self.needs[0])})


def any_trigger(rules: Iterable[Rule]) -> str:
    """A pattern for RE2: a text in which it finds nothing breaks none of the rules.

    Sorted, so that RE2 joins what begins alike: it halves the time of a look.
    """
    parts = {part for rule in rules for part in alternatives(rule.needs[0])}
    return "(?i)" + "|".join(sorted(parts))


def alternatives(pattern: str) -> Iterator[str]:
    """What a pattern may be instead: the parts between its bars, also of a group of whole words."""
    for part in _outermost(pattern):
        group = GROUP.fullmatch(part)
        inner = list(_outermost(group[2])) if group else []
        if group and all(_is_closed(word) for word in inner):
            for word in inner:
                yield from alternatives(f"{group[1] or ''}{word}{group[3] or ''}")
        else:
            yield part


def _outermost(pattern: str) -> Iterator[str]:
    """The parts between the bars that stand in no group."""
    depth, start = 0, 0
    for match in BRACKETS.finditer(pattern):
        depth += (match[0] in "([") - (match[0] in ")]")
        if match[0] == "|" and depth == 0:
            yield pattern[start : match.start()]
            start = match.end()
    yield pattern[start:]


def _is_closed(part: str) -> bool:
    """Whether each bracket is closed again; of `a)(?:b` none is."""
    depth = 0
    for match in BRACKETS.finditer(part):
        depth += (match[0] in "([") - (match[0] in ")]")
        if depth < 0:
            return False
    return depth == 0


def _literal(pattern: str) -> str:
    """The longest run of letters that whatever a pattern without outer bars matches must hold."""
    plain = re.sub(r"\\.|\[[^]]*\]", "\0", pattern)
    while plain != (inner := re.sub(r"\([^()]*\)", "\0", plain)):
        plain = inner
    return max(re.split(r".[?*]|[\0+.]", plain), key=len).lower()


def _nearest(to: Span, spans: Iterable[Span]) -> Span:
    return min(spans, key=lambda span: max(span[0] - to[1], to[0] - span[1]))
