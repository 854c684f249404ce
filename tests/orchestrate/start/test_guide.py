from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from nexa.core.errors import ModelError
from nexa.core.events import listening
from nexa.core.hardware import Machine
from nexa.lm.resolve import ALIASES
from nexa.orchestrate.data_files import data_files
from nexa.orchestrate.start.guide import (
    KNOWN_MODELS,
    PROVIDERS,
    Model,
    best_method,
    find_model,
    fits,
    has_two_sources,
    method_offers,
    model_offers,
    suggested_name,
)
from tests.support.project import Finished, notes, rows, write_rows

TINY = Machine("a processor", 1, 10**9, (), False, "Linux")
USUAL = Machine("a processor", 2, 64 * 10**9, (), True, "Linux")
LARGE = Machine("a processor", 64, 512 * 10**9, (), True, "Linux")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def references(project: Path, machine: Machine) -> list[str]:
    return [offer.reference for offer in model_offers(project, machine)]


def test_known_models_are_in_order_of_size_and_the_smallest_is_an_alias() -> None:
    sizes = [known.shape.parameters for known in KNOWN_MODELS]
    assert sizes == sorted(sizes)
    assert KNOWN_MODELS[0].reference in ALIASES


def test_what_fits_is_offered_the_best_guess_first(tmp_path: Path) -> None:
    assert references(tmp_path, TINY) == []
    assert references(tmp_path, USUAL)[0] == "smollm2-135m"
    assert references(tmp_path, LARGE)[0] == "Qwen/Qwen3-4B-Instruct-2507"
    assert len(references(tmp_path, LARGE)) == len(KNOWN_MODELS)
    reasons = [offer.reason for offer in model_offers(tmp_path, USUAL)]
    assert reasons[0] == "0.1B parameters, suits this machine"


def test_a_slow_machine_is_offered_the_smallest_model_first(tmp_path: Path) -> None:
    slow = Machine("a processor", 1, 64 * 10**9, (), False, "Linux")
    assert all(fit.by_method["lora"].seconds > 300 for fit in fits(slow))
    assert references(tmp_path, slow)[0] == "smollm2-135m"


def test_a_projects_own_models_come_first(project: Finished) -> None:
    first = model_offers(project.root, USUAL)[0]
    assert (Path(first.reference).name, first.reason) == ("tiny-llama", "in config.yaml now")
    manifest = next(project.tiers.manifests.glob("*.json"))
    told = json.loads(manifest.read_text())
    for number, name in enumerate(("smollm2-135m", "org/model", "export/mine")):
        later = {**told, "run_id": f"2027-01-0{number + 1}-000000-aaaa", "student_model": name}
        (manifest.parent / f"{later['run_id']}.json").write_text(json.dumps(later))
    (manifest.parent / "2028-01-01-000000-aaaa.json").write_text("{")
    (project.root / "config.yaml").write_text("nonsense")
    events: list[dict[str, object]] = []
    with listening(events.append):
        offers = model_offers(project.root, USUAL)
    assert [offer.reference for offer in offers[:2]] == ["org/model", "smollm2-135m"]
    assert offers[0].reason == "trained here before"
    assert "export/mine" not in [offer.reference for offer in offers]
    assert len(notes(events)) == 2


def test_what_the_hub_cache_has_whole_is_offered_newest_first(
    tmp_path: Path, tiny_llama: Path
) -> None:
    hub = tmp_path / "hub"
    for day, name in enumerate(("models--org--old", "models--org--new", "datasets--org--rows")):
        shutil.copytree(tiny_llama, hub / name / "snapshots" / "abc")
        os.utime(hub / name, (day, day))
    for name, config in {
        "models--org--half": '{"architectures": ["LlamaForCausalLM"]}',
        "models--org--embedder": '{"architectures": ["BertModel"]}',
        "models--org--list": "[]",
        "models--org--broken": "{",
        "models--org--odd--name": "{}",
    }.items():
        (hub / name / "snapshots" / "abc").mkdir(parents=True)
        (hub / name / "snapshots" / "abc" / "config.json").write_text(config)
    assert references(tmp_path, TINY) == ["org/new", "org/old"]
    assert model_offers(tmp_path, TINY)[0].reason == "in the Hub cache"


def test_only_an_alias_with_a_wheel_has_two_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert has_two_sources("smollm2-135m")
    assert not has_two_sources("org/name")
    (tmp_path / "smollm2-135m").mkdir()
    assert not has_two_sources("smollm2-135m")


def test_a_local_model_is_found_without_a_note_in_the_project(
    tmp_path: Path, tiny_llama: Path
) -> None:
    model = find_model(str(tiny_llama), "auto", tmp_path)
    assert (model.shape.num_layers, model.source) == (2, "auto")
    assert not (tmp_path / ".nexa").exists()
    with pytest.raises(ModelError):
        find_model("nonsense", "auto", tmp_path)


def test_what_a_run_made_is_found_in_its_project(project: Finished) -> None:
    found = find_model(project.manifest.run_id, "auto", project.root)
    assert found.files.origin.startswith("export:")


def test_methods_are_offered_with_their_cost_and_the_first_that_fits_is_the_best(
    tmp_path: Path, tiny_llama: Path
) -> None:
    shape = find_model(str(tiny_llama), "auto", tmp_path).shape
    data = data_files(write_rows(tmp_path / "rows.jsonl", rows(range(40))))
    offers = method_offers(shape, data, USUAL)
    assert [offer.method for offer in offers] == ["lora", "qlora", "dora", "full"]
    assert all(offer.estimate.fits and offer.steps == 40 for offer in offers)
    assert best_method(offers) == "lora"
    large = KNOWN_MODELS[-1].shape
    least = method_offers(large, data, TINY)
    assert not any(offer.estimate.fits for offer in least)
    assert best_method(least) == "lora"


def test_local_is_the_one_place_to_train() -> None:
    assert PROVIDERS.names() == ["local"]
    assert PROVIDERS["local"].options == ()


@pytest.mark.parametrize(
    ("model", "data", "name"),
    [
        ("smollm2-135m", "./elements.jsonl", "smollm2-135m-elements"),
        ("Qwen/Qwen2.5-0.5B", "notes/train.jsonl", "qwen2-5-0-5b-notes"),
        ("./models/tiny/", "./rows", "tiny-my-rows"),
        ("./...", "???.jsonl", "tuned"),
        ("x" * 80, "rows.csv", "x" * 60),
    ],
)
def test_a_name_is_suggested_after_model_and_data(
    model: str, data: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my rows").mkdir()
    (tmp_path / "rows").symlink_to("my rows")
    monkeypatch.chdir(tmp_path)
    assert suggested_name(model, data.replace("./rows", "my rows")) == name


def test_a_model_keeps_what_the_user_called_it(tmp_path: Path, tiny_llama: Path) -> None:
    found = find_model(str(tiny_llama), "auto", tmp_path)
    assert found == Model(str(tiny_llama), "auto", found.files, found.shape)
