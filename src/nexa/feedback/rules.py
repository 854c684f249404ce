"""Rules that say what is weak, as users write them: `exact < 0.5`, `domain=f_block: exact < 0.9`.

A metric runs from 0 to 1 and may be told in percent (`field_accuracy <= 60%`); a criterion that
was judged is told in its own levels, from 1 to 5 (`falsifiability < 4.0`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nexa.core.errors import UsageError, nearest
from nexa.core.records import Interval

EXAMPLES = "exact < 0.5, field_accuracy <= 60%, falsifiability < 4.0, domain=f_block: exact < 0.9"
SUFFIX = "_score"  # `falsifiability_score` is what others call the criterion `falsifiability`
# The slice's value may hold anything but a colon that a blank follows.
_RULE = re.compile(
    r"(?:(?P<by>\w+)=(?P<value>.+?):\s+)?(?P<metric>[\w.@-]+)\s*(?P<sign><=?)\s*"
    r"(?P<number>[0-9]*\.?[0-9]+)\s*(?P<percent>%?)"
)


@dataclass(frozen=True)
class Scale:
    """What a metric's numbers run between, as users tell them; scores run from 0 to 1."""

    low: float
    high: float

    def of(self, score: float) -> float:
        """A score on this scale."""
        return round(self.low + (self.high - self.low) * score, 9)

    def interval(self, found: Interval) -> Interval:
        """An interval of scores on this scale."""
        ends = {name: self.of(getattr(found, name)) for name in ("mean", "low", "high")}
        return found.model_copy(update=ends)


UNIT = Scale(0.0, 1.0)
LEVELS = Scale(1.0, 5.0)


@dataclass(frozen=True)
class Rule:
    """A metric and the threshold that a weak slice lies below; of one slice if it names one."""

    text: str
    metric: str
    or_equal: bool
    threshold: float
    percent: bool
    slice: str | None = None

    def holds(self, value: float) -> bool:
        """Whether a number is that low."""
        return value <= self.threshold if self.or_equal else value < self.threshold


def parse(text: str) -> Rule:
    """A rule from its text, without a look at what metrics there are.

    Raises:
        UsageError: it is none.
    """
    found = _RULE.fullmatch(text.strip())
    if found is None:
        higher = ">" in text
        raise UsageError(
            "a rule says which metric is too low: METRIC < NUMBER",
            found=f"{text!r}" + (": more is better of every metric" if higher else ""),
            fix=EXAMPLES,
        )
    percent = bool(found["percent"])
    number = float(found["number"])
    return Rule(
        text=" ".join(text.split()),
        metric=found["metric"],
        or_equal=found["sign"] == "<=",
        threshold=number / 100 if percent else number,
        percent=percent,
        slice=f"{found['by']}={found['value'].strip()}" if found["by"] else None,
    )


def settle(
    rules: Sequence[str], metrics: Collection[str], judged: Collection[str], slices: Sequence[str]
) -> list[Rule]:
    """Rules of metrics and slices that are there.

    Raises:
        UsageError: no metric or slice of that name; says the nearest. A threshold off its scale.
    """
    return [_settled(parse(text), metrics, judged, slices) for text in rules]


def _settled(
    rule: Rule, metrics: Collection[str], judged: Collection[str], slices: Sequence[str]
) -> Rule:
    name = rule.metric
    bare = name.removesuffix(SUFFIX)
    if name not in metrics and bare in judged:
        name = bare
    if name not in metrics:
        raise UsageError(
            f"the rule {rule.text!r} names no metric of these scores",
            found=", ".join(metrics),
            fix=nearest(name, metrics),
        )
    scale = LEVELS if name in judged else UNIT
    if not scale.low <= rule.threshold <= scale.high or (rule.percent and scale is LEVELS):
        raise UsageError(
            f"the rule {rule.text!r} compares {name} with what it cannot be",
            found=f"{name} runs from {scale.low:g} to {scale.high:g}",
        )
    if rule.slice is not None and rule.slice not in slices:
        raise UsageError(
            f"the rule {rule.text!r} names no slice of this suite",
            found=", ".join(slices) or "no slices",
            fix=nearest(rule.slice, slices),
        )
    return Rule(rule.text, name, rule.or_equal, rule.threshold, rule.percent, rule.slice)
