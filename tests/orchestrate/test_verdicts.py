"""What a run proves, end to end on the tiny model: nothing by chance, nothing by leaked rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from nexa.core.records import ReportBody
from nexa.core.tiers import Tiers
from nexa.orchestrate.run import prepare_only
from tests.support.project import ELEMENTS, train, write_config, write_rows


def asked(number: int, answer: int) -> dict[str, Any]:
    """A question that says nothing of its answer: it can only be learnt by heart."""
    name = f"{ELEMENTS[number % len(ELEMENTS)]}{number}"
    return {
        "prompt": f"{name}?",
        "target_answer": {"a": ELEMENTS[answer % len(ELEMENTS)]},
        "group": name,
    }


def trained(root: Path, model: Path, rows: str, steps: int) -> ReportBody:
    """The report of a run on these rows, all weights trained."""
    config = write_config(
        root,
        model,
        lora=None,
        data={"train_path": rows},
        training={"method": "full", "max_steps": steps},
        eval={"max_new_tokens": 20},
    )
    manifest = train(config)
    report: ReportBody = Tiers.of(root).store.by_digest(manifest.outputs["report"]).body
    assert manifest.verdict == report.verdict
    return report


def test_shuffled_labels_prove_nothing(tmp_path: Path, tiny_llama: Path) -> None:
    dice = random.Random(1)
    write_rows(tmp_path / "eval.jsonl", [asked(i, i * 5 + 3) for i in range(8)])
    shuffled = [asked(i, dice.randrange(8)) for i in range(100, 124)]
    write_rows(tmp_path / "shuffled.jsonl", shuffled)
    report = trained(tmp_path, tiny_llama, "./shuffled.jsonl", steps=8)
    assert report.verdict in ("no evidence", "worse")
    assert report.contaminated_rows == []
    assert report.minimum_detectable is not None
    assert all(c.p is not None and c.adjusted_p is not None for c in report.comparisons)


@pytest.mark.slow
def test_rows_learnt_by_heart_raise_the_score_and_prove_nothing(
    tmp_path: Path, tiny_llama: Path
) -> None:
    """Half of the suite is in a sealed dataset, which is trained on as it is."""
    held_out = [asked(i, i * 5 + 3) for i in range(8)]
    write_rows(tmp_path / "eval.jsonl", held_out)
    write_rows(tmp_path / "other.jsonl", [asked(i, i) for i in range(900, 904)])
    write_rows(tmp_path / "leaky.jsonl", held_out[:4])
    data = {"train_path": "./leaky.jsonl", "eval_path": "./other.jsonl"}
    prepare_only(write_config(tmp_path, tiny_llama, data=data))
    report = trained(tmp_path, tiny_llama, "dataset/leaky@v1", steps=100)
    assert report.tuned["exact"].mean >= report.base["exact"].mean + 0.25
    assert report.verdict == "contaminated"
    assert len(report.contaminated_rows or ()) == 4
    assert report.clean is not None
    assert report.clean[0].difference.n == 4
    assert "Without them: " in report.reason
