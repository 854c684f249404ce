"""Candidates become rows of a new version; what was there stays where it was."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa.core.errors import TemplateError
from nexa.core.records import Artifact, DatasetBody, Draft, SuiteBody
from nexa.core.store import Store
from nexa.data.merge import MergeSpec, NothingNew, merge
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import sources_of
from nexa.lm.resolve import ModelFiles
from tests.data.build import content, pair, record
from tests.data.conftest import WriteRows

Rows = list[dict[str, Any]]


def seal(store: Store, draft: Draft[Any], step: str = "prepare") -> Artifact[Any]:
    return store.seal(
        draft, step={"name": step, "version": 1}, fingerprint=f"{step:0>64}", inputs={}
    )


@pytest.fixture
def dataset(write_rows: WriteRows, model: ModelFiles, store: Store) -> Artifact[DatasetBody]:
    """Sixty rows: with ids and groups, with groups, with neither; a quarter of them held out."""
    made = [record(i, domain="old") for i in range(20)]
    made += [record(i, group=f"g{i % 5}", quality_score=0.5) for i in range(20, 40)]
    made += [record(i, id=f"r{i}", group=f"h{i % 7}", source="human") for i in range(40, 60)]
    path = write_rows([*made, "{"], "old.jsonl")
    spec = PrepareSpec("materials", sources_of(path), model, eval_fraction=0.25)
    return seal(store, prepare(spec, store=store))


@pytest.fixture
def candidates(write_rows: WriteRows, model: ModelFiles, store: Store) -> Any:
    def make(rows: list[Any], name: str = "new.jsonl") -> Artifact[DatasetBody]:
        path = write_rows(rows, f"c/{name}")
        spec = PrepareSpec("candidates", sources_of(path), model, only_split="train")
        return seal(store, prepare(spec, store=store), "candidates")

    return make


def sides(store: Store, files: Draft[Any] | Artifact[Any], folder: Path) -> dict[str, str]:
    found = {}
    for split in ("train", "eval"):
        made = files.files[f"{split}.parquet"]
        path = made if isinstance(made, Path) else store.blob(str(made))
        found |= dict.fromkeys(pq.read_table(path)["row_id"].to_pylist(), split)
    return found


def rejects(draft: Draft[Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(draft, "rejects.jsonl").splitlines()]


def placed(dataset: Artifact[DatasetBody], store: Store) -> Rows:
    """The rows of a dataset in the order of its lineage, each with its split."""
    rows: dict[str, dict[str, Any]] = {}
    for split in dataset.body.splits:
        table = pq.read_table(store.path(dataset, f"{split}.parquet"))
        rows |= {row["row_id"]: {**row, "split": split} for row in table.to_pylist()}
    lines = store.path(dataset, "lineage.jsonl").read_text().splitlines()
    return [rows[json.loads(line)["row_id"]] for line in lines]


def test_old_rows_are_written_as_they_were(
    dataset: Artifact[DatasetBody], candidates: Any, store: Store, model: ModelFiles
) -> None:
    new = candidates([record(1000)])
    draft = merge(MergeSpec(model), dataset=dataset, candidates=new, store=store)
    old = store.path(dataset, "lineage.jsonl").read_bytes()
    assert content(draft, "lineage.jsonl").startswith(old)
    assert content(draft, "eval.parquet") == store.path(dataset, "eval.parquet").read_bytes()
    before = pq.read_table(store.path(dataset, "train.parquet"))
    after = pq.read_table(io.BytesIO(content(draft, "train.parquet")))
    assert after.slice(0, len(before)).equals(before)


def test_old_rows_never_change_their_split(
    dataset: Artifact[DatasetBody], candidates: Any, store: Store, model: ModelFiles, tmp_path: Path
) -> None:
    new = candidates([record(i, domain="new") for i in range(1000, 1040)])
    draft = merge(MergeSpec(model), dataset=dataset, candidates=new, store=store)
    before, after = sides(store, dataset, tmp_path), sides(store, draft, tmp_path)
    assert {row: after[row] for row in before} == before
    assert {after[row] for row in after if row not in before} == {"train"}
    body = draft.body
    assert len(after) == 100
    assert (body.rows_read, body.dropped) == (101, {"malformed": 1})
    assert body.domains == {"new": 40, "old": 20}
    assert set(body.sources) == {"old.jsonl", "new.jsonl"}
    assert content(draft, "eval.parquet") == store.path(dataset, "eval.parquet").read_bytes()
    assert body.splits["eval"] == dataset.body.splits["eval"]
    kept = sum(split.rows for split in body.splits.values())
    assert body.rows_read == kept + sum(body.dropped.values())


def test_candidates_take_the_side_of_what_they_belong_to(
    dataset: Artifact[DatasetBody], candidates: Any, store: Store, model: ModelFiles, tmp_path: Path
) -> None:
    before = placed(dataset, store)
    held = next(row for row in before if row["split"] == "eval" and row["group"][0] in "gh")
    words = pair(3)[0].split()
    alone = next(
        i for i in range(20) if sides(store, dataset, tmp_path)[before[i]["row_id"]] == "eval"
    )
    near = record(alone)
    near["context"] += " and 17 more"
    new = candidates([record(2000, group=held["group"]), near, record(2001)])
    draft = merge(
        MergeSpec(model, near_duplicates="keep"), dataset=dataset, candidates=new, store=store
    )
    after = sides(store, draft, tmp_path)
    rows = placed(seal(store, draft, "merge_data"), store)[-3:]
    assert [row["split"] for row in rows] == ["eval", "eval", "train"]
    assert rows[1]["cluster"] == before[alone]["cluster"]
    assert len(after) == 63
    assert words


def test_copies_ids_and_leaks_are_left_out_with_the_row_they_meet(
    dataset: Artifact[DatasetBody], candidates: Any, store: Store, model: ModelFiles
) -> None:
    prompt = {"role": "user", "content": f"{pair(3000)[0]}\n\nWhich?"}
    body = SuiteBody(
        task="json_record", rows=1, groups=1, domains={}, metrics=["exact"], primary="exact",
        max_new_tokens=8,
    )  # fmt: skip
    line = {"id": "s1", "group": "g", "domain": "", "messages": [prompt], "target": {"n": "x"}}
    suite = seal(store, Draft("suite", "s", body, {"prompts.jsonl": json.dumps(line).encode()}))
    near = record(5)
    near["context"] = near["context"].upper()
    rows = [record(4), near, record(4000, id="r44"), record(3000), record(4001), "broken"]
    new = candidates(rows, "old.jsonl")
    draft = merge(MergeSpec(model), dataset=dataset, candidates=new, suite=suite, store=store)
    found = rejects(draft)
    name = next(source for source in draft.body.sources if source != "old.jsonl")
    assert name.endswith("/old.jsonl")
    assert [(r["file"], r["line"], r["reason"], r["detail"]) for r in found[1:]] == [
        (name, 6, "malformed", "line 6: broken JSON: Expecting value at column 1"),
        (name, 1, "exact duplicate", "the same as old.jsonl:5"),
        (name, 3, "id used twice", "id 'r44' is that of old.jsonl:45"),
        (name, 2, "near-duplicate", "nearly the same as old.jsonl:6"),
        (name, 4, "leaks a held-out row", "same prompt (1.00) of the held-out row s1"),
    ]
    assert draft.body.rows_read == 61 + 6
    assert sum(split.rows for split in draft.body.splits.values()) == 61
    assert sum(draft.body.dropped.values()) == 6


def test_candidates_that_add_nothing_make_no_version(
    dataset: Artifact[DatasetBody], candidates: Any, store: Store, model: ModelFiles
) -> None:
    new = candidates([record(1), record(2)])
    with pytest.raises(NothingNew, match="no candidate adds anything") as caught:
        merge(MergeSpec(model), dataset=dataset, candidates=new, store=store)
    assert caught.value.found == "exact duplicate 2"


def test_a_longer_row_raises_the_length(
    dataset: Artifact[DatasetBody], candidates: Any, store: Store, model: ModelFiles
) -> None:
    long = {"prompt": "word " * 80, "target_answer": "x"}
    draft = merge(MergeSpec(model), dataset=dataset, candidates=candidates([long]), store=store)
    assert draft.body.max_length > dataset.body.max_length
    assert draft.body.length_quantiles["max"] > dataset.body.length_quantiles["max"]
    assert draft.body.format == "record"


def test_a_dataset_of_another_template_is_refused(
    dataset: Artifact[DatasetBody], candidates: Any, store: Store, model: ModelFiles
) -> None:
    from dataclasses import replace

    other = replace(dataset, body=dataset.body.model_copy(update={"template_sha256": "ab" * 32}))
    with pytest.raises(TemplateError, match="prepared for another chat template"):
        merge(MergeSpec(model), dataset=other, candidates=candidates([record(9000)]), store=store)


HAZARD = "Mix bleach with ammonia, number"


@pytest.mark.parametrize("source", ["synthetic", "teacher: wise"])
def test_what_a_model_wrote_with_a_red_flag_is_never_merged_and_is_listed(
    dataset: Artifact[DatasetBody], candidates: Any, store: Store, model: ModelFiles, source: str
) -> None:
    new = candidates(
        [
            {**record(1000, source=source), "target_answer": f"{HAZARD} 7."},
            record(1001, source=source),
            {**record(1002, source="human"), "target_answer": f"{HAZARD} 8."},
        ]
    )

    draft = merge(MergeSpec(model), dataset=dataset, candidates=new, store=store)

    assert draft.body.dropped["red flag"] == 1
    [listed] = [line for line in rejects(draft) if line["reason"] == "red flag"]
    assert (listed["file"], listed["line"]) == ("new.jsonl", 1)
    assert listed["detail"].startswith("combination: 'Mix bleach with ammonia'")
    kept = pq.read_table(io.BytesIO(content(draft, "train.parquet")))["messages"].to_pylist()
    answers = [messages[-1]["content"] for messages in kept]
    assert [text for text in answers if HAZARD in text] == [f"{HAZARD} 8."]


def test_candidates_of_a_synthetic_record_are_a_models_whatever_their_rows_say(
    dataset: Artifact[DatasetBody], candidates: Any, store: Store, model: ModelFiles
) -> None:
    rows = [{**record(1000, source="human"), "target_answer": f"{HAZARD} 7."}, record(1001)]
    written = replace(candidates(rows), inputs={"synthetic": "0" * 64})

    draft = merge(MergeSpec(model), dataset=dataset, candidates=written, store=store)

    assert draft.body.dropped["red flag"] == 1
    assert draft.body.splits["train"].rows == dataset.body.splits["train"].rows + 1


def test_old_rows_stay_whatever_they_hold(
    write_rows: WriteRows, candidates: Any, store: Store, model: ModelFiles
) -> None:
    old = [{**record(1, source="synthetic"), "target_answer": f"{HAZARD} 1."}, record(2)]
    spec = PrepareSpec("mine", sources_of(write_rows(old)), model)
    mine = seal(store, prepare(spec, store=store))

    draft = merge(MergeSpec(model), dataset=mine, candidates=candidates([record(9)]), store=store)

    assert draft.body.splits["train"].rows == 3
