"""Who stands where: one board a suite and seal, ties, and what quality costs.

A seal is the digest of how a score was made. Scores of different seals are never ranked together,
but for models of an API: they stand beside the local ones of their ruler (`nexa.core.seals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from nexa.core.errors import EvalError
from nexa.core.records import Interval
from nexa.ui.leaderboard import Entry

Parts = Mapping[str, str]
"""What a seal is a digest of: name of a part -> its value, as told to people."""
Paired = Callable[[Entry, Entry], Interval | None]
"""The second minus the first on the same rows; None where the rows are not here."""
Axis = Literal["cost_usd_per_1000_prompts", "latency_s_p50"]

SEAL_SHOWN = 16
VALUE_SHOWN = 40


@dataclass(frozen=True)
class Placed:
    """An entry and its rank. Models of one band cannot be told apart, and share the rank."""

    entry: Entry
    rank: int
    tied_by: Literal["", "paired difference", "overlap of intervals"] = ""
    """How it was found that it is no worse than the first of its band; "" is the first itself."""
    behind: Interval | None = None
    """It minus the first of its band, or minus the first of the band above; None: not paired."""


@dataclass(frozen=True)
class Board:
    """The models of one suite and seal by one metric, best first; contaminated ones apart."""

    suite: str
    prompts_sha256: str | None
    seal: str
    metric: str
    ranked: tuple[Placed, ...]
    apart: tuple[Entry, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All of them, the ranked ones first."""
        return (*(placed.entry for placed in self.ranked), *self.apart)


@dataclass(frozen=True)
class Dominated:
    """A model, and those that are no worse in either respect and better in one."""

    entry: Entry
    by: tuple[Entry, ...]


@dataclass(frozen=True)
class Front:
    """Quality against what it costs: who is on the Pareto front, who is not and why."""

    axis: Axis
    best: tuple[Entry, ...]
    dominated: tuple[Dominated, ...]
    unknown: tuple[Entry, ...]
    """Whose cost or latency nobody knows: unknown is not zero."""


