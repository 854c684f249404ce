from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nexa.cli.wizard.model import ask_model
from nexa.core.errors import ModelError
from nexa.core.hardware import Machine
from tests.cli.wizard.typed import Person
from tests.support.hub_emulator import HubEmulator

MACHINE = Machine("a processor", 2, 16 * 10**9, (), True, "Linux")
NOTHING: dict[str, Any] = {"base": None, "base_source": None}


@pytest.fixture
def project(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(tiny_llama, folder / "tiny")
    monkeypatch.chdir(folder)
    return folder


def test_a_folder_is_looked_at_at_once_and_nothing_is_noted(project: Path) -> None:
    person = Person("nowhere/at/all", "tiny")
    model = ask_model(person, NOTHING, MACHINE, project)
    assert model.reference == "tiny"
    assert model.source == "auto"
    assert model.shape.hidden_size == 32
    assert "there is no model 'nowhere/at/all'" in person.seen
    assert "tiny: LlamaForCausalLM, 2 layers, 0.0M parameters (folder)" in person.seen
    assert [path.name for path in project.iterdir()] == ["tiny"]


def test_suggestions_have_numbers_and_an_alias_with_two_sources_asks_which(project: Path) -> None:
    person = Person("1", "hub", "tiny")
    ask_model(person, NOTHING, MACHINE, project)
    assert "  1  smollm2-135m " in person.seen
    assert "suits this machine" in person.seen
    assert "smollm2-135m has two sources, which differ in weights [1]: " in person.seen
    assert "cannot download HuggingFaceTB/SmolLM2-135M-Instruct" in person.seen


def test_the_source_that_was_taken_is_the_one_that_is_repeated(
    project: Path, tiny_llama: Path, hub_emulator: HubEmulator
) -> None:
    files = {path.name: path.read_bytes() for path in tiny_llama.iterdir()}
    hub_emulator.add_repo("HuggingFaceTB/SmolLM2-135M-Instruct", files)
    person = Person("smollm2-135m", "")
    assert ask_model(person, NOTHING, MACHINE, project).source == "hub"
    given = {"base": "smollm2-135m", "base_source": "hub"}
    nobody = Person(asks=False)
    assert ask_model(nobody, given, MACHINE, project).source == "hub"


def test_flags_answer_and_wrong_ones_are_asked_for_once(project: Path) -> None:
    given = {"base": "tiny", "base_source": "wheel"}
    with pytest.raises(ModelError, match="source 'wheel' is for aliases"):
        ask_model(Person(asks=False), given, MACHINE, project)
    person = Person("tiny")
    assert ask_model(person, given, MACHINE, project).source == "auto"
    assert "is for aliases" in person.seen
