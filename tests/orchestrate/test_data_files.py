from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.errors import DataError
from nexa.orchestrate.data_files import data_files


def write(path: Path, rows: int = 20, *, answer: str = "yes", key: str = "completion") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"prompt": f"Question {n}?", key: answer}) for n in range(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_single_file_is_trained_on_and_a_share_of_it_set_aside(tmp_path: Path) -> None:
    found = data_files(write(tmp_path / "any.jsonl", 40))
    assert found.train == tmp_path / "any.jsonl"
    assert (found.rows, found.train_rows, found.eval_rows) == (40, 36, 4)
    assert found.held_out is None
    assert found.left_out == ()


def test_too_few_rows_to_set_some_aside_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few rows") as caught:
        data_files(write(tmp_path / "any.jsonl", 3))
    assert caught.value.found == "3 rows"


@pytest.mark.parametrize("name", ["eval.jsonl", "test.jsonl", "valid.jsonl", "validation-1.jsonl"])
def test_a_folders_held_out_file_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / "train.jsonl", 30)
    write(tmp_path / name, 7)
    found = data_files(tmp_path)
    assert found.train.name == "train.jsonl"
    assert found.held_out == tmp_path / name
    assert (found.rows, found.train_rows, found.eval_rows) == (30, 30, 7)


def test_files_that_are_not_used_are_told_with_the_reason(tmp_path: Path) -> None:
    for name in ("train", "eval", "test", "pool", "notes"):
        write(tmp_path / f"{name}.jsonl")
    (tmp_path / "README.md").write_text("not data")
    found = data_files(tmp_path)
    assert found.held_out == tmp_path / "eval.jsonl"
    assert {path.name: reason for path, reason in found.left_out} == {
        "pool.jsonl": "a pool of rows for later rounds",
        "test.jsonl": "eval.jsonl is held out already",
        "notes.jsonl": "train.jsonl is the training file",
    }


def test_the_only_other_file_is_trained_on_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path / "questions.jsonl")
    write(tmp_path / "test.jsonl")
    assert data_files(tmp_path).train.name == "questions.jsonl"


def test_several_candidates_are_a_question_not_a_guess(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    write(tmp_path / "b.jsonl")
    with pytest.raises(DataError, match="2 files that could be trained on") as caught:
        data_files(tmp_path)
    assert caught.value.fix == f"give one of them: --data {tmp_path / 'a.jsonl'}"


def test_a_folder_with_held_out_rows_only_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "eval.jsonl")
    with pytest.raises(DataError, match="no file to train on") as caught:
        data_files(tmp_path)
    assert caught.value.found == "eval.jsonl"


def test_a_mistyped_path_gets_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "materials.jsonl")
    with pytest.raises(DataError, match="there is no") as caught:
        data_files(tmp_path / "material.jsonl")
    assert str(caught.value.fix).endswith("materials.jsonl")


def test_the_longest_answer_is_taken_from_the_held_out_rows(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", answer="a" * 50)
    write(tmp_path / "eval.jsonl", answer="ü" * 50)
    assert data_files(tmp_path).longest_answer == 100
    assert data_files(tmp_path / "train.jsonl").longest_answer == 50


def test_two_files_of_unlike_formats_are_told_apart_each_time(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl")
    one = data_files(tmp_path / "train.jsonl").format
    conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "eval.jsonl").write_text(json.dumps({"messages": conversation}) + "\n")
    assert one != "auto"
    assert data_files(tmp_path).format == "auto"
