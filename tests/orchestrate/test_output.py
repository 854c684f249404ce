from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.events import Event, Sink, listening
from nexa.core.identity import sha256_bytes
from nexa.orchestrate.output import CARD, check_output, read_output, write_output
from tests.support.project import Finished

FACTS = {"run_id": "2026-01-02-030405-abcd"}


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Two files as the store has them: read-only."""
    files = {"model.safetensors": b"weights", "adapter/adapter_config.json": b"{}"}
    made = {}
    for name, data in files.items():
        made[name] = tmp_path / "store" / sha256_bytes(data)
        made[name].parent.mkdir(exist_ok=True)
        made[name].write_bytes(data)
        made[name].chmod(0o444)
    return made


def inside(folder: Path) -> list[str]:
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(found)


def stop_at(name: str) -> Sink:
    def sink(event: Event) -> None:
        if event["kind"] == "saved" and event["path"].endswith(name):
            raise KeyboardInterrupt

    return sink


# -- what a run leaves ---------------------------------------------------------------------------


def test_the_folder_holds_the_model_its_adapter_and_who_it_is(finished: Finished) -> None:
    folder = finished.root / "output"
    assert set(inside(folder)) >= {
        *("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"),
        *("adapter/adapter_model.safetensors", "adapter/adapter_config.json", "final_model.json"),
    }
    card = json.loads((folder / CARD).read_text())
    assert card["run_id"] == finished.manifest.run_id
    assert card["method"] == "lora"
    assert (card["rank"], card["alpha"]) == (4, 8)
    assert card["base"]["name"] == "tiny-llama"
    assert card["base_revision"] is None
    assert card["dataset"] == "dataset/elements@v1"
    assert card["data_digest"] == finished.manifest.dataset_hash
    assert len(card["epoch_losses"]) == 1
    assert card["verdict"] == finished.manifest.verdict
    assert card["records"] == dict(sorted(finished.manifest.outputs.items()))


def test_every_file_is_told_with_its_path_and_size(finished: Finished) -> None:
    folder = finished.root / "output"
    told = {e["path"]: e["size_bytes"] for e in finished.events if e["kind"] == "saved"}
    assert told == {str(folder / name): (folder / name).stat().st_size for name in inside(folder)}
    assert str(folder / CARD) == list(told)[-1]


# -- writing -------------------------------------------------------------------------------------


def test_the_card_names_every_file_by_its_digest(tmp_path: Path, sources: dict[str, Path]) -> None:
    write_output(tmp_path / "out", sources, FACTS)
    assert read_output(tmp_path / "out") == {
        **FACTS,
        "files": {name: path.name for name, path in sources.items()},
    }
    assert inside(tmp_path / "out") == sorted([*sources, CARD])


def test_what_the_user_does_to_a_file_does_not_reach_the_store(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    write_output(tmp_path / "out", sources, FACTS)
    (tmp_path / "out" / "model.safetensors").write_bytes(b"edited")
    assert sources["model.safetensors"].read_bytes() == b"weights"


def test_again_what_was_edited_is_mended_and_what_is_the_same_is_left(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    out = tmp_path / "out"
    write_output(out, sources, FACTS)
    (out / "model.safetensors").write_bytes(b"edited")
    same = (out / "adapter" / "adapter_config.json").stat().st_ino
    write_output(out, sources, FACTS)
    assert (out / "model.safetensors").read_bytes() == b"weights"
    assert (out / "adapter" / "adapter_config.json").stat().st_ino == same


def test_a_later_model_replaces_an_earlier_one_and_leaves_what_is_not_nexa_s(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    out = tmp_path / "out"
    write_output(out, sources, FACTS)
    (out / "notes.txt").write_text("mine")
    write_output(out, {"model.safetensors": sources["model.safetensors"]}, FACTS)
    assert inside(out) == [CARD, "model.safetensors", "notes.txt"]


def test_a_folder_whose_writing_was_stopped_is_not_published_but_written_again(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    out = tmp_path / "out"
    write_output(out, {"old.bin": sources["model.safetensors"]}, FACTS)
    with pytest.raises(KeyboardInterrupt), listening(stop_at("model.safetensors")):
        write_output(out, sources, FACTS)
    with pytest.raises(IntegrityError, match="was stopped while it wrote it"):
        read_output(out)
    check_output(out)
    write_output(out, sources, FACTS)
    assert "old.bin" not in inside(out)
    assert read_output(out)["run_id"] == FACTS["run_id"]


def test_a_folder_that_cannot_be_written_is_an_error_by_name(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "adapter").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"adapter_config\.json"):
        write_output(tmp_path / "out", sources, FACTS)


# -- refusals ------------------------------------------------------------------------------------


def test_a_new_an_empty_and_an_own_folder_may_be_written(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    check_output(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty")
    write_output(tmp_path / "own", sources, FACTS)
    check_output(tmp_path / "own")


def test_another_run_s_folder_inside_it_is_no_stranger(tmp_path: Path) -> None:
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / CARD).write_text("{}")
    check_output(tmp_path)


def test_a_folder_with_strangers_is_refused_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match=r"thesis\.tex"):
        check_output(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match="is a file, not a folder"):
        check_output(tmp_path / "out")


def test_a_folder_that_training_did_not_leave_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="nexa train"):
        read_output(tmp_path)


@pytest.mark.parametrize(
    "card",
    [
        "not json",
        "[]",
        '{"files": {}}',
        '{"run_id": "r"}',
        '{"run_id": "r", "files": ["a"]}',
        '{"run_id": "r", "files": {"../outside": "00"}}',
        '{"run_id": "r", "files": {"/etc/passwd": "00"}}',
    ],
)
def test_a_card_that_is_none_is_refused_and_removes_nothing(
    tmp_path: Path, sources: dict[str, Path], card: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "outside").write_text("mine")
    (out / CARD).write_text(card)
    with pytest.raises(IntegrityError, match=r"cannot read .*final_model\.json"):
        check_output(out)
    with pytest.raises(IntegrityError):
        write_output(out, sources, FACTS)
    assert (tmp_path / "outside").exists()
