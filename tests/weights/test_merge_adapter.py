from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nexa.core.errors import ModelError, ParityError
from nexa.core.records import Artifact, CheckpointBody, Draft, ExportBody
from nexa.core.store import Store
from nexa.lm.adapters import LoraSpec
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles, resolve
from nexa.train.finetune import finetune
from nexa.train.spec import OptimizerSpec, TrainSpec
from nexa.weights import generic_logits
from nexa.weights.merge_adapter import MergeSpec, merge_adapter
from tests.support import chain
from tests.support.tiny import write_tiny_model
from tests.train.sample import conversation, dataset
from tests.weights.other_family import write_gpt_neox, write_granite

IDS = torch.tensor([[1, 40, 41, 42, 2, 99]])


def export(draft: Draft[ExportBody], store: Store, folder: Path) -> Path:
    return store.checkout(chain.seal(store, "merge", draft), folder)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_merged_weights_are_what_peft_itself_merges(
    base: ModelFiles, checkpoint: Artifact[CheckpointBody], store: Store, tmp_path: Path
) -> None:
    draft = merge_adapter(MergeSpec(base), checkpoint=checkpoint, store=store)

    folder = export(draft, store, tmp_path / "out")
    adapter = store.checkout(checkpoint, tmp_path / "adapter")
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    oracle = PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert tensor.dtype is torch.bfloat16
        # Peft multiplies in another order: at most one rounding step apart.
        assert torch.allclose(tensor.float(), oracle[name], rtol=2**-8, atol=1e-6), name


