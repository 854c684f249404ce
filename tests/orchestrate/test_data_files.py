from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest

from nexa.core.errors import DataError
from nexa.data.sources import files_of
from nexa.orchestrate.data_files import (
    Place,
    data_files,
    name_of_data,
    named_files,
    place_of,
    roles,
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
    assert caught.value.fix == (
        f"give one of them: --data {tmp_path / 'a.jsonl'}\nor all: --data '{tmp_path}/*.jsonl'"
    )


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
    assert place_of(reference, tmp_path) == Place(tmp_path / reference)


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


# -- shards, patterns, configurations, addresses -------------------------------------------------


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"], "train-*-of-00002.jsonl"),
        (
            ["train-00000-of-00002-0a1b2c3d4e5f.jsonl", "train-00001-of-00002-f5e4d3c2b1a0.jsonl"],
            "train-*-of-00002-*.jsonl",
        ),
        (["part-1.jsonl", "part-2.jsonl"], "part-*.jsonl"),
        (["rows_00001.jsonl", "rows_00002.jsonl"], "rows_*.jsonl"),
        (["0000.jsonl", "0001.jsonl"], "*.jsonl"),
    ],
)
def test_the_parts_of_a_split_are_taken_all(tmp_path: Path, names: list[str], pattern: str) -> None:
    for name in names:
        write(tmp_path / "rows" / name, 10, answer="a" * 30)
    found = data_files(tmp_path / "rows")
    assert found.train == tmp_path / "rows" / pattern
    assert found.rows == 20
    assert found.left_out == ()
    assert training_files(found.train, None)[0] == [tmp_path / "rows" / name for name in names]


def test_held_out_parts_are_taken_all_too(tmp_path: Path) -> None:
    for split, rows in (("train", 20), ("test", 5), ("validation", 3)):
        for n in range(2):
            write(tmp_path / f"{split}-0000{n}-of-00002.jsonl", rows)
    found = data_files(tmp_path)
    assert (found.train_rows, found.eval_rows) == (40, 10)
    assert found.held_out == tmp_path / "test-*-of-00002.jsonl"
    assert {path.name for path, _ in found.left_out} == {
        "validation-00000-of-00002.jsonl",
        "validation-00001-of-00002.jsonl",
    }
    train, kept_back = training_files(tmp_path, found.held_out)
    assert len(train) == 2
    assert len(kept_back) == 4


def test_held_out_files_that_are_no_parts_are_taken_one(tmp_path: Path) -> None:
    for name in ("train", "test_a", "test_b"):
        write(tmp_path / f"{name}.jsonl")
    found = data_files(tmp_path)
    assert found.held_out == tmp_path / "test_a.jsonl"
    assert found.left_out == ((tmp_path / "test_b.jsonl", "test_a.jsonl is held out already"),)


def test_what_a_pattern_would_take_too_many_of_is_a_question(tmp_path: Path) -> None:
    for name in ("0000.jsonl", "0001.jsonl", "test.jsonl"):
        write(tmp_path / name)
    with pytest.raises(DataError, match="2 files that could be trained on"):
        data_files(tmp_path)


def test_a_pattern_is_trained_on_but_for_the_held_out_file(tmp_path: Path) -> None:
    for name in ("a", "b", "test"):
        write(tmp_path / f"{name}.jsonl")
    pattern = place_of("*.jsonl", tmp_path).path
    assert data_files(pattern).rows == 60
    files, kept_back = training_files(pattern, tmp_path / "b.jsonl")
    assert [path.name for path in files] == ["a.jsonl", "test.jsonl"]
    assert [path.name for path in kept_back] == ["b.jsonl"]
    assert training_files(pattern, tmp_path / "none.jsonl")[1] == []


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("rows.jsonl.zst", "rows"),
        ("lab/train.jsonl", "lab"),
        ("lab/*.jsonl", "lab"),
        ("lab", "lab"),
        ("org/name", "org/name"),
        ("s3://bucket/lab/rows.csv.gz", "rows"),
        ("s3://bucket/lab/train.jsonl", "lab"),
        ("s3://bucket/lab/train-*.jsonl", "lab"),
    ],
)
def test_rows_are_called_by_their_file_or_its_folder(
    tmp_path: Path, reference: str, name: str
) -> None:
    (tmp_path / "lab").mkdir()
    assert name_of_data(reference, tmp_path) == name


