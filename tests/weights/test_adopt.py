from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nexa.core.errors import IntegrityError, ModelError, WeightsError
from nexa.core.events import Event, listening
from nexa.core.identity import sha256_file
from nexa.core.methods import method_told
from nexa.core.records import AdoptedBody, Draft
from nexa.core.store import Store
from nexa.lm.folder import ADAPTER_FILES
from nexa.lm.resolve import resolve
from nexa.weights.adopt import AdoptSpec, adopt
from nexa.weights.merge_adapter import MergeSpec, merge_adapter
from tests.support.chain import seal
from tests.support.foreign import CONFIG, WEIGHTS, full_model, peft_adapter
from tests.support.project import notes

# PEFT 0.21 asks transformers for a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


def adopted(folder: Path, base: Path, **more: Any) -> Draft[AdoptedBody]:
    found = {name: sha256_file(folder / name) for name in ADAPTER_FILES}
    spec = AdoptSpec(resolve(str(base)), "--base-model", found, adapter=folder, **more)
    return adopt(spec, store=Store(folder / "store"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_adapter_is_recorded_by_what_its_files_say(tmp_path: Path, tiny_llama: Path) -> None:
    folder = peft_adapter(tmp_path / "adapter", tiny_llama)
    body = adopted(folder, tiny_llama, left_out=("README.md",), trainer_step=3).body
    assert (body.method, body.rank, body.alpha) == ("lora", 4, 8)
    assert body.target_modules == ["q_proj", "v_proj"]
    assert body.weights_sha256 == sha256_file(folder / WEIGHTS)
    assert body.base.name == tiny_llama.name
    assert (body.left_out, body.trainer_step) == (["README.md"], 3)
    assert body.end_of_turn == [2]


def test_an_adopted_adapter_is_merged_with_its_proof(tmp_path: Path, tiny_llama: Path) -> None:
    store, base = Store(tmp_path / "store"), resolve(str(tiny_llama))
    sealed = seal(store, "adopt", adopted(peft_adapter(tmp_path / "a", tiny_llama), tiny_llama))
    export = merge_adapter(MergeSpec(base, scratch=tmp_path), checkpoint=sealed, store=store)
    assert export.body.passed
    before = load_file(base.folder / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    merged = load_file(Path(str(export.files["model.safetensors"])))
    assert not torch.equal(before, merged["model.layers.0.self_attn.q_proj.weight"].float())


def test_a_path_of_this_machine_is_not_published_as_the_base(
    tmp_path: Path, tiny_llama: Path
) -> None:
    folder = peft_adapter(tmp_path / "adapter", tiny_llama)
    events: list[Event] = []
    with listening(events.append):
        files = adopted(folder, tiny_llama).files
    public = files[CONFIG]
    assert isinstance(public, bytes)
    assert json.loads(public)["base_model_name_or_path"] == tiny_llama.name
    assert str(tiny_llama) not in public.decode()
    assert "is published with the base tiny-llama" in notes(events)[0]
    edit(folder / CONFIG, base_model_name_or_path=tiny_llama.name)
    assert adopted(folder, tiny_llama).files[CONFIG] == folder / CONFIG


def test_an_adapter_that_took_a_part_out_of_its_base_is_refused(
    tmp_path: Path, tiny_llama: Path
) -> None:
    folder = peft_adapter(tmp_path / "adapter", tiny_llama, init_lora_weights="gaussian")
    adopted(folder, tiny_llama)
    edit(folder / CONFIG, init_lora_weights="pissa_niter_4")
    with pytest.raises(ModelError, match="not a change of its base") as refused:
        adopted(folder, tiny_llama)
    assert refused.value.found == "init_lora_weights: pissa_niter_4"


@pytest.mark.parametrize(
    ("options", "variant"),
    [
        ({}, None),
        ({"use_rslora": True}, "rslora"),
        ({"use_dora": True}, "dora"),
        ({"use_dora": True, "use_rslora": True}, "dora+rslora"),
    ],
)
def test_every_kind_of_pefts_is_merged_with_its_proof(
    options: dict[str, bool], variant: str | None, tmp_path: Path, tiny_llama: Path
) -> None:
    store, base = Store(tmp_path / "store"), resolve(str(tiny_llama))
    folder = peft_adapter(tmp_path / "adapter", tiny_llama, **options)
    draft = adopted(folder, tiny_llama)
    assert draft.body.variant == variant
    sealed = seal(store, "adopt", draft)
    export = merge_adapter(MergeSpec(base, "float32"), checkpoint=sealed, store=store)
    assert export.body.passed
    assert_peft_merges_the_same(folder, tiny_llama, export.files["model.safetensors"])


def test_layers_of_unlike_rank_and_alpha_are_recorded_and_merged(
    tmp_path: Path, tiny_llama: Path
) -> None:
    store, base = Store(tmp_path / "store"), resolve(str(tiny_llama))
    folder = peft_adapter(
        tmp_path / "adapter",
        tiny_llama,
        rank_pattern={"q_proj": 2, r"layers\.1\..*v_proj": 8},
        alpha_pattern={"v_proj": 32},
    )
    draft = adopted(folder, tiny_llama)
    assert (draft.body.rank, draft.body.ranks) == (4, [2, 4, 8])
    assert (draft.body.alpha, draft.body.alphas) == (8, [8, 32])
    assert method_told(draft.body).startswith("LoRA, rank 2 / 4 / 8, alpha 8 / 32, on q_proj")
    sealed = seal(store, "adopt", draft)
    export = merge_adapter(MergeSpec(base, "float32"), checkpoint=sealed, store=store)
    assert export.body.passed
    assert_peft_merges_the_same(folder, tiny_llama, export.files["model.safetensors"])


def test_a_pattern_that_fits_every_layer_is_their_one_rank(
    tmp_path: Path, tiny_llama: Path
) -> None:
    patterns: dict[str, Any] = {"rank_pattern": {".*": 2}, "alpha_pattern": {".*": 16}}
    body = adopted(peft_adapter(tmp_path / "adapter", tiny_llama, **patterns), tiny_llama).body
    assert (body.rank, body.ranks, body.alpha, body.alphas) == (2, None, 16, None)
    assert "ranks" not in body.model_dump()


def assert_peft_merges_the_same(folder: Path, base: Path, merged: bytes | Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    oracle = PeftModel.from_pretrained(model, folder).merge_and_unload().state_dict()
    tensors = load_file(Path(str(merged)))
    assert "model.layers.1.self_attn.v_proj.weight" in tensors
    for name, tensor in tensors.items():
        assert torch.allclose(tensor, oracle[name], rtol=1e-5, atol=1e-6), name


def test_what_is_no_change_of_weights_is_refused(tmp_path: Path, tiny_llama: Path) -> None:
    folder = peft_adapter(tmp_path / "adapter", tiny_llama, bias="all")
    with pytest.raises(ModelError, match="not plain LoRA, rsLoRA or DoRA"):
        adopted(folder, tiny_llama)


def test_weights_that_are_no_numbers_are_named(tmp_path: Path, tiny_llama: Path) -> None:
    folder = peft_adapter(tmp_path / "adapter", tiny_llama)
    tensors = load_file(folder / WEIGHTS)
    name = sorted(tensors)[0]
    tensors[name][0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(WeightsError, match="not numbers") as refused:
        adopted(folder, tiny_llama)
    assert refused.value.found == name


def test_a_file_that_changes_in_between_is_named(tmp_path: Path, tiny_llama: Path) -> None:
    folder = peft_adapter(tmp_path / "adapter", tiny_llama)
    found = {name: sha256_file(folder / name) for name in ADAPTER_FILES}
    edit(folder / CONFIG, lora_alpha=800)
    spec = AdoptSpec(resolve(str(tiny_llama)), "--base-model", found, adapter=folder)
    with pytest.raises(IntegrityError, match="was changed while it was read") as refused:
        adopt(spec, store=Store(tmp_path / "store"))
    assert refused.value.found == CONFIG


def test_a_whole_model_is_recorded_by_its_digests(tmp_path: Path, tiny_llama: Path) -> None:
    whole = resolve(str(full_model(tmp_path / "full", tiny_llama)))
    spec = AdoptSpec(resolve(str(tiny_llama)), "--base-model", whole.files, whole)
    draft = adopt(spec, store=Store(tmp_path / "store"))
    assert draft.body.method == "full"
    assert draft.body.weights_sha256 == whole.digest
    assert draft.files == {}


def test_nothing_is_not_adopted(tmp_path: Path, tiny_llama: Path) -> None:
    with pytest.raises(ModelError, match="nothing to adopt"):
        adopt(AdoptSpec(resolve(str(tiny_llama)), "", {}), store=Store(tmp_path))
