"""Before and after a round, slice by slice, on a suite that the weaknesses were not found on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from nexa.core.errors import EvalError
from nexa.core.records import Artifact, Comparison, ScoresBody, SuiteBody, WeaknessBody
from nexa.core.scoring import Row, derive_comparisons, read_rows
from nexa.core.statistics import holm
from nexa.core.store import Store
from nexa.feedback.items import suite_items
from nexa.feedback.slices import cuts_of, members

Named = tuple[str, Comparison]


class Compared(NamedTuple):
    """After minus before: on each weak slice, the weakest first, and on each other one."""

    targets: list[Named]
    others: list[Named]


def compared(
    weakness: Artifact[WeaknessBody],
    suite: Artifact[SuiteBody],
    before: Artifact[ScoresBody],
    after: Artifact[ScoresBody],
    *,
    left_out: Collection[str],
    primary: str,
    enough: tuple[int, int],
    store: Store,
) -> Compared:
    """Cut this suite as the other one was cut, and compare on every slice with rows enough.

    A weak slice is compared on the metric that it is weak in, any other on the primary one.
    `adjusted_p` of the targets is corrected (Holm) for all of them; slices of exactly the same
    rows count as one. `enough` are the least rows and groups.

    Raises:
        EvalError: the suites share a row, or before and after do not have the same rows.
    """
    _require_apart(weakness, suite, store)
    hidden = set(left_out)
    items = [item for item in suite_items(suite, store) if item.id not in hidden]
    cuts = cuts_of(weakness.body.slices)
    held = {
        name: frozenset(items[at].id for at in places)
        for name, places in members(cuts, items).items()
    }
    sides = _rows(before, store), _rows(after, store)
    wanted = dict.fromkeys(
        (f"{one.by}={one.value}", one.metric) for one in weakness.body.slices if one.weak
    )
    weak = {name for name, _ in wanted}
    rest = [(cut.name, primary) for cut in cuts if cut.name not in weak]
    targets, others = (
        [
            (name, one)
            for name, metric in pairs
            if (one := _compared(sides, held[name], metric, enough)) is not None
        ]
        for pairs in (wanted, rest)
    )
    return Compared(_corrected(targets, held), others)


def _require_apart(
    weakness: Artifact[WeaknessBody], suite: Artifact[SuiteBody], store: Store
) -> None:
    """Raises: EvalError: the suites have rows in common."""
    other: Artifact[SuiteBody] = store.by_digest(weakness.body.suite_digest)
    shared = {i.id for i in suite_items(suite, store)} & {i.id for i in suite_items(other, store)}
    if shared:
        raise EvalError(
            f"{suite.label} shares rows with {other.label}, where the weaknesses were found",
            found=", ".join(sorted(shared)[:3]),
            fix="freeze two suites, with part: analysis and part: acceptance",
        )


def _rows(scores: Artifact[ScoresBody], store: Store) -> list[Row]:
    return list(read_rows(store.path(scores, "scores.jsonl").read_bytes()))


def _compared(
    sides: tuple[Sequence[Row], Sequence[Row]],
    ids: frozenset[str],
    metric: str,
    enough: tuple[int, int],
) -> Comparison | None:
    """None: too few rows or groups that both sides have a score for."""
    before, after = ([row for row in rows if str(row["id"]) in ids] for rows in sides)
    if not before:
        return None
    rows, groups = enough
    found = derive_comparisons(before, after, [metric])
    told = [c for c in found if c.difference.n >= rows and c.difference.groups >= groups]
    return told[0] if told else None


def _corrected(targets: Sequence[Named], held: dict[str, frozenset[str]]) -> list[Named]:
    """The targets with p corrected for all that differ in their rows."""
    ps = {(one.metric, held[name]): one.p for name, one in targets if one.p is not None}
    adjusted = dict(zip(ps, holm(list(ps.values())), strict=True))
    return [
        (name, one.model_copy(update={"adjusted_p": adjusted.get((one.metric, held[name]))}))
        for name, one in targets
    ]