def test_an_address_is_a_place_with_its_own_name(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.store.clear()
    for n in range(2):
        system.pipe_file(f"/lab/train-0000{n}-of-00002.jsonl", b'{"text": "x"}\n')
    place = place_of("memory://lab", tmp_path)
    train, _, _ = roles(place.path)
    assert place.name_of(train) == "memory://lab/train-*-of-00002.jsonl"
    assert place_of(f"file://{tmp_path}/x.jsonl").path == tmp_path / "x.jsonl"
    system.store.clear()


LINE = b'{"prompt": "q", "completion": "a"}\n'


def test_a_dataset_of_several_configurations_lists_them(
    tmp_path: Path, hub_emulator: HubEmulator
) -> None:
    files = {f"rows/{c}/{s}-0.jsonl": LINE for c in ("main", "socratic") for s in ("train", "test")}
    hub_emulator.add_repo("org/many", {**files, "README.md": b"#"}, kind="dataset")
    with pytest.raises(DataError, match="org/many has 2 configurations") as caught:
        place_of("org/many", tmp_path)
    assert caught.value.found == "main, socratic"
    assert caught.value.fix == "name one of them: org/many/rows/main"
    one = place_of("org/many/rows/main", tmp_path)
    assert sorted(path.name for path in one.path.iterdir()) == ["test-0.jsonl", "train-0.jsonl"]
    # Of what was not asked for nothing is fetched.
    assert one.folder is not None
    assert not (one.folder / "rows" / "socratic").exists()


def test_very_many_configurations_are_not_all_listed(hub_emulator: HubEmulator) -> None:
    files = {f"lang-{n:03}/train.jsonl": LINE for n in range(30)}
    hub_emulator.add_repo("org/tongues", files, kind="dataset")
    with pytest.raises(DataError, match="30 configurations") as caught:
        place_of("org/tongues")
    assert str(caught.value.found).endswith("lang-019 and 10 more")


def test_folders_of_splits_are_no_configurations(hub_emulator: HubEmulator) -> None:
    files = {f"{split}/0000.jsonl": LINE * 20 for split in ("train", "test")}
    hub_emulator.add_repo("org/splits", files, kind="dataset")
    place = place_of("org/splits")
    train, held_out, _ = roles(place.path)
    assert place.name_of(train) == "org/splits/train/0000.jsonl"
    assert held_out is not None


def test_a_pattern_inside_a_dataset_is_fetched(hub_emulator: HubEmulator) -> None:
    files = {f"data/train-0000{n}-of-00002.jsonl": LINE for n in range(2)}
    hub_emulator.add_repo("org/parts", {**files, "data/test.jsonl": LINE}, kind="dataset")
    place = place_of("org/parts/data/train-*.jsonl")
    assert [path.name for path in files_of(place.path)] == [name[5:] for name in files]
    whole = place_of("org/parts")
    assert whole.name_of(roles(whole.path)[0]) == "org/parts/data/train-*-of-00002.jsonl"


def test_all_files_of_several_references_have_names(tmp_path: Path) -> None:
    for name in ("a/x.jsonl", "b/x.jsonl"):
        write(tmp_path / name)
    assert named_files(["a/x.jsonl", "*/x.jsonl"], tmp_path) == [
        (tmp_path / "a" / "x.jsonl", "a/x.jsonl"),
        (tmp_path / "b" / "x.jsonl", "b/x.jsonl"),
    ]


def test_where_the_hub_is_out_of_reach_the_cache_says_what_there_is(
    hub_emulator: HubEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{c}/train.jsonl": LINE for c in ("main", "socratic")}
    hub_emulator.add_repo("org/kept", files, kind="dataset")
    for configuration in ("main", "socratic"):
        place_of(f"org/kept/{configuration}")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="org/kept has 2 configurations"):
        place_of("org/kept")
