"""Copies go, records that differ in a number stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nexa.core.near.corpus import Corpus, ShingleWriter
from nexa.data.filters.duplicates import drop_exact, drop_near
from nexa.data.keys import keys_of
from nexa.data.rows import Row
from tests.data import plain
from tests.data.build import pair, row


def exact(rows: Sequence[Row], settled: int = 0) -> list[tuple[int, str, int]]:
    copies, claims = drop_exact(
        keys_of([row.duplicate_key for row in rows]),
        keys_of([row.row_id for row in rows]),
        settled=settled,
    )
    found = [(r, "exact duplicate", o) for r, o in zip(copies.rows, copies.others, strict=True)]
    found += [(r, "id used twice", o) for r, o in zip(claims.rows, claims.others, strict=True)]
    return sorted(found)


def near(rows: Sequence[Row], folder: Path, settled: int = 0) -> list[tuple[int, int]]:
    with ShingleWriter(folder / "x.shingles") as file:
        file.add([row.example for row in rows])
    corpus = Corpus([folder / "x.shingles"], folder)
    found = drop_near(corpus, np.ones(len(rows), bool), settled=settled)
    return list(zip(found.rows.tolist(), found.others.tolist(), strict=True))


def test_the_first_of_exact_copies_stays() -> None:
    rows = [
        row("What is  it?", "Fe", 1),
        row("What is\nit?", "Fe ", 2),
        row("What is it?", "Co", 3),
    ]
    assert exact(rows) == [(1, "exact duplicate", 0)]


def test_an_id_is_one_rows_own() -> None:
    rows = [row("a", "b", 1, id="x"), row("c", "d", 2, id="x"), row("a", "b", 3, id="y")]
    assert exact(rows) == [(1, "id used twice", 0), (2, "exact duplicate", 0)]


def test_a_row_that_claimed_an_id_is_no_row_to_be_copied() -> None:
    rows = [row("a", "b", 1, id="x"), row("c", "d", 2, id="x"), row("c", "d", 3, id="y")]
    assert exact(rows) == [(1, "id used twice", 0)]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 5)), max_size=25),
    st.integers(0, 4),
)
def test_rows_as_numbers_are_rows_as_texts(
    made: list[tuple[int, int | None]], settled: int
) -> None:
    rows = [
        row(f"q{text}", "a", n, **({} if id_ is None else {"id": f"i{id_}"}))
        for n, (text, id_) in enumerate(made)
    ]
    assert exact(rows, settled) == plain.exact(rows, settled)


def test_another_case_or_punctuation_is_a_near_copy(tmp_path: Path) -> None:
    asked, said = pair(1)
    others = [row(*pair(seed), seed) for seed in range(2, 20)]
    rows = [row(asked, said, 1), *others, row(f"{asked.upper()}!", said, 20)]
    assert near(rows, tmp_path) == [(19, 0)]
    assert near(rows, tmp_path, settled=20) == []


def test_rows_of_one_template_all_stay(tmp_path: Path) -> None:
    def text(k: int) -> str:
        return f"In this note we look at sample {k} and find the value {k * 7.5}. Give it as JSON."

    rows = [row(text(k), f'{{"value": {k * 7.5}}}', k) for k in range(50)]
    assert near(rows, tmp_path) == []
