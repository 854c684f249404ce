"""From files to a dataset: no row is lost in silence, none leaks, none moves."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa.core.errors import DataError, IntegrityError, TemplateError
from nexa.core.identity import fingerprint, sha256_bytes
from nexa.core.records import Artifact, DatasetBody, Draft, SuiteBody
from nexa.core.store import Store
from nexa.data.engine import stager
from nexa.data.engine.staged import Staged
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import sources_of
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer
from tests.data.build import content, contents, pair, record
from tests.data.conftest import WriteRows

EXAMPLES = Path(__file__).parents[2] / "examples" / "materials"


def spec(path: Path, model: ModelFiles, **options: Any) -> PrepareSpec:
    return PrepareSpec("materials", sources_of(path), model, **options)


def table(draft: Draft[DatasetBody], split: str = "train") -> list[dict[str, Any]]:
    made = content(draft, f"{split}.parquet")
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(made)).to_pylist()
    return rows


def lines(draft: Draft[DatasetBody], name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(draft, name).splitlines()]


def frozen(store: Store, rows: list[dict[str, Any]]) -> Artifact[SuiteBody]:
    """A suite as the eval layer freezes it."""
    body = SuiteBody(
        task="json_record",
        rows=len(rows),
        groups=len(rows),
        domains={},
        metrics=["exact"],
        primary="exact",
        max_new_tokens=8,
    )
    prompts = "".join(json.dumps(row) + "\n" for row in rows).encode()
    draft = Draft("suite", "s", body, {"prompts.jsonl": prompts})
    return store.seal(draft, step={"name": "freeze", "version": 1}, fingerprint="0" * 64, inputs={})


def test_rows_become_a_dataset_with_lineage(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    rows = [record(i, domain="ab"[i % 2], group=f"g{i}", source="human") for i in range(20)]
    path = write_rows(rows)
    draft = prepare(spec(path, model), store=store)
    body = draft.body
    assert (draft.kind, draft.name, body.format) == ("dataset", "materials", "record")
    assert body.sources == {"rows.jsonl": sha256_bytes(path.read_bytes())}
    assert (body.rows_read, body.dropped, body.splits["train"].rows) == (20, {}, 20)
    assert body.domains == {"a": 10, "b": 10}
    found = table(draft)
    assert found[3]["messages"] == [
        {"role": "user", "content": f"{pair(3)[0]}\n\nWhich?"},
        {"role": "assistant", "content": json.dumps({"n": pair(3)[1]})},
    ]
    assert [row["origin"] for row in found] == [f"rows.jsonl:{n}" for n in range(1, 21)]
    raw = path.read_bytes().splitlines()
    assert [line["sha256"] for line in lines(draft, "lineage.jsonl")] == [
        sha256_bytes(line) for line in raw
    ]
    ids = sorted(row["row_id"] for row in found)
    assert body.splits["train"].digest == sha256_bytes("\n".join(ids).encode())


def test_lengths_are_those_of_the_models_own_template(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    draft = prepare(spec(write_rows([record(i) for i in range(20)]), model), store=store)
    template = ChatTemplate(load_tokenizer(model))
    lengths = sorted(len(template.render(row["messages"]).ids) for row in table(draft))
    assert draft.body.length_quantiles["max"] == lengths[-1]
    assert draft.body.length_quantiles["p50"] == lengths[9]
    assert draft.body.max_length == -(-lengths[-1] // 64) * 64
    assert draft.body.template_sha256 == template.sha256


def test_every_row_is_kept_or_counted(
    write_rows: WriteRows, model: ModelFiles, store: Store, notes: list[str]
) -> None:
    good = [record(i) for i in range(120)]
    asked, said = pair(7)
    bad = [
        "{",
        {"promt": "q", "target_answer": "x"},
        good[3],
        {"prompt": f"{asked.upper()}\n\nWhich", "target_answer": {"n": said}},
        {"prompt": "say <|im_end|>", "target_answer": "x"},
        {"prompt": "long " * 300, "target_answer": "x"},
    ]
    draft = prepare(spec(write_rows([*good[:100], *bad, *good[100:]]), model), store=store)
    body = draft.body
    assert body.rows_read == 126
    assert body.dropped == {
        "exact duplicate": 1,
        "malformed": 2,
        "near-duplicate": 1,
        "refused by the chat template": 1,
        "too long": 1,
    }
    assert body.rows_read == body.splits["train"].rows + sum(body.dropped.values())
    rejects = lines(draft, "rejects.jsonl")
    assert [reject["line"] for reject in rejects] == list(range(101, 107))
    assert rejects[1]["detail"].startswith("line 102: key 'promt' - did you mean 'prompt'?")
    assert rejects[2]["detail"] == "the same as rows.jsonl:4"
    assert rejects[3]["detail"] == "nearly the same as rows.jsonl:8"
    assert "6 of 126 rows left out: exact duplicate 1, malformed 2" in notes[-1]


def test_a_mistyped_key_is_named_with_its_line(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    rows: list[dict[str, Any]] = []
    for i in range(320):
        asked, said = pair(i)
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        rows.append({"msgs" if i == 316 else "messages": turns})
    draft = prepare(spec(write_rows(rows), model), store=store)
    (reject,) = lines(draft, "rejects.jsonl")
    assert reject["detail"].startswith("line 317: key 'msgs' - did you mean 'messages'? Accepted")
    assert draft.body.splits["train"].rows == 319


def test_near_duplicates_stay_when_they_are_wanted(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    asked, said = pair(7)
    twin = {"prompt": f"{asked.upper()}\n\nWhich", "target_answer": {"n": said}}
    path = write_rows([*[record(i) for i in range(30)], twin])
    kept = prepare(spec(path, model, near_duplicates="keep"), store=store)
    rows = table(kept)
    assert len(rows) == 31
    assert rows[30]["cluster"] == rows[7]["row_id"]


def test_the_same_files_make_the_same_bytes(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    rows = [record(i) for i in range(30)]
    one = prepare(spec(write_rows(rows, "a/x.jsonl"), model, eval_fraction=0.3), store=store)
    two = prepare(spec(write_rows(rows, "b/x.jsonl"), model, eval_fraction=0.3), store=store)
    assert contents(one) == contents(two)
    assert one.body == two.body
    recipes = [
        spec(path, model) for path in (write_rows(rows, "c/x.jsonl"), write_rows(rows, "d/x.jsonl"))
    ]
    assert fingerprint("prepare", 1, recipes[0], {}) == fingerprint("prepare", 1, recipes[1], {})


def test_new_rows_never_move_old_ones(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    old = [record(i) for i in range(60)]
    new = [record(i) for i in range(1000, 1060)]

    def sides(rows: list[dict[str, Any]]) -> dict[str, str]:
        draft = prepare(spec(write_rows(rows), model, eval_fraction=0.25), store=store)
        return {row["row_id"]: split for split in ("train", "eval") for row in table(draft, split)}

    before = sides(old)
    after = sides([*new[:30], *old, *new[30:]])
    assert set(before.values()) == {"train", "eval"}
    assert {row_id: after[row_id] for row_id in before} == before


def test_a_file_can_be_one_split(write_rows: WriteRows, model: ModelFiles, store: Store) -> None:
    path = write_rows([record(i) for i in range(5)])
    draft = prepare(spec(path, model, only_split="eval"), store=store)
    assert list(draft.body.splits) == ["eval"]
    assert len(table(draft, "eval")) == 5
    assert "train.parquet" not in draft.files


def test_rows_that_leak_the_suite_are_left_out(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    rows = [record(i) for i in range(40)]
    prompts = [
        {
            "id": f"e{i}",
            "group": "g",
            "domain": "",
            "messages": [{"role": "user", "content": f"{pair(i)[0]}\n\nWhich?"}],
            "target": {"n": pair(i)[1]},
        }
        for i in (5, 900)
    ]
    suite = frozen(store, prompts)
    draft = prepare(spec(write_rows(rows), model), suite=suite, store=store)
    assert draft.body.dropped == {"leaks a held-out row": 1}
    (reject,) = lines(draft, "rejects.jsonl")
    assert reject["line"] == 6
    assert reject["detail"] == "same prompt (1.00) of the held-out row e5"


def test_files_of_several_shapes_are_read_each_by_its_own(
    write_rows: WriteRows, model: ModelFiles, store: Store, notes: list[str]
) -> None:
    chat = [
        {
            "messages": [
                {"role": "user", "content": pair(i)[0]},
                {"role": "assistant", "content": "a"},
            ]
        }
        for i in range(3)
    ]
    write_rows(chat, "d/b.jsonl")
    write_rows(["{}"], "d/.hidden.jsonl")
    write_rows([record(20)], "d/c.jsonl")
    folder = write_rows([record(i) for i in range(10, 13)], "d/a.jsonl").parent
    draft = prepare(spec(folder, model), store=store)
    assert draft.body.format == "record, messages"
    assert notes == [
        "a.jsonl is read as 'record': 3 of the first 3 rows have the keys prompt, target_answer",
        "b.jsonl is read as 'messages': 3 of the first 3 rows have the keys messages",
    ]
    assert [row["origin"] for row in table(draft)] == [
        *(f"{name}.jsonl:{n}" for name in "ab" for n in (1, 2, 3)),
        "c.jsonl:1",
    ]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"eval_fraction": 1.0}, "the held-out share"),
        ({"format": "record_s"}, "there is no format 'record_s'"),
        ({"sources": ()}, "sources of different names"),
        ({"max_length": 4096}, "more than the model has positions for"),
        ({"max_length": 16}, "5 of 5 rows are longer than 16 tokens"),
        ({"eval_fraction": 1 - 1e-9}, "the split 'train' is empty"),
        ({"format": "messages"}, "no row is left of 5: malformed 5"),
    ],
)
def test_what_cannot_be_made_says_why(
    write_rows: WriteRows, model: ModelFiles, store: Store, options: dict[str, Any], what: str
) -> None:
    made = replace(spec(write_rows([record(i) for i in range(5)]), model), **options)
    with pytest.raises(DataError, match=what):
        prepare(made, store=store)


def test_a_file_without_a_good_row_names_the_first_ones(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    path = write_rows([{"prompt": "q", "completion": i} for i in range(9)])
    with pytest.raises(DataError, match="no row is left of 9") as caught:
        prepare(spec(path, model), store=store)
    assert "rows.jsonl:1: line 1: 'completion' is a number" in str(caught.value.found)


def test_a_training_file_that_is_the_eval_file_leaves_nothing(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    prompt = {"role": "user", "content": f"{pair(1)[0]}\n\nWhich?"}
    suite = frozen(store, [{"id": "e", "group": "g", "messages": [prompt], "target": "x"}])
    with pytest.raises(DataError, match="leaks a held-out row 1"):
        prepare(spec(write_rows([record(1)]), model), suite=suite, store=store)


def test_a_template_that_takes_no_row_is_the_error(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    path = write_rows([{"prompt": "<|im_end|>", "completion": "a"}])
    with pytest.raises(TemplateError, match="holds the end-of-turn token"):
        prepare(spec(path, model), store=store)


def test_a_row_between_both_sides_is_left_out_and_says_why(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    rows = [record(i, id=f"r{i}") for i in range(40)]
    first = prepare(spec(write_rows(rows), model, eval_fraction=0.3), store=store)
    (train, *_), (held, *_) = (table(first, split) for split in ("train", "eval"))
    torn = record(int(held["row_id"][1:]), id="torn", group=train["group"])
    torn["context"] += " and 17 more"
    draft = prepare(spec(write_rows([*rows, torn]), model, eval_fraction=0.3), store=store)
    assert draft.body.dropped == {"alike to both sides of the split": 1}
    (reject,) = lines(draft, "rejects.jsonl")
    assert reject["detail"] == f"alike to {held['origin']}; group {train['group']}"


def test_rows_that_are_lost_on_the_way_are_an_error(
    write_rows: WriteRows, model: ModelFiles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Staged, "read", 6)
    with pytest.raises(IntegrityError, match="rows were lost") as caught:
        prepare(spec(write_rows([record(i) for i in range(5)]), model), store=store)
    assert caught.value.found == "6 read, 5 kept and 0 left out"


def test_the_first_rows_that_are_left_out_are_shown_wherever_they_lie(
    write_rows: WriteRows, model: ModelFiles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stager, "BATCH_ROWS", 2)
    prompts = [{"role": "user", "content": f"{pair(i)[0]}\n\nWhich?"} for i in range(5)]
    suite = frozen(
        store,
        [
            {"id": f"e{i}", "group": "g", "messages": [prompt], "target": "x"}
            for i, prompt in enumerate(prompts)
        ],
    )
    path = write_rows([record(i) for i in range(5)])
    with pytest.raises(DataError, match="leaks a held-out row 5") as caught:
        prepare(spec(path, model), suite=suite, store=store)
    assert str(caught.value.found).splitlines() == [
        f"rows.jsonl:{i + 1}: same prompt (1.00) of the held-out row e{i}" for i in range(3)
    ]


def test_scratch_is_empty_when_the_dataset_is_taken_and_when_there_is_none(
    write_rows: WriteRows, model: ModelFiles, store: Store, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    made = spec(write_rows([record(i) for i in range(5)]), model, scratch=scratch)
    draft = prepare(made, store=store)
    assert len(list(scratch.iterdir())) == 1
    store.seal(draft, step={"name": "x", "version": 1}, fingerprint="0" * 64, inputs={})
    del draft
    with pytest.raises(DataError):
        prepare(replace(made, max_length=16), store=store)
    assert list(scratch.iterdir()) == []


def test_the_examples_lose_no_row_and_leak_none(model: ModelFiles, store: Store) -> None:
    roomy = replace(model)
    held_out = prepare(spec(EXAMPLES / "eval.jsonl", roomy, only_split="eval"), store=store)
    assert held_out.body.dropped == {}
    prompts = [
        {
            "id": row["row_id"],
            "group": row["group"],
            "messages": row["messages"][:-1],
            "target": row["messages"][-1]["content"],
        }
        for row in table(held_out, "eval")
    ]
    suite = frozen(store, prompts)
    for name in ("train", "pool"):
        draft = prepare(spec(EXAMPLES / f"{name}.jsonl", roomy), suite=suite, store=store)
        assert draft.body.dropped == {}
    with pytest.raises(DataError, match=f"leaks a held-out row {len(prompts)}"):
        prepare(spec(EXAMPLES / "eval.jsonl", roomy), suite=suite, store=store)
