"""What comes out is what rows in memory give, however the rows are cut, and on how many cores."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexa.core.records import DatasetBody, Draft
from nexa.core.store import Store
from nexa.data.engine import stager
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import named_sources, sources_of
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer
from tests.data import plain
from tests.data.build import content, contents, pair, record
from tests.data.conftest import WriteRows

EXAMPLES = Path(__file__).parents[2] / "examples" / "materials"


def lines(count: int, seed: int = 0) -> list[str]:
    """Rows of every fate: kept, copied, nearly copied, alike, grouped, refused, broken."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        asked, said = pair(draw.randrange(count))
        row: dict[str, Any] = {"prompt": asked, "completion": said}
        fate = draw.randrange(14)
        if fate == 0:
            row["prompt"] = f"{asked.upper()}!"
        elif fate == 1:
            row["prompt"] = f"{asked} or so one thinks"  # far from the threshold of a copy
        elif fate == 2:
            row["group"] = f"g{draw.randrange(6)}"
        elif fate == 3:
            row["id"] = f"i{draw.randrange(count)}"
        elif fate == 4 and draw.random() < 0.3:
            row["completion"] = "<|im_end|>"
        elif fate == 5:
            row |= {"domain": "metals", "source": "book", "quality_score": 0.5}
        made.append(json.dumps(row))
        if fate == 6:
            made.append(draw.choice(["", "{", "[1]", '{"prompt": "a"}', "  "]))
    return made


LONG = json.dumps({"prompt": "long " * 300, "completion": "x"})


def told(draft: Draft[DatasetBody]) -> tuple[Any, Any, Any]:
    """Rows kept and left out, as `plain.Prepared` has them."""
    rows = {}
    for split in draft.body.splits:
        table = pq.read_table(io.BytesIO(content(draft, f"{split}.parquet")))
        rows |= {row["origin"]: (row["origin"], split, row["cluster"]) for row in table.to_pylist()}
    kept = [json.loads(line) for line in content(draft, "lineage.jsonl").splitlines()]
    gone = [json.loads(line) for line in content(draft, "rejects.jsonl").splitlines()]
    return (
        [rows[line["origin"]] for line in kept],
        [(r["file"], r["line"], r["reason"], r["detail"]) for r in gone],
        draft.body.length_quantiles,
    )


def as_told(found: plain.Prepared) -> tuple[Any, Any, Any]:
    return found.kept, found.rejects, found.quantiles


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [{"eval_fraction": 0.3}, {"only_split": "eval"}])
def test_rows_come_out_as_those_of_rows_in_memory(
    write_rows: WriteRows, model: ModelFiles, store: Store, seed: int, options: dict[str, Any]
) -> None:
    made = [*lines(300, seed), LONG]
    for number in range(3):
        path = write_rows(made[number::3], f"d/{number}.jsonl").parent
    sources = sources_of(path)
    template = ChatTemplate(load_tokenizer(model))
    draft = prepare(PrepareSpec("x", sources, model, **options), store=store)
    expected = plain.prepared(
        sources,
        template,
        eval_fraction=options.get("eval_fraction", 0),
        only=options.get("only_split"),
    )
    assert told(draft) == as_told(expected)
    assert len({reason for _, _, reason, _ in expected.rejects}) >= 4


def test_the_examples_come_out_as_they_always_did(model: ModelFiles, store: Store) -> None:
    template = ChatTemplate(load_tokenizer(model))
    for name in ("train", "pool", "eval"):
        sources = sources_of(EXAMPLES / f"{name}.jsonl")
        spec = PrepareSpec("x", sources, model, eval_fraction=0.1)
        expected = plain.prepared(sources, template, eval_fraction=0.1)
        assert told(prepare(spec, store=store)) == as_told(expected)
        assert expected.rejects == []


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(300, 12_000),
    st.integers(1, 40),
    st.integers(0, 10),
    st.booleans(),
)
def test_no_cut_changes_anything(
    write_rows: WriteRows,
    model: ModelFiles,
    store: Store,
    part_bytes: int,
    batch_rows: int,
    seed: int,
    ends: bool,
) -> None:
    path = write_rows(lines(40, seed))
    if not ends:
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
    spec = PrepareSpec("x", sources_of(path), model, eval_fraction=0.3)
    whole = prepare(spec, store=store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stager, "BATCH_ROWS", batch_rows)
        cut = prepare(replace(spec, part_bytes=part_bytes), store=store)
    assert contents(cut) == contents(whole)
    assert cut.body == whole.body


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 60), min_size=1, max_size=4), st.integers(0, 10))
def test_rows_of_many_files_are_those_of_one(
    write_rows: WriteRows, model: ModelFiles, store: Store, cuts: list[int], seed: int
) -> None:
    made = lines(50, seed)
    one = PrepareSpec("x", sources_of(write_rows(made)), model, eval_fraction=0.3)
    at = sorted({0, len(made), *cuts})
    pieces = [made[a:b] for a, b in pairwise(at) if any(map(str.strip, made[a:b]))]
    paths = [write_rows(rows, f"{n}.jsonl") for n, rows in enumerate(pieces)]
    try:
        many = prepare(replace(one, sources=named_sources(paths), format="completion"), store=store)
    finally:
        for path in paths:
            path.unlink()
    whole = prepare(one, store=store)
    assert many.body.splits == whole.body.splits
    assert many.body.dropped == whole.body.dropped
    assert many.body.content_sha256 == whole.body.content_sha256


def test_processes_give_what_this_one_gives(
    write_rows: WriteRows, model: ModelFiles, store: Store, tmp_path: Path
) -> None:
    write_rows(lines(120), "d/a.jsonl")
    write_rows([record(i) for i in range(5)], "d/b.jsonl")
    (tmp_path / "d" / "c.csv").write_text("question,answer\nWhich?,This.\n")
    spec = PrepareSpec("x", sources_of(tmp_path / "d"), model, eval_fraction=0.3, workers=0)
    here = prepare(spec, store=store)
    there = prepare(replace(spec, workers=2, part_bytes=4000), store=store)
    assert contents(there) == contents(here)
    assert there.body == here.body
    assert there.body.format == "completion, record, question-answer"
