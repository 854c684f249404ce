from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nexa.core.errors import ModelError, ParityError
from nexa.core.events import Event, listening
from nexa.core.identity import sha256_file
from nexa.core.records import Draft, ExportBody
from nexa.core.store import Store
from nexa.lm.resolve import resolve
from nexa.weights.adopt import AdoptSpec, adopt
from nexa.weights.take import TakeSpec, take
from tests.support.chain import seal
from tests.support.foreign import full_model
from tests.support.project import notes


@pytest.fixture
def theirs(tmp_path: Path, tiny_llama: Path) -> Path:
    return full_model(tmp_path / "theirs", tiny_llama)


def taken(folder: Path, base: Path) -> Draft[ExportBody]:
    store = Store(folder.parent / "store")
    model = resolve(str(folder))
    spec = AdoptSpec(resolve(str(base)), "--base-model", model.files, model, name="theirs")
    sealed = seal(store, "adopt", adopt(spec, store=store))
    return take(TakeSpec(model, folder.parent), checkpoint=sealed, store=store)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_files_are_those_that_were_found(theirs: Path, tiny_llama: Path) -> None:
    draft = taken(theirs, tiny_llama)
    for name, digest in resolve(str(theirs)).files.items():
        assert sha256_file(Path(str(draft.files[name]))) == digest
    assert draft.body.passed
    assert draft.body.dtype == "float32"
    assert draft.body.parity["rounding"] == "none: the weights are those that were found"
    assert json.loads(bytes(draft.files["parity.json"])) == draft.body.parity  # type: ignore[arg-type]


def test_a_path_of_somebody_s_machine_is_taken_out(theirs: Path, tiny_llama: Path) -> None:
    edit(theirs / "config.json", _name_or_path=str(theirs.parent / "alice" / "secret-project"))
    edit(theirs / "tokenizer_config.json", name_or_path="org/name")
    kept = (theirs / "config.json").read_bytes()
    events: list[Event] = []
    with listening(events.append):
        draft = taken(theirs, tiny_llama)
    assert "alice" not in Path(str(draft.files["config.json"])).read_text()
    assert "org/name" in Path(str(draft.files["tokenizer_config.json"])).read_text()
    assert any(text.startswith("config.json is published without") for text in notes(events))
    assert (theirs / "config.json").read_bytes() == kept
    AutoModelForCausalLM.from_pretrained(Path(str(draft.files["config.json"])).parent)


def test_weights_that_are_no_numbers_are_refused_by_name(theirs: Path, tiny_llama: Path) -> None:
    tensors = load_file(theirs / "model.safetensors")
    tensors["model.norm.weight"][3] = float("inf")
    save_file(tensors, theirs / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ParityError, match="weights_are_numbers") as refused:
        taken(theirs, tiny_llama)
    assert "model.norm.weight" in str(refused.value)
    assert "logits_are_numbers" in str(refused.value)


def test_a_model_that_does_not_stop_is_refused(theirs: Path, tiny_llama: Path) -> None:
    edit(theirs / "generation_config.json", eos_token_id=[5, 7])
    with pytest.raises(ParityError, match="end_of_turn") as refused:
        taken(theirs, tiny_llama)
    assert refused.value.fix is not None
    assert "eos_token_id in generation_config.json" in refused.value.fix


def test_the_base_itself_is_not_a_tuned_model(tmp_path: Path, tiny_llama: Path) -> None:
    folder = tmp_path / "same"
    folder.mkdir()
    for path in tiny_llama.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ParityError, match="unlike_base"):
        taken(folder, tiny_llama)


def test_a_folder_that_changed_since_it_was_adopted_is_refused(
    theirs: Path, tiny_llama: Path
) -> None:
    store, model = Store(theirs.parent / "store"), resolve(str(theirs))
    spec = AdoptSpec(resolve(str(tiny_llama)), "--base-model", model.files, model)
    sealed = seal(store, "adopt", adopt(spec, store=store))
    edit(theirs / "generation_config.json", max_length=7)
    with pytest.raises(ModelError, match="was changed since it was adopted"):
        take(TakeSpec(resolve(str(theirs))), checkpoint=sealed, store=store)


def test_a_merge_s_parents_and_recipe_come_with_it_and_only_with_it(
    theirs: Path, tiny_llama: Path
) -> None:
    store, model = Store(theirs.parent / "store"), resolve(str(theirs))
    spec = AdoptSpec(resolve(str(tiny_llama)), "--base-model", model.files, model, name="theirs")
    adopted = seal(store, "adopt", adopt(spec, store=store))
    body = ExportBody(
        format="safetensors",
        dtype="float32",
        base=spec.base.ref,
        parents=[spec.base.ref, model.ref],
        recipe={"method": "linear"},
        model_digest=model.digest,
        parity={"checks": []},
        passed=True,
    )
    merge = seal(store, "merge_models", Draft("export", "merged", body))
    made = take(TakeSpec(model, theirs.parent), checkpoint=adopted, export=merge, store=store)
    assert (made.body.parents, made.body.recipe) == (body.parents, body.recipe)
    other = body.model_copy(update={"model_digest": "0" * 64})
    merge = seal(store, "merge_models", Draft("export", "other", other))
    with pytest.raises(ModelError, match="theirs is not export/other@v1"):
        take(TakeSpec(model, theirs.parent), checkpoint=adopted, export=merge, store=store)


def test_what_is_taken_goes_with_its_draft(theirs: Path, tiny_llama: Path) -> None:
    draft = taken(theirs, tiny_llama)
    place = Path(str(draft.files["config.json"])).parent
    assert place.is_dir()
    del draft
    assert not place.exists()


def test_logits_come_from_the_very_files(theirs: Path, tiny_llama: Path) -> None:
    draft = taken(theirs, tiny_llama)
    one = AutoModelForCausalLM.from_pretrained(theirs)
    other = AutoModelForCausalLM.from_pretrained(Path(str(draft.files["config.json"])).parent)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(one(ids).logits, other(ids).logits)
