from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.errors import DataError
from nexa.orchestrate.data_files import (
    Place,
    data_files,
    hub_dataset,
    place_of,
    training_files,
)
from tests.support.hub_emulator import HubEmulator


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


def test_files_in_folders_are_told_by_the_folders_names(tmp_path: Path) -> None:
    write(tmp_path / "train" / "0000.jsonl", 30)
    write(tmp_path / "test" / "0000.jsonl", 7)
    found = data_files(tmp_path)
    assert found.train == tmp_path / "train" / "0000.jsonl"
    assert found.held_out == tmp_path / "test" / "0000.jsonl"
    assert training_files(tmp_path, None) == ([found.train], [found.held_out])
    # The folder that is given says nothing about the files in it.
    assert data_files(tmp_path / "test").train == found.held_out


def test_nothing_but_held_out_rows_is_nothing_to_train_on(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl")
    with pytest.raises(DataError, match="has no file to train on") as caught:
        training_files(tmp_path, None)
    assert caught.value.found == "test.jsonl"


def test_of_a_plain_text_the_answer_is_its_continuation(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": f"{i} " + "word " * 500}) + "\n" for i in range(20))
    (tmp_path / "t.jsonl").write_text(lines)
    assert 200 < data_files(tmp_path / "t.jsonl").longest_answer < 310


def test_a_dataset_of_the_hub_at_a_revision_keeps_its_name(hub_emulator: HubEmulator) -> None:
    line = json.dumps({"prompt": "q", "completion": "a"}).encode() + b"\n"
    hub_emulator.add_repo("lab/rows", {"data/train.jsonl": line}, kind="dataset")
    place = place_of("lab/rows")
    assert place.folder is not None
    commit = place.folder.name
    again = place_of(f"hf://lab/rows@{commit}/data/train.jsonl")
    assert again.path == place.path / "train.jsonl"
    assert again.name_of(again.path) == f"lab/rows@{commit}/data/train.jsonl"


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


# -- places --------------------------------------------------------------------------------------


def test_a_path_is_a_place_as_seen_from_the_root(tmp_path: Path) -> None:
    place = place_of("rows.jsonl", tmp_path)
    assert place == Place(tmp_path / "rows.jsonl")
    assert place.name_of(tmp_path / "rows.jsonl") is None
    assert place_of(tmp_path / "a" / "b", Path("elsewhere")).path == tmp_path / "a" / "b"


@pytest.mark.parametrize(
    "reference", ["data/mistyped", "nowhere/rows.jsonl", "./org/name", "a.jsonl", "/a/b", "../a/b"]
)
def test_what_can_only_be_a_path_is_never_asked_of_the_hub(tmp_path: Path, reference: str) -> None:
    (tmp_path / "data").mkdir()
    assert hub_dataset(reference, tmp_path) is None


def test_a_dataset_of_the_hub_is_a_folder_or_one_of_its_files(
    tmp_path: Path, hub_emulator: HubEmulator
) -> None:
    files = {"data/train.jsonl": b"{}\n", "data/test.jsonl": b"{}\n"}
    hub_emulator.add_repo("org/rows", files, kind="dataset")
    place = place_of("org/rows", tmp_path)
    assert place.path.name == "data"
    assert place.name_of(place.path / "test.jsonl") == "org/rows/data/test.jsonl"
    assert place_of("org/rows/data/test.jsonl", tmp_path).path.read_bytes() == b"{}\n"
    with pytest.raises(DataError, match=r"the Hub dataset org/rows has no file none\.jsonl"):
        place_of("org/rows/none.jsonl", tmp_path)


def test_the_share_that_is_set_aside_and_the_size_of_rows_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "four", "completion": "é" * 3} for _ in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = data_files(path, 0.5)
    assert (found.train_rows, found.eval_rows) == (10, 10)
    assert (found.longest_answer, found.row_bytes) == (6, 10.0)
    assert found.detection is not None
    assert found.detection.first[0] == rows[0]
