from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa.core.errors import DataError
from nexa.core.identity import sha256_bytes
from nexa.core.records import Draft
from nexa.core.store import Store
from nexa.feedback.items import Item, suite_items, training_items
from tests.feedback import made


def test_a_suite_s_rows_keep_their_labels_and_structured_targets(store: Store) -> None:
    rows = made.prompts(1, domains=["letter"])
    rows[0] |= {"tags": ["short"], "labels": {"kind": "note", "empty": None}, "target": {"a": 1}}
    rows[0]["messages"].insert(0, {"role": "system", "content": "Be brief."})
    [item] = suite_items(made.suite(store, rows), store)
    assert item.tags == ("short", "kind:note")
    assert item.answer == '{"a": 1}'
    assert item.asked == made.asked("letter", 0)
    assert item.messages[-1] == {"role": "assistant", "content": '{"a": 1}'}


def test_a_row_without_a_group_is_its_own(store: Store) -> None:
    rows = made.prompts(1, domains=["letter"])
    del rows[0]["group"]
    suite = made.suite(store, [{**rows[0], "group": ""}])
    assert suite_items(suite, store)[0].group == rows[0]["id"]


def test_training_rows_are_those_of_the_split_train(store: Store) -> None:
    rows = made.training(2)
    dataset = made.dataset(store, rows, eval=made.training(1, first=50))
    items = training_items(dataset, store)
    assert [item.id for item in items] == [row["row_id"] for row in rows]
    assert items[0] == Item(
        id="t-furnace-1000",
        group="furnace-500",
        domain="furnace",
        before=({"role": "user", "content": made.asked("furnace", 1000)},),
        answer=made.answer("furnace", 1000),
    )
    assert items[0].content == (made.asked("furnace", 1000), made.answer("furnace", 1000))


def test_tags_of_a_dataset_are_read_where_it_has_them(store: Store) -> None:
    plain = made.dataset(store, made.training(1))
    sink = io.BytesIO()
    rows = [{**row, "tags": ["x"]} for row in made.training(1)]
    pq.write_table(pa.Table.from_pylist(rows), sink)
    files = {"train.parquet": sink.getvalue()}
    body = plain.body.model_copy(update={"content_sha256": sha256_bytes(files["train.parquet"])})
    tagged = made.seal(store, Draft("dataset", "tagged", body, files))
    assert {item.tags for item in training_items(tagged, store)} == {("x",)}


def test_a_dataset_without_training_rows_offers_none(store: Store) -> None:
    whole = made.dataset(store, made.training(1))
    body = whole.body.model_copy(update={"splits": {"eval": whole.body.splits["train"]}})
    held_out = made.seal(store, Draft("dataset", "held-out", body, {"eval.parquet": b""}))
    with pytest.raises(DataError, match="held-out rows are no one's candidates"):
        training_items(held_out, store)
