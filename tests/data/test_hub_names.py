"""What can only mean a dataset on the Hub is one; a mistyped path never is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.data.hub_names import HubData, origin_of, parse_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("openai/gsm8k", HubData("openai/gsm8k")),
        ("openai/gsm8k@v1.0", HubData("openai/gsm8k", "v1.0")),
        ("openai/gsm8k/main/train.parquet", HubData("openai/gsm8k", None, "main/train.parquet")),
        ("hf://openai/gsm8k@main/main", HubData("openai/gsm8k", "main", "main")),
        ("hf://datasets/openai/gsm8k", HubData("openai/gsm8k")),
        (Path("hf://openai/gsm8k"), HubData("openai/gsm8k")),
        ("hf://here/rows.jsonl", HubData("here/rows.jsonl")),
        ("here/rows", None),
        ("train.jsonl", None),
        ("data/train.jsonl", None),
        ("data/train.jsonl.gz", None),
        ("data/train.PARQUET", None),
        ("./openai/gsm8k", None),
        ("../openai/gsm8k", None),
        ("/openai/gsm8k", None),
        ("~/openai", None),
        ("", None),
    ],
)
def test_references_are_told_from_paths(
    reference: str | Path, found: HubData | None, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    assert parse_hub(reference, tmp_path) == found


def test_a_dataset_is_named_with_its_revision() -> None:
    assert HubData("a/b").reference == "a/b"
    assert HubData("a/b", "v2", "x.csv").reference == "a/b@v2"


def test_a_cached_file_names_dataset_and_commit(tmp_path: Path) -> None:
    snapshot = tmp_path / "datasets--openai--gsm8k" / "snapshots" / COMMIT
    file = snapshot / "main" / "train.parquet"
    assert origin_of(file) == f"hf://openai/gsm8k@{COMMIT}/main/train.parquet"
    assert origin_of(snapshot) is None
    assert origin_of(tmp_path / "datasets--a--b" / "rows.jsonl") is None
    assert origin_of(tmp_path / "datasets--a--b" / "snapshots" / "main" / "x.csv") is None