def boards(
    entries: Iterable[Entry], *, metric: str | None = None, paired: Paired | None = None
) -> list[Board]:
    """One board for each suite and seal: by the primary metric, or by the one that is named."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.metric == metric or (metric is None and entry.primary):
            groups.setdefault((_suite(entry), entry.metric), []).append(entry)
    alike = (members for group in groups.values() for members in _alike(group))
    made = [_board(members, paired) for members in alike]
    return sorted(made, key=lambda board: (board.suite, board.metric, board.seal))


def rank(entries: Sequence[Entry], parts: Mapping[str, Parts] | None = None) -> list[Entry]:
    """Entries of one seal, suite and metric, best first.

    Args:
        entries: in any order.
        parts: seal -> what it is a digest of, for those whose records are here; the message then
            says what differs.

    Raises:
        EvalError: they were scored in different ways, on different rows, or are of different
            metrics.
    """
    for name, of in (("metric", _metric), ("suite", _suite)):
        if len(kinds := sorted({of(entry) for entry in entries})) > 1:
            raise _mixed(name, kinds)
    for one, other in combinations(entries, 2):
        if not _meet(one, other):
            raise _mixed("seal", seals := [one.seal, other.seal], seals_differ(seals, parts or {}))
    return sorted(entries, key=lambda entry: (-entry.mean, entry.model, entry.model_digest))


def seals_differ(seals: Sequence[str], parts: Mapping[str, Parts]) -> str:
    """In what the seals differ, in words; "" where not all of their records are here."""
    known = [parts[seal] for seal in seals if seal in parts]
    if len(known) < len(seals) or len(known) < 2:
        return ""
    names = dict.fromkeys(name for one in known for name in one)
    told = [
        f"{name} ({' | '.join(one.get(name, 'none')[:VALUE_SHOWN] for one in known)})"
        for name in names
        if len({one.get(name) for one in known}) > 1
    ]
    return "; ".join(told) or "a part that no record names differs, such as a metric's version"


def front(board: Board, axis: Axis) -> Front:
    """The Pareto front of a board: means against means, the contaminated left out."""
    known: list[tuple[Entry, float]] = []
    unknown: list[Entry] = []
    for entry in (placed.entry for placed in board.ranked):
        value = getattr(entry, axis)
        if value is None:
            unknown.append(entry)
        else:
            known.append((entry, value))
    by = {one[0].key: tuple(o[0] for o in known if _dominates(o, one)) for one in known}
    return Front(
        axis=axis,
        best=tuple(entry for entry, _ in known if not by[entry.key]),
        dominated=tuple(Dominated(e, by[e.key]) for e, _ in known if by[e.key]),
        unknown=tuple(unknown),
    )


def _mixed(name: str, kinds: Sequence[str], differ: str = "") -> EvalError:
    told = ", ".join(kind[:SEAL_SHOWN] for kind in kinds)
    return EvalError(
        f"scores of {len(kinds)} different {name}s cannot be ranked together",
        found=f"{told}: {differ}" if differ else told,
        fix="rank each by itself: `nexa leaderboard` shows one board a seal",
    )


def _meet(one: Entry, other: Entry) -> bool:
    """As `nexa.core.seals.meet`, of entries."""
    same_ruler = one.ruler is not None and one.ruler == other.ruler
    return one.seal == other.seal or (same_ruler and (one.remote or other.remote))


def _alike(entries: Sequence[Entry]) -> Iterable[list[Entry]]:
    """Entries of a suite and metric, by who may stand together.

    Each local seal with the models of an API under its ruler; those by themselves where no local
    model is under theirs.
    """
    local: dict[str, list[Entry]] = {}
    for entry in entries:
        if not entry.remote:
            local.setdefault(entry.seal, []).append(entry)
    remote = [entry for entry in entries if entry.remote]
    alone = [r for r in remote if not any(_meet(r, group[0]) for group in local.values())]
    for group in local.values():
        yield [*group, *(entry for entry in remote if _meet(entry, group[0]))]
    by_ruler: dict[str, list[Entry]] = {}
    for entry in alone:
        by_ruler.setdefault(entry.ruler or entry.seal, []).append(entry)
    yield from by_ruler.values()


def _board(entries: Sequence[Entry], paired: Paired | None) -> Board:
    first = entries[0]
    clean = rank([entry for entry in entries if not entry.contaminated])
    leaked = rank([entry for entry in entries if entry.contaminated])
    return Board(
        suite=first.suite,
        prompts_sha256=first.prompts_sha256,
        seal=first.seal,
        metric=first.metric,
        ranked=tuple(_placed(clean, paired or _not_paired)),
        apart=tuple(leaked),
    )


def _placed(ranked: Sequence[Entry], paired: Paired) -> Iterable[Placed]:
    """Ranks: whoever cannot be told from the first of a band is in it."""
    leader, rank_of_band = None, 0
    for place, entry in enumerate(ranked, 1):
        if leader is None:
            leader, rank_of_band = entry, 1
            yield Placed(entry, 1)
            continue
        behind = paired(leader, entry)
        tied = entry.high >= leader.low if behind is None else behind.low <= 0 <= behind.high
        if tied:
            how: Literal["paired difference", "overlap of intervals"]
            how = "overlap of intervals" if behind is None else "paired difference"
            yield Placed(entry, rank_of_band, how, behind)
        else:
            leader, rank_of_band = entry, place
            yield Placed(entry, place, "", behind)


def _not_paired(_: Entry, __: Entry) -> None:
    return None


def _dominates(one: tuple[Entry, float], other: tuple[Entry, float]) -> bool:
    """Whether `one` is no worse in quality and cost, and better in one of them."""
    (a, cost_a), (b, cost_b) = one, other
    return a.mean >= b.mean and cost_a <= cost_b and (a.mean > b.mean or cost_a < cost_b)


def _metric(entry: Entry) -> str:
    return entry.metric


def _suite(entry: Entry) -> str:
    return entry.prompts_sha256 or entry.suite
