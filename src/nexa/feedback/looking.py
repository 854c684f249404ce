"""Slices looked at one by one: how each was scored, whether it is weak, and why, in words.

Ways of cutting overlap: where one domain is weak, any length or cluster that holds its rows looks
weak, too. A slice that is weak through the rows of others alone is not called so: domains are
taken first, then tags, lengths and clusters, at last all rows, and each has to be weak without what
came before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nexa.core.records import Interval, Slice
from nexa.core.scoring import Row
from nexa.core.statistics import interval
from nexa.feedback.rest import Gap, adjusted, gap
from nexa.feedback.rules import LEVELS, UNIT, Rule, Scale
from nexa.feedback.slices import ORDER, Cut

CONFIDENT = 0.05  # a p below it, corrected for the slices of its kind


@dataclass(frozen=True)
class Found:
    """A slice as it was scored: the numbers run from 0 to 1, `places` have a score."""

    cut: Cut
    metric: str
    rows: Sequence[int]
    places: Sequence[int]
    score: Interval
    weak: bool = False
    why: str = ""


@dataclass(frozen=True)
class Look:
    """A suite's scored rows, and what makes a slice of them weak.

    `rules`: where none has a text, a slice is weak that lies below the rest of the suite.
    """

    rows: Sequence[Row]
    judged: frozenset[str]
    rules: Sequence[Rule]
    minimum_rows: int
    minimum_groups: int

    def slices(
        self, cuts: Sequence[Cut], held: Mapping[str, Sequence[int]]
    ) -> tuple[list[Slice], list[str]]:
        """All slices that a rule is about, the weakest first; and those without any score."""
        found, unscored = [], []
        for made in cuts:
            about = [rule.metric for rule in self.rules if rule.slice in (None, made.name)]
            for metric in dict.fromkeys(about):
                one = self._found(made, metric, held[made.name])
                if one is None:
                    unscored.append(f"{made.name}: {metric}")
                else:
                    found.append(one)
        told = self._by_themselves(self._judged(found))
        return [self._slice(one) for one in sorted(told, key=self._order)], unscored

    def _found(self, made: Cut, metric: str, rows: Sequence[int]) -> Found | None:
        places = [at for at in rows if self.rows[at].get(metric) is not None]
        if not places:
            return None
        score = interval(
            [float(self.rows[at][metric]) for at in places],
            [str(self.rows[at].get("group") or self.rows[at]["id"]) for at in places],
        )
        return Found(made, metric, rows, places, score)

    def _enough(self, score: Interval) -> bool:
        return score.n >= self.minimum_rows and score.groups >= self.minimum_groups

    # -- weak or not -----------------------------------------------------------------------------

    @property
    def _by_rule(self) -> bool:
        return any(rule.text for rule in self.rules)

    def _judged(self, found: Sequence[Found]) -> list[Found]:
        gaps: dict[str, Gap] = {}
        if not self._by_rule:
            gaps = {one.cut.name: made for one in found if (made := self._gap(one, range(0)))}
        kinds = {one.cut.name: one.cut.by for one in found}
        ps = adjusted({name: made.p for name, made in gaps.items()}, kinds)
        told = []
        for one in found:
            if not self._enough(one.score):
                least = f"{self.minimum_rows} rows in {self.minimum_groups} groups"
                weak, why = False, f"too few to tell, which takes {least}"
            elif self._by_rule:
                weak, why = self._against_rules(one)
            else:
                name = one.cut.name
                several = sum(kinds[other] == one.cut.by for other in gaps)
                weak, why = _against_rest(gaps.get(name), ps.get(name), several, self._scale(one))
            told.append(replace(one, weak=weak, why=why))
        return told

    def _by_themselves(self, found: Sequence[Found]) -> list[Found]:
        """Those that are weak through others' rows alone are not; a rule of one slice is for it."""
        told: list[Found] = []
        covered: dict[str, dict[int, str]] = {}
        for one in sorted(found, key=lambda f: (ORDER.index(f.cut.by), f.score.mean, f.cut.value)):
            known = covered.setdefault(one.metric, {})
            own = any(rule.slice == one.cut.name for rule in self.rules)
            through = {known[at]: None for at in one.places if at in known}
            if one.weak and through and not own and not self._still_weak(one, known):
                why = f"not weak but for the rows of {', '.join(through)}"
                one = replace(one, weak=False, why=why)
            if one.weak:
                known.update({at: one.cut.name for at in one.places if at not in known})
            told.append(one)
        return told

    def _still_weak(self, one: Found, known: Mapping[int, str]) -> bool:
        left = self._found(one.cut, one.metric, [at for at in one.rows if at not in known])
        if left is None or not self._enough(left.score):
            return False
        if self._by_rule:
            return self._against_rules(left)[0]
        made = self._gap(replace(left, rows=one.rows), known)
        return made is not None and made.high < 0

    def _gap(self, one: Found, known: Mapping[int, str] | range) -> Gap | None:
        """The slice beside the rest, without the rows that are known; None: too few rows."""
        inside = set(one.rows)
        others = [at for at in range(len(self.rows)) if at not in inside and at not in known]
        rest = self._found(one.cut, one.metric, others)
        enough = rest is not None and self._enough(one.score) and self._enough(rest.score)
        return gap(one.score, rest.score) if rest is not None and enough else None

    def _against_rules(self, one: Found) -> tuple[bool, str]:
        shown = self._scale(one).interval(one.score)
        mine = [r for r in self.rules if r.metric == one.metric and r.slice in (None, one.cut.name)]
        broken = [rule for rule in mine if rule.holds(shown.high)]
        if broken:
            named = " and ".join(f"`{rule.text}`" for rule in broken)
            return True, f"weak, {named} holds of the whole interval"
        low = [rule for rule in mine if rule.holds(shown.mean)]
        if low:
            return False, f"not surely weak: `{low[0].text}` holds of the mean, not of the interval"
        return False, f"not weak by `{mine[0].text}`"

    # -- in words --------------------------------------------------------------------------------

    def _scale(self, one: Found) -> Scale:
        return LEVELS if one.metric in self.judged else UNIT

    def _slice(self, one: Found) -> Slice:
        shown = self._scale(one).interval(one.score)
        missing = len(one.rows) - len(one.places)
        lost = f" ({missing} without a score)" if missing else ""
        return Slice(
            by=one.cut.by,
            value=one.cut.value,
            metric=one.metric,
            found=shown,
            missing=missing,
            weak=one.weak,
            why=f"{one.cut.name}: {one.metric} {shown.mean:.2f} [{shown.low:.2f}, "
            f"{shown.high:.2f}] on {shown.n} rows in {shown.groups} groups{lost}: {one.why}",
            rows=[str(self.rows[at]["id"]) for at in one.rows],
            edge=dict(one.cut.edge) or None,
        )

    def _order(self, one: Found) -> tuple[bool, float, int, str, str]:
        kind = ORDER.index(one.cut.by)
        return not one.weak, one.score.mean, kind, one.cut.value, one.metric


def _against_rest(made: Gap | None, p: float | None, slices: int, scale: Scale) -> tuple[bool, str]:
    if made is None or p is None:
        return False, "the rest of the suite is too few rows to be compared with"
    wide = scale.high - scale.low
    apart = (
        f"{wide * made.mean:+.2f} [{wide * made.low:+.2f}, {wide * made.high:+.2f}] against the "
        f"other {made.rest.n} rows, p {p:.3f} corrected for {slices} slices of its kind"
    )
    if made.high < 0 and p < CONFIDENT:
        return True, f"weak, {apart}"
    return False, f"not surely below the rest, {apart}"