def test_the_folder_loads_with_plain_transformers_and_stops_at_the_end_of_turn(
    base: ModelFiles, checkpoint: Artifact[CheckpointBody], store: Store, tmp_path: Path
) -> None:
    draft = merge_adapter(MergeSpec(base), checkpoint=checkpoint, store=store)

    folder = export(draft, store, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype is torch.bfloat16
    assert model.config.tie_word_embeddings is True
    eos = model.generation_config.eos_token_id
    assert checkpoint.body.end_of_turn[-1] in (eos if isinstance(eos, list) else [eos])
    assert tokenizer.chat_template
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")


def test_the_record_names_the_model_as_resolve_names_the_folder(
    base: ModelFiles, checkpoint: Artifact[CheckpointBody], store: Store, tmp_path: Path
) -> None:
    draft = merge_adapter(MergeSpec(base), checkpoint=checkpoint, store=store)

    folder = export(draft, store, tmp_path / "out")
    assert draft.body.model_digest == resolve(str(folder)).digest
    assert draft.body.passed
    assert json.loads((folder / "parity.json").read_bytes()) == draft.body.parity


@pytest.mark.parametrize("architecture", ["mistral", "qwen2", "qwen3"])
def test_other_architectures_merge_too(architecture: str, store: Store, tmp_path: Path) -> None:
    model = resolve(str(write_tiny_model(tmp_path / "base", architecture, tied=False)))
    trained = chain.seal(store, "finetune", chain.checkpoint_draft(model, tmp_path / "trained"))

    draft = merge_adapter(MergeSpec(model), checkpoint=trained, store=store)

    assert draft.body.passed


@pytest.mark.parametrize("tied", [True, False])
def test_a_family_that_only_transformers_computes_merges_too(
    store: Store, tmp_path: Path, tied: bool
) -> None:
    model = resolve(str(write_granite(tmp_path / "base", tied=tied)))
    trained = chain.seal(store, "finetune", chain.checkpoint_draft(model, tmp_path / "trained"))

    draft = merge_adapter(MergeSpec(model), checkpoint=trained, store=store)

    assert draft.body.passed
    assert draft.body.parity["logits_by"].startswith("transformers: ")
    told = {check["name"]: check["value"] for check in draft.body.parity["checks"]}
    assert told["tied_embeddings"] == {"tie": tied, "wrong": []}
    assert told["merge_is_the_live_adapter"] < 1e-5


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("full", [True, False], ids=["full", "adapter"])
def test_a_family_whose_head_transformers_renames_merges_too(
    store: Store, tmp_path: Path, tied: bool, full: bool
) -> None:
    model = resolve(str(write_gpt_neox(tmp_path / "base", tied=tied)))
    trained = chain.full_checkpoint_draft if full else chain.checkpoint_draft
    made = chain.seal(store, "finetune", trained(model, tmp_path / "trained"))

    draft = merge_adapter(MergeSpec(model), checkpoint=made, store=store)

    assert draft.body.passed
    names = set(load_file(draft.files["model.safetensors"]))
    assert ("embed_out.weight" in names, "lm_head.weight" in names) == (not tied, False)


def test_a_head_that_is_not_among_the_weights_is_told_by_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = resolve(str(write_gpt_neox(tmp_path / "base")))
    trained = chain.seal(store, "finetune", chain.checkpoint_draft(model, tmp_path / "trained"))
    monkeypatch.setattr(generic_logits, "get_model_conversion_mapping", lambda _: [])

    with pytest.raises(ParityError, match=r"tied_embeddings(.|\n)*lm_head.weight"):
        merge_adapter(MergeSpec(model), checkpoint=trained, store=store)


def test_a_fully_trained_family_that_only_transformers_computes_gets_its_proof(
    store: Store, tmp_path: Path
) -> None:
    model = resolve(str(write_granite(tmp_path / "base")))
    made = chain.full_checkpoint_draft(model, tmp_path / "trained")

    draft = merge_adapter(
        MergeSpec(model), checkpoint=chain.seal(store, "finetune", made), store=store
    )

    assert draft.body.passed


@pytest.mark.parametrize(
    "spec",
    [
        LoraSpec(rank=4, alpha=8.0, rslora=True),
        LoraSpec(rank=4, alpha=8.0, dora=True),
        LoraSpec(rank=4, alpha=8.0, dora=True, rank_pattern={"mlp.*": 2}),
    ],
    ids=["rslora", "dora", "unlike ranks"],
)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_other_kinds_of_adapter_merge_too(
    architecture: str, spec: LoraSpec, store: Store, tmp_path: Path
) -> None:
    model = resolve(str(write_tiny_model(tmp_path / "base", architecture)))
    made = chain.checkpoint_draft(model, tmp_path / "trained", spec=spec)
    trained = chain.seal(store, "finetune", made)

    draft = merge_adapter(MergeSpec(model), checkpoint=trained, store=store)

    assert draft.body.passed
    live = {check["name"]: check["value"] for check in draft.body.parity["checks"]}
    assert live["merge_is_the_live_adapter"] < 1e-5


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "lora",
    [
        LoraSpec(rank=4, alpha=8.0, dropout=0.1, dora=True),
        LoraSpec(rank=4, alpha=8.0, dora=True, rslora=True, plus_ratio=4.0),
        LoraSpec(rank=4, alpha=8.0, rslora=True),
    ],
    ids=["dora", "dora+rslora with LoRA+", "rslora"],
)
def test_what_a_training_makes_of_them_is_what_peft_reads(
    lora: LoraSpec, base: ModelFiles, store: Store, tmp_path: Path
) -> None:
    rows = dataset(store, tmp_path, [conversation(i) for i in range(8)], [], max_length=128)
    spec = TrainSpec(
        base,
        lora=lora,
        optimizer=OptimizerSpec(lr=1e-2),
        precision="float32",
        batch_size=2,
        epochs=4,
    )
    trained = finetune(spec, dataset=rows, store=store)
    assert trained.body.variant == lora.variant
    assert trained.body.final_loss < trained.body.first_loss - 0.1
    sealed = chain.seal(store, "finetune", trained)

    draft = merge_adapter(MergeSpec(base, "float32"), checkpoint=sealed, store=store)

    adapter = store.checkout(sealed, tmp_path / "adapter")
    ours = AutoModelForCausalLM.from_pretrained(export(draft, store, tmp_path / "out"))
    plain = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, adapter)
    assert torch.allclose(logits(ours), logits(theirs), atol=1e-4)


