"""Adding rows moves none, and what belongs together stays together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nexa.core.near.corpus import Memberships
from nexa.core.overlap import memberships
from nexa.data.filters import split as splitting
from nexa.data.filters.split import SPLITS, TORN, Placing, draw
from nexa.data.keys import keys_of, numbered
from nexa.data.rows import Row
from tests.data import plain
from tests.data.build import pair, row

Groups = list[tuple[int, int | None]]


@dataclass(frozen=True)
class Placed:
    row: Row
    split: str
    head: Row


def place(
    rows: Sequence[Row],
    *,
    eval_fraction: float,
    only: str | None = None,
    settled: Sequence[str] = (),
) -> tuple[list[Placed], list[Row]]:
    """Rows with their splits and the first of their clusters, and those between both sides."""
    found = memberships([row.example.text for row in rows])
    heads = np.array([head for mine in found for head in mine], dtype=np.int64)
    alike = Memberships(np.cumsum([0, *map(len, found)]), heads)
    groups, _ = numbered(keys_of([row.group for row in rows]))
    before = np.array([SPLITS.index(split) for split in settled], dtype=np.int8)
    sides = splitting.place(
        Placing(
            alike,
            groups,
            np.array([draw(row) for row in rows]),
            eval_fraction,
            only,
            before if settled else None,
        )
    )
    placed = [
        Placed(row, SPLITS[side], rows[mine[0]])
        for row, side, mine in zip(rows, sides.tolist(), found, strict=True)
        if side >= 0
    ]
    return placed, [row for row, side in zip(rows, sides, strict=True) if side == TORN]


def rows(seeds: list[int]) -> list[Row]:
    return [row(*pair(seed), number + 1) for number, seed in enumerate(seeds)]


def sides(made: list[Row], fraction: float = 0.3) -> dict[str, str]:
    placed, _ = place(made, eval_fraction=fraction)
    return {item.row.row_id: item.split for item in placed}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 10**6), unique=True, min_size=1, max_size=30),
    st.lists(st.integers(10**6 + 1, 10**7), unique=True, max_size=30),
    st.randoms(),
)
def test_new_rows_never_move_old_ones(old: list[int], new: list[int], chance: Random) -> None:
    first_held_out = next(seed for seed in range(10**8, 10**9) if draw(row(*pair(seed))) < 0.3)
    before = sides(rows([*old, first_held_out]))
    mixed = [*old, *new, first_held_out]
    chance.shuffle(mixed)
    after = sides(rows(mixed))
    assert {row_id: after[row_id] for row_id in before} == before


def test_settled_rows_keep_their_place_and_bind_new_ones() -> None:
    old, new = rows([1, 2]), rows([3])
    alike = row(pair(1)[0], pair(1)[1] + " again", 4, id="like1")
    grouped = row(*pair(5), 5, id="in2", group=old[1].row_id)
    settled = ["eval", "train"]
    placed, rejects = place(
        [*old, *new, alike, grouped], eval_fraction=0.0, only="train", settled=settled
    )
    assert [item.split for item in placed] == ["eval", "train", "train", "eval", "train"]
    assert [item.head for item in placed] == [*old, *new, old[0], grouped]
    assert rejects == []
    torn = row(pair(1)[0], pair(1)[1] + " again", 6, id="torn", group=old[1].row_id)
    placed, rejects = place([*old, torn], eval_fraction=0.0, only="train", settled=settled)
    assert [row.line.number for row in rejects] == [6]


def test_settled_rows_that_are_alike_may_lie_on_both_sides() -> None:
    twins = [row(pair(1)[0], f"{pair(1)[1]} {word}", n, id=word) for n, word in enumerate("ab")]
    third = row(pair(1)[0], f"{pair(1)[1]} c", 3, id="c")
    settled = ["eval", "train"]
    placed, rejects = place([*twins, third], eval_fraction=0.0, only="train", settled=settled)
    assert [item.split for item in placed] == ["eval", "train"]
    assert [row.line.number for row in rejects] == [3]


def test_the_share_is_about_what_was_asked_for() -> None:
    held_out = list(sides(rows(list(range(1000))), 0.2).values()).count("eval")
    assert 160 < held_out < 240  # three standard deviations of 1,000 draws


def test_no_share_holds_nothing_out_and_a_single_split_takes_all() -> None:
    made = rows(list(range(50)))
    assert set(sides(made, 0.0).values()) == {"train"}
    placed, rejects = place(made, eval_fraction=0.0, only="eval")
    assert [item.split for item in placed] == ["eval"] * 50
    assert [item.row for item in placed] == made
    assert rejects == []


def test_rows_of_a_group_share_a_side() -> None:
    made = [row(*pair(seed), seed + 1, group=f"g{seed % 40}") for seed in range(200)]
    placed, _ = place(made, eval_fraction=0.3)
    by_group: dict[str, set[str]] = {}
    for item in placed:
        by_group.setdefault(item.row.group, set()).add(item.split)
    assert all(len(found) == 1 for found in by_group.values())
    assert set.union(*by_group.values()) == {"train", "eval"}


def test_near_duplicates_share_a_side_and_a_cluster() -> None:
    originals = rows(list(range(60)))
    copies = [
        row(pair(seed)[0] + " or so", pair(seed)[1], 100 + seed) for seed in reversed(range(60))
    ]
    drawn = ["eval" if draw(copy) < 0.3 else "train" for copy in copies]
    placed, rejects = place([*originals, *copies], eval_fraction=0.3)
    assert rejects == []
    split = {item.row.line.number: item.split for item in placed}
    head = {item.row.line.number: item.head for item in placed}
    for seed in range(60):
        assert split[100 + seed] == split[seed + 1]
        assert head[100 + seed] is head[seed + 1] is originals[seed]
    # the copies' own digests would have drawn another side for some
    assert drawn != [split[copy.line.number] for copy in copies]


def test_a_row_between_both_sides_is_left_out() -> None:
    made = rows(list(range(40)))
    held_out = next(r for r in made if draw(r) < 0.3)
    trained = next(r for r in made if draw(r) >= 0.3)
    torn = row(f"{held_out.example.prompt}!", held_out.example.answer, 99, group=trained.group)
    placed, rejects = place([*made, torn], eval_fraction=0.3)
    assert len(placed) == 40
    assert rejects == [torn]


def test_a_share_that_no_row_draws_takes_the_nearest_row_and_says_so(notes: list[str]) -> None:
    made = rows(list(range(30)))
    placed, _ = place(made, eval_fraction=1e-6)
    (held_out,) = [item.row for item in placed if item.split == "eval"]
    assert draw(held_out) == min(map(draw, made))
    assert notes == ["no row draws the held-out share 1e-06: the nearest is taken"]


def test_a_single_group_is_never_torn() -> None:
    made = [row(*pair(seed), seed + 1, group="all") for seed in range(10)]
    placed, _ = place(made, eval_fraction=1e-6)
    assert {item.split for item in placed} == {"train"}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, 4)), max_size=20),
    st.sampled_from([1e-9, 0.3, 0.6]),
    st.none() | st.sampled_from(SPLITS),
    st.lists(st.sampled_from(SPLITS), max_size=4),
)
def test_rows_as_numbers_are_placed_as_rows_as_texts(
    made: Groups, share: float, only: str | None, settled: list[str]
) -> None:
    rows = [
        row(pair(seed)[0] + " or so" * (n % 2), pair(seed)[1], n, id=f"r{n}", **labels)
        for n, (seed, group) in enumerate(made)
        for labels in [{} if group is None else {"group": f"g{group}"}]
    ]
    settled = settled[: len(rows)]
    before = [(split, rows[n].row_id) for n, split in enumerate(settled)]
    expected, torn = plain.place(rows, share, only, before)
    placed, rejects = place(rows, eval_fraction=share, only=only, settled=settled)
    assert [(p.row, p.split) for p in placed] == [(r, split) for r, split, _ in expected]
    assert [row.line for row in rejects] == [reject.line for reject in torn]
