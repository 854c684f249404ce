from __future__ import annotations

import io
from collections import Counter
from typing import Any

import pyarrow.parquet as pq

from nexa.core.records import DatasetBody, Draft
from nexa.core.store import Store
from nexa.data.filters.balance import REASON, BalanceSpec
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import sources_of
from nexa.lm.resolve import ModelFiles
from tests.data.build import content, record
from tests.data.conftest import WriteRows

ROWS = [
    *(record(i, domain="metals") for i in range(20)),
    *(record(i, domain="glasses") for i in range(20, 24)),
    *(record(i) for i in range(24, 30)),
]


def kept(draft: Draft[DatasetBody]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(
        io.BytesIO(content(draft, "train.parquet"))
    ).to_pylist()
    return rows


def balanced(
    write_rows: WriteRows, model: ModelFiles, store: Store, rows: list[Any], **options: Any
) -> Draft[DatasetBody]:
    spec = PrepareSpec(
        "rows", sources_of(write_rows(rows)), model, balance=BalanceSpec(**options), part_bytes=600
    )
    return prepare(spec, store=store)


def test_no_domain_has_more_rows_than_it_may(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    draft = balanced(write_rows, model, store, [*ROWS, ROWS[0]], ratio=2)
    assert draft.body.domains == {"glasses": 4, "metals": 8}
    assert draft.body.dropped == {"exact duplicate": 1, REASON: 12}
    assert Counter(row["domain"] for row in kept(draft))[None] == 6
    assert b"metals: 8 rows at most, drawn by their digests" in content(draft, "rejects.jsonl")


def test_the_same_rows_stay_in_another_order_and_without_their_neighbours(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    first = {row["row_id"] for row in kept(balanced(write_rows, model, store, ROWS, at_most=5))}
    again = balanced(write_rows, model, store, ROWS[::-1], at_most=5)
    assert {row["row_id"] for row in kept(again)} == first
    fewer = balanced(write_rows, model, store, ROWS[:19] + ROWS[20:], at_most=5)
    assert len(first - {row["row_id"] for row in kept(fewer)}) <= 1


def test_without_domains_every_row_stays(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    draft = balanced(write_rows, model, store, ROWS[24:], at_most=1)
    assert draft.body.dropped == {}
