from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nexa.lm.resolve import ModelFiles
from nexa.weights.merge_models.texts import GENERATION, text_checks, write_texts
from tests.weights.merge_models import made


@pytest.fixture
def owner(tmp_path: Path) -> ModelFiles:
    """A model whose own list of stops lacks the end of its turns."""
    folder = made.model(tmp_path / "owner")
    made.edit_json(folder / GENERATION, lambda told: told.update(eos_token_id=0, top_k=5))
    [files] = made.files(folder)
    return files


@pytest.fixture
def child(owner: ModelFiles, tmp_path: Path) -> Path:
    """A folder with the owner's texts, and what else makes it a model."""
    folder = tmp_path / "child"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(owner.folder / name, folder / name)
    write_texts(owner, folder)
    return folder


def failures(child: Path, owner: ModelFiles) -> set[str]:
    [files] = made.files(child)
    return {check.name for check in text_checks(files, owner) if not check.passed}


def test_the_child_reads_as_its_owner_and_stops_at_the_end_of_a_turn(
    child: Path, owner: ModelFiles
) -> None:
    assert failures(child, owner) == set()
    told = json.loads((child / GENERATION).read_text())
    assert (told["eos_token_id"], told["top_k"]) == ([0, 2], 5)


def test_a_template_that_cannot_be_settled_leaves_the_stops_as_they_were(tmp_path: Path) -> None:
    folder = made.model(tmp_path / "odd", template="{{ raise_exception('no') }}")
    [owner] = made.files(folder)
    out = shutil.copytree(folder, tmp_path / "child")

    with made.Notes() as notes:
        write_texts(owner, out)

    assert any("odd's chat template cannot be settled" in text for text in notes.texts)
    assert json.loads((out / GENERATION).read_text())["eos_token_id"] == 2
    assert failures(out, owner) == set()


def test_each_fault_is_named(child: Path, owner: ModelFiles) -> None:
    made.edit_json(child / GENERATION, lambda told: told.update(eos_token_id=0))
    assert failures(child, owner) == {"end_of_turn"}
    (child / GENERATION).unlink()
    assert failures(child, owner) == {"end_of_turn"}

    (child / "chat_template.jinja").write_text("{{ messages }}")
    assert failures(child, owner) == {"end_of_turn", "tokenizer_files"}
    made.swap_ids(child, 100, 101)
    assert failures(child, owner) == {"end_of_turn", "tokenizer_files", "token_ids"}
