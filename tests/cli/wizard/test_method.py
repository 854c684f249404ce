from __future__ import annotations

from pathlib import Path

import pytest

from nexa.cli.wizard.dataset import Data
from nexa.cli.wizard.method import ask_method, ask_mode, ask_name
from nexa.core.errors import UsageError
from nexa.core.hardware import Machine
from nexa.orchestrate.data_files import data_files
from nexa.orchestrate.model_shape import Shape
from nexa.orchestrate.start.guide import Model, find_model
from tests.cli.wizard.typed import Person
from tests.support.project import rows, write_rows

MACHINE = Machine("a processor", 2, 16 * 10**9, (), True, "Linux")
TIGHT = Machine("a processor", 2, 4 * 10**9, (), True, "Linux")


@pytest.fixture
def model(tiny_llama: Path, tmp_path: Path) -> Model:
    return find_model(str(tiny_llama), "auto", tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    path = write_rows(tmp_path / "elements.jsonl", rows(range(40)))
    return Data(str(path), data_files(path))


def test_the_name_is_suggested_and_has_to_be_one(model: Model, data: Data, tmp_path: Path) -> None:
    assert ask_name(Person(""), None, model, data, tmp_path) == "tiny-llama-elements"
    (tmp_path / "output" / "taken").mkdir(parents=True)
    (tmp_path / "output" / "taken" / "diary.txt").write_text("mine")
    person = Person("../up", "taken", "free")
    assert ask_name(person, None, model, data, tmp_path) == "free"
    assert "'../up' cannot be the name of a model" in person.seen
    assert "holds files that nexa did not put there" in person.seen


def test_methods_have_their_cost_and_one_that_does_not_fit_is_marked(
    model: Model, data: Data
) -> None:
    person = Person("")
    assert ask_method(person, None, model, data, MACHINE) == "lora"
    assert "  1  lora   a small adapter: about " in person.seen
    assert "  2  qlora  a small adapter on a base in four bits" in person.seen
    assert "  3  dora   a finer adapter" in person.seen
    large = Model(
        "large", "auto", model.files, Shape("LlamaForCausalLM", 576, 30, 49_152, 134 * 10**6)
    )
    person = Person("full")
    assert ask_method(person, None, large, data, TIGHT) == "full"
    assert "4  full   all weights: about" in person.seen
    assert "too large" in person.seen
    assert "may not fit in memory" in person.seen


def test_a_mode_is_a_provider_of_the_registry(model: Model) -> None:
    assert ask_mode(Person("1"), None) == "local"
    assert ask_mode(Person(asks=False), None) == "local"
    with pytest.raises(UsageError, match="'moon' is none of the choices"):
        ask_mode(Person(asks=False), "moon")
