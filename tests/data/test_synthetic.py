"""Written rows are prepared as any, and only those of the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.errors import IntegrityError
from nexa.core.records import Artifact, Draft, SyntheticBody
from nexa.core.store import Store
from nexa.data.prepare import PrepareSpec
from nexa.data.sources import Source
from nexa.data.synthetic import prepare_synthetic
from nexa.lm.resolve import ModelFiles
from nexa.lm.teaching import json_lines
from tests.data.build import pair

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


@pytest.fixture
def synthetic(store: Store) -> Artifact[SyntheticBody]:
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
    draft = Draft("synthetic", "written", body, {"rows.jsonl": json_lines(ROWS)})
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


def test_other_rows_than_the_record_s_are_refused(
    synthetic: Artifact[SyntheticBody], store: Store, model: ModelFiles, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[0]))
    with pytest.raises(IntegrityError, match="not those of synthetic/written@v1"):
        prepare_synthetic(spec_of(path, model, tmp_path), synthetic=synthetic, store=store)
