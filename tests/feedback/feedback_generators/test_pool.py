from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa.core.errors import DataError, UsageError
from nexa.core.records import Artifact, DatasetBody, Draft
from nexa.core.store import Store
from nexa.data.merge import MergeSpec, merge
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import Source
from nexa.feedback.feedback_generators.pool import SelectSpec, select
from nexa.feedback.weakness_analysis import WeaknessSpec
from nexa.lm.resolve import ModelFiles, resolve
from nexa.orchestrate.runner import run_step
from tests.feedback import made


@pytest.fixture
def pool(store: Store) -> Artifact[DatasetBody]:
    return made.dataset(store, made.training(6), "pool")


def rows_of(draft: Draft[DatasetBody]) -> list[dict[str, Any]]:
    import io

    data = draft.files["train.parquet"]
    assert isinstance(data, bytes)
    found: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
    return found


def test_rows_of_weak_slices_are_taken_and_no_others(
    store: Store, pool: Artifact[DatasetBody]
) -> None:
    spec = SelectSpec(name="candidates", rows=4)
    draft = select(spec, weakness=made.weak(store), pool=pool, store=store)
    rows = rows_of(draft)
    assert [row["domain"] for row in rows] == ["furnace"] * 4
    # Three groups of two: each is there before any is there twice.
    assert len({row["group"] for row in rows}) == 3
    assert draft.body.splits["train"].rows == draft.body.rows_read == 4
    assert draft.body.domains == {"furnace": 4}
    lines = [json.loads(line) for line in draft.files["lineage.jsonl"].splitlines()]  # type: ignore[union-attr]
    assert [line["row_id"] for line in lines] == [row["row_id"] for row in rows]
    assert (draft.kind, draft.name) == ("dataset", "candidates")


def test_the_control_takes_any_rows(store: Store, pool: Artifact[DatasetBody]) -> None:
    spec = SelectSpec(name="control", rows=9, how="random")
    draft = select(spec, pool=pool, store=store)
    assert len({row["domain"] for row in rows_of(draft)}) == 3
    with_weak = select(spec, weakness=made.weak(store), pool=pool, store=store)
    assert rows_of(with_weak) == rows_of(draft)


def test_rows_that_were_trained_on_are_not_taken_again(
    store: Store, pool: Artifact[DatasetBody], notes: list[str]
) -> None:
    known = made.training(4)
    for row in known:  # the same rows under other names
        row["row_id"] = f"old-{row['row_id']}"
    exclude = made.dataset(store, known, "trained")
    spec = SelectSpec(name="candidates", rows=5)
    draft = select(spec, weakness=made.weak(store), pool=pool, exclude=exclude, store=store)
    assert [row["row_id"] for row in rows_of(draft)] == ["t-furnace-1004", "t-furnace-1005"]
    assert notes == ["2 of 5 rows are chosen: dataset/pool@v1 has no more"]


def test_a_pool_without_a_row_for_what_is_weak_says_so(store: Store, notes: list[str]) -> None:
    pool = made.dataset(store, made.training(3, domains=["letter"]), "pool")
    with pytest.raises(
        DataError, match="3 of 3 rows were not trained on yet, none of domain=furnace"
    ):
        select(SelectSpec(name="c"), weakness=made.weak(store), pool=pool, store=store)
    assert notes == ["the pool has no row of domain=furnace that was not trained on yet"]
    with pytest.raises(DataError, match="0 of 3 rows were not trained on yet\n"):
        select(SelectSpec(name="c", how="random"), pool=pool, exclude=pool, store=store)


def test_what_cannot_be_selected_is_refused(store: Store, pool: Artifact[DatasetBody]) -> None:
    with pytest.raises(UsageError, match="asks a teacher: its step is propose"):
        select(SelectSpec(name="c", how="teacher"), pool=pool, store=store)
    with pytest.raises(UsageError, match="no rows are asked for"):
        select(SelectSpec(name="c", rows=0), pool=pool, store=store)
    with pytest.raises(UsageError, match="no weakness"):
        select(SelectSpec(name="c"), pool=pool, store=store)
    strong = made.weak(store, score=made.right_but_for())
    with pytest.raises(UsageError, match="has no weak slice"):
        select(SelectSpec(name="c"), weakness=strong, pool=pool, store=store)


def test_what_was_selected_merges_as_candidates_do(
    store: Store, tiny_llama: Path, tmp_path: Path
) -> None:
    model = resolve(str(tiny_llama))

    def prepared(name: str, rows: list[dict[str, Any]]) -> Artifact[DatasetBody]:
        path = tmp_path / f"{name}.jsonl"
        told = [
            {
                "prompt": row["messages"][0]["content"],
                "completion": row["messages"][1]["content"],
                "domain": row["domain"],
                "group": row["group"],
            }
            for row in rows
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in told))
        spec = PrepareSpec(
            name, (Source.of(path),), _roomy(model), only_split="train", scratch=tmp_path
        )
        return made.seal(store, prepare(spec, store=store))

    trained = prepared("trained", made.training(6, domains=["letter"]))
    pool = prepared("pool", made.training(6, first=2000))
    draft = select(
        SelectSpec(name="candidates", rows=4),
        weakness=made.weak(store),
        pool=pool,
        exclude=trained,
        store=store,
    )
    chosen = made.seal(store, draft)
    merged = merge(
        MergeSpec(_roomy(model), scratch=tmp_path),
        dataset=trained,
        candidates=chosen,
        store=store,
    )
    assert merged.body.splits["train"].rows == 10
    assert merged.body.domains == {"furnace": 4, "letter": 6}


def _roomy(model: ModelFiles) -> ModelFiles:
    model.config["max_position_embeddings"] = 1 << 16
    return model


def test_the_runner_makes_weaknesses_and_candidates_once(
    store: Store, pool: Artifact[DatasetBody]
) -> None:
    rows = made.prompts(12)
    suite = made.suite(store, rows)
    scores = made.scores(store, suite, made.mark(rows, made.right_but_for(made.WEAK)))
    look = WeaknessSpec(name="weak", rules=("exact < 0.5",))
    for again in (False, True):
        given: dict[str, Any] = {"suite": suite, "scores": scores}
        weak, known = run_step("weakness", look, given, store=store)
        assert known is again
        given = {"weakness": weak, "pool": pool}
        candidates, known = run_step("select", SelectSpec(name="c", rows=3), given, store=store)
        assert known is again
        assert candidates.inputs == {"weakness": weak.digest, "pool": pool.digest}