def test_a_changed_lm_head_is_untied_and_both_are_written(
    base: ModelFiles, store: Store, tmp_path: Path
) -> None:
    trained = chain.seal(
        store, "finetune", chain.checkpoint_draft(base, tmp_path / "trained", head=True)
    )

    draft = merge_adapter(MergeSpec(base, dtype="float32"), checkpoint=trained, store=store)

    folder = export(draft, store, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.tie_word_embeddings is False
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    original = AutoModelForCausalLM.from_pretrained(base.folder)
    assert torch.equal(model.model.embed_tokens.weight, original.model.embed_tokens.weight)


@pytest.mark.parametrize("untie", [False, True])
def test_a_fully_trained_checkpoint_gets_the_same_folder(
    base: ModelFiles, store: Store, tmp_path: Path, untie: bool
) -> None:
    trained = chain.seal(
        store, "finetune", chain.full_checkpoint_draft(base, tmp_path / "trained", untie=untie)
    )

    draft = merge_adapter(MergeSpec(base, dtype="float32"), checkpoint=trained, store=store)

    folder = export(draft, store, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(folder)
    wanted = AutoModelForCausalLM.from_pretrained(tmp_path / "trained", dtype=torch.float32)
    assert torch.equal(logits(model), logits(wanted))
    assert model.config.tie_word_embeddings is not untie


def test_a_large_model_is_written_in_shards(
    base: ModelFiles, checkpoint: Artifact[CheckpointBody], store: Store, tmp_path: Path
) -> None:
    whole = merge_adapter(MergeSpec(base), checkpoint=checkpoint, store=store)
    cut = merge_adapter(MergeSpec(base, shard_bytes=20_000), checkpoint=checkpoint, store=store)

    assert "model.safetensors.index.json" in cut.files
    one, many = (export(d, store, tmp_path / n) for d, n in ((whole, "one"), (cut, "many")))
    models = [AutoModelForCausalLM.from_pretrained(folder) for folder in (one, many)]
    assert torch.equal(logits(models[0]), logits(models[1]))
    assert resolve(str(many)).digest == cut.body.model_digest


def test_two_merges_of_the_same_checkpoint_are_the_same_bytes(
    base: ModelFiles, checkpoint: Artifact[CheckpointBody], store: Store
) -> None:
    drafts = [merge_adapter(MergeSpec(base), checkpoint=checkpoint, store=store) for _ in "12"]

    assert drafts[0].body == drafts[1].body


def test_another_base_than_the_trained_one_is_refused(
    checkpoint: Artifact[CheckpointBody], store: Store, tmp_path: Path
) -> None:
    other = resolve(str(write_tiny_model(tmp_path / "other", seed=5)))

    with pytest.raises(ModelError, match="was not trained on other"):
        merge_adapter(MergeSpec(other), checkpoint=checkpoint, store=store)


def test_a_failing_check_stops_the_step_and_leaves_nothing_behind(
    base: ModelFiles, store: Store, tmp_path: Path
) -> None:
    trained = chain.seal(
        store,
        "finetune",
        chain.checkpoint_draft(base, tmp_path / "trained", template_sha256="f" * 64),
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    with pytest.raises(ParityError, match="template"):
        merge_adapter(MergeSpec(base, scratch=scratch), checkpoint=trained, store=store)

    assert not list(scratch.iterdir())


def test_scratch_is_emptied_when_the_draft_is_gone(
    base: ModelFiles, checkpoint: Artifact[CheckpointBody], store: Store, tmp_path: Path
) -> None:
    spec = MergeSpec(base, scratch=tmp_path / "scratch")
    assert spec.scratch is not None
    spec.scratch.mkdir()
    draft = merge_adapter(spec, checkpoint=checkpoint, store=store)
    assert list(spec.scratch.iterdir())

    del draft
    gc.collect()

    assert not list(spec.scratch.iterdir())


def test_a_model_without_a_chat_template_is_given_the_one_it_was_trained_in(
    store: Store, tmp_path: Path
) -> None:
    bare = resolve(str(write_tiny_model(tmp_path / "bare", chat_template=None)))
    made = chain.checkpoint_draft(bare, tmp_path / "trained")
    checkpoint = chain.seal(store, "finetune", made)
    draft = merge_adapter(MergeSpec(bare), checkpoint=checkpoint, store=store)

    folder = export(draft, store, tmp_path / "out")
    served = ChatTemplate(AutoTokenizer.from_pretrained(folder))
    trained = ChatTemplate(AutoTokenizer.from_pretrained(bare.folder))
    assert (served.name, trained.name) == ("tokenizer", "PLAIN")
    assert served.sha256 == trained.sha256
