"""Files that are not there, cannot be read, hold nothing, or rows of no known shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import ConfigError, DataError, FormatError, StorageError
from nexa.data.sources import files_of
from nexa.orchestrate.check import inputs
from tests.orchestrate.check.made import flight
from tests.support.project import rows, write_rows


def test_good_files_are_counted(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    assert inputs.files(made).startswith("2 files, ")
    assert made.facts["data_bytes"] == sum(path.stat().st_size for path in made.files)
    assert inputs.formats(made) == "train.jsonl: 40 rows, record; eval.jsonl: 10 rows, record"
    assert inputs.output(made) == str(tmp_path / "output")


def test_a_format_that_was_named_is_told_beside_what_was_found(
    tmp_path: Path, tiny_llama: Path
) -> None:
    made = flight(tmp_path, tiny_llama, data={"format": "record"})
    assert inputs.formats(made).endswith("(config.yaml says record)")


def test_a_missing_file_is_named_with_what_is_near_it(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama, data={"train_path": "./trian.jsonl"})
    with pytest.raises(DataError, match="there is no") as caught:
        inputs.files(made)
    assert "train.jsonl" in str(caught.value.fix)


def test_an_empty_file_is_named(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    (tmp_path / "eval.jsonl").write_bytes(b"")
    with pytest.raises(DataError, match=r"eval.jsonl is an empty file"):
        inputs.files(made)


def test_a_file_that_went_while_it_was_looked_at_is_named(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    assert made.files == [*files_of(tmp_path / "train.jsonl"), tmp_path / "eval.jsonl"]
    (tmp_path / "eval.jsonl").unlink()
    with pytest.raises(DataError, match=r"cannot read .*eval.jsonl"):
        inputs.files(made)


def test_rows_of_no_shape_are_a_fault_of_the_format(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    write_rows(tmp_path / "eval.jsonl", [{"colour": "red"}] * 3)
    with pytest.raises(FormatError, match=r"eval.jsonl"):
        inputs.formats(made)


def test_places_that_are_not_ours_are_refused(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama, training={"output_dir": "./docs"})
    write_rows(tmp_path / "docs" / "thesis.jsonl", rows(range(2)))
    with pytest.raises(StorageError, match="files that nexa did not put there"):
        inputs.output(made)
    adapter = {"repo": "you/it", "hub": "local", "merge_adapters": False}
    made = flight(tmp_path, tiny_llama, lora=None, publish=adapter)
    with pytest.raises(ConfigError, match="makes no adapter"):
        inputs.output(made)
