"""Written rows are prepared as any, and only those of the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import IntegrityError
from nexa.core.records import Artifact, Draft, SyntheticBody
from nexa.core.store import Store
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import Source
from nexa.data.synthetic import prepare_synthetic
from nexa.lm.resolve import ModelFiles
from nexa.lm.teaching import json_lines
from tests.data.build import content, pair

ROWS = [
    {
        "prompt": pair(n)[0],
        "completion": pair(n)[1],
        "source": "synthetic",
        "teacher": "wise",
        "parents": ["p"],
    }
    for n in range(6)
]


POISONED = [
    {**row, "completion": f"Mix bleach with ammonia, part {n}."} if n in (1, 4) else row
    for n, row in enumerate(ROWS)
]


@pytest.fixture
def synthetic(store: Store) -> Artifact[SyntheticBody]:
    return sealed(ROWS, store)


@pytest.fixture
def poisoned(store: Store) -> Artifact[SyntheticBody]:
    return sealed(POISONED, store)


def sealed(rows: list[dict[str, Any]], store: Store) -> Artifact[SyntheticBody]:
    body = SyntheticBody(
        method="distill",
        teacher="wise",
        identity={"model": "wise"},
        served=["wise"],
        templates={},
        sources={},
        seed=0,
        requested=6,
        answered=6,
        cached=0,
        failed=0,
        repaired=0,
        unparsable=0,
        rejected={},
        rows=6,
        input_tokens=1,
        output_tokens=1,
        cost_usd=None,
        price_source=None,
    )
    draft = Draft("synthetic", "written", body, {"rows.jsonl": json_lines(rows)})
    return store.seal(draft, step={"name": "x", "version": 1}, fingerprint="f" * 64, inputs={})


def spec_of(path: Path, model: ModelFiles, scratch: Path) -> PrepareSpec:
    return PrepareSpec("mine", (Source.of(path, "written.jsonl"),), model, scratch=scratch)


def test_rows_of_a_record_become_a_dataset(
    synthetic: Artifact[SyntheticBody],
    store: Store,
    model: ModelFiles,
    tmp_path: Path,
    notes: list[str],
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(store.path(synthetic, "rows.jsonl").read_bytes())
    draft = prepare_synthetic(spec_of(path, model, tmp_path), synthetic=synthetic, store=store)
    assert draft.body.splits["train"].rows == 6
    assert not any("not used" in note for note in notes)


def test_answers_with_red_flags_never_arrive_and_all_are_listed(
    store: Store, model: ModelFiles, tmp_path: Path, poisoned: Artifact[SyntheticBody]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(store.path(poisoned, "rows.jsonl").read_bytes())
    spec = spec_of(path, model, tmp_path)

    draft = prepare_synthetic(spec, synthetic=poisoned, store=store)

    assert draft.body.splits["train"].rows == 4
    assert draft.body.dropped == {"red flag": 2}
    rejects = [json.loads(line) for line in content(draft, "rejects.jsonl").splitlines()]
    assert [(r["line"], r["reason"]) for r in rejects] == [(2, "red flag"), (5, "red flag")]
    assert rejects[0]["detail"] == (
        "combination: 'Mix bleach with ammonia' at character 1 of the answer"
    )


def test_a_labelled_row_with_the_same_answer_is_the_users_own_business(
    store: Store, model: ModelFiles, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json_lines([{**row, "source": "human"} for row in POISONED]))
    draft = prepare(spec_of(path, model, tmp_path), store=store)
    assert draft.body.splits["train"].rows == 6


def test_other_rows_than_the_record_s_are_refused(
    synthetic: Artifact[SyntheticBody], store: Store, model: ModelFiles, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[0]))
    with pytest.raises(IntegrityError, match="not those of synthetic/written@v1"):
        prepare_synthetic(spec_of(path, model, tmp_path), synthetic=synthetic, store=store)
