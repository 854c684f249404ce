"""The registry keeps what the user wrote and is never half written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nexa.core.errors import DataError
from nexa.core.records import Artifact, DatasetBody, SplitInfo
from nexa.data.registry import mark, read, register, stands

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def dataset(name: str = "materials", version: str = "v1", rows: int = 3) -> Artifact[DatasetBody]:
    body = DatasetBody(
        dataset_id=name,
        format="record",
        sources={"train.jsonl": "77" * 32},
        splits={"train": SplitInfo(rows=rows, digest="ab")},
        rows_read=rows,
        dropped={},
    )
    return Artifact("dataset", name, version, body, {}, {}, {"name": "prepare"}, "f" * 64)


def test_a_dataset_is_written_with_its_facts(tmp_path: Path) -> None:
    path = tmp_path / "project" / "dataset_registry.yaml"
    made = dataset()
    assert register(path, made, parent="materials@v0", notes="first", now=NOW)
    assert read(path) == {
        "materials": {
            "v1": {
                "digest": made.digest,
                "path": "datasets/materials/v1",
                "rows": {"train": 3},
                "sources": {"train.jsonl": "77" * 32},
                "parent": "materials@v0",
                "created": "2026-01-31T12:00:00+00:00",
                "notes": "first",
            }
        }
    }
    assert path.read_text().startswith("# Datasets of this project")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_users_comments_and_notes_stay(tmp_path: Path) -> None:
    path = tmp_path / "dataset_registry.yaml"
    register(path, dataset(), now=NOW)
    mine = path.read_text().replace("notes: ''", "notes: checked by hand  # on Friday")
    path.write_text("# ours\n" + mine)
    register(path, dataset(version="v2", rows=4))
    text = path.read_text()
    assert text.startswith("# ours\n")
    assert "notes: checked by hand  # on Friday" in text
    assert list(read(path)["materials"]) == ["v1", "v2"]


def test_the_same_dataset_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "dataset_registry.yaml"
    register(path, dataset(), now=NOW)
    before = path.read_bytes()
    assert not register(path, dataset())
    assert path.read_bytes() == before


def test_another_dataset_under_the_same_version_keeps_the_old_digest(
    tmp_path: Path, notes: list[str]
) -> None:
    path = tmp_path / "dataset_registry.yaml"
    old, new, newest = dataset(), dataset(rows=9), dataset(rows=10)
    register(path, old, notes="mine", now=NOW)
    register(path, new)
    register(path, newest)
    entry = read(path)["materials"]["v1"]
    assert entry["digest"] == newest.digest
    assert entry["replaced"] == [old.digest, new.digest]
    assert entry["notes"] == "mine"
    assert "has another digest than it had" in notes[0]


def test_many_writers_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "dataset_registry.yaml"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: register(path, dataset(f"d{i}"), now=NOW), range(24)))
    assert sorted(read(path)) == sorted(f"d{i}" for i in range(24))


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "materials: 3\n", "materials:\n  v1: x\n", "a: [\n"]
)
def test_a_file_that_is_no_registry_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "dataset_registry.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match="dataset_registry"):
        register(path, dataset())
    assert path.read_text() == text


def test_no_registry_is_an_empty_one(tmp_path: Path) -> None:
    assert read(tmp_path / "none.yaml") == {}


def test_a_version_on_trial_does_not_stand_until_it_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "dataset_registry.yaml"
    made = dataset(version="v2")
    register(path, made, parent="materials@v1", state="on trial", now=NOW)
    assert not stands(read(path)["materials"]["v2"])
    assert not register(path, made, state="on trial", now=NOW)
    assert mark(path, made, "rolled back", "no evidence")
    assert not mark(path, made, "rolled back", "no evidence")
    entry = read(path)["materials"]["v2"]
    assert (entry["state"], entry["reason"], entry["parent"]) == (
        *("rolled back", "no evidence", "materials@v1"),
    )
    assert mark(path, made, "accepted", "it rose")
    assert stands(read(path)["materials"]["v2"])
    assert stands({})


def test_only_a_version_that_is_there_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "dataset_registry.yaml"
    with pytest.raises(DataError, match=r"has no dataset/materials@v1"):
        mark(path, dataset(), "accepted", "it rose")
    register(path, dataset(rows=4), now=NOW)
    with pytest.raises(DataError, match=r"has no dataset/materials@v1"):
        mark(path, dataset(rows=3), "accepted", "it rose")
