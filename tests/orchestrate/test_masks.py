from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import DataError, ModelError
from nexa.orchestrate.masks import masked_rows
from tests.support.project import Finished


def test_rows_are_cut_by_the_model_s_own_template(project: Finished, tiny_llama: Path) -> None:
    path = project.root / "train.jsonl"
    shown = masked_rows(path, str(tiny_llama), source="auto", rows=2, project=project.root)
    assert [row.origin for row in shown] == ["train.jsonl:1", "train.jsonl:2"]
    trained = "".join(span.text for span in shown[0].spans if span.trained)
    assert trained == '{"name": "iron0", "value": 100}<|im_end|>'


def test_a_run_s_model_has_the_template_of_its_base(project: Finished, tiny_llama: Path) -> None:
    path = project.root / "train.jsonl"
    by_run, by_base = (
        masked_rows(path, model, source="auto", rows=3, project=project.root)
        for model in ("latest", str(tiny_llama))
    )
    assert by_run == by_base


def test_what_is_not_there_is_refused(project: Finished, tiny_llama: Path) -> None:
    with pytest.raises(ModelError, match="no-model"):
        masked_rows(
            project.root / "train.jsonl",
            "no-model",
            source="auto",
            rows=1,
            project=project.root,
        )
    with pytest.raises(DataError, match="trian"):
        masked_rows(
            project.root / "trian.jsonl",
            str(tiny_llama),
            source="auto",
            rows=1,
            project=project.root,
        )
