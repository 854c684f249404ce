from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from nexa.core.errors import ModelError, TrainingError, VocabularyError, WeightsError
from nexa.core.events import Event, listening
from nexa.core.identity import sha256_file
from nexa.core.records import Artifact, CheckpointBody, DatasetBody, Draft
from nexa.core.store import Store
from nexa.lm import adapters
from nexa.lm import load as loading
from nexa.lm.adapters import LoraSpec
from nexa.lm.load import load, release
from nexa.lm.resolve import ModelFiles, resolve
from nexa.train.finetune import finetune
from nexa.train.spec import OptimizerSpec, SchedulerSpec, TrainSpec
from tests.support.tiny import write_tiny_model
from tests.train.sample import conversation, dataset

SMALL: dict[str, Any] = {
    "lora": LoraSpec(rank=4, alpha=8.0),
    "optimizer": OptimizerSpec(lr=1e-2),
    "precision": "float32",
    "batch_size": 4,
    "epochs": 2,
}


@pytest.fixture(scope="module")
def base(tiny_llama: Path) -> Iterator[ModelFiles]:
    yield resolve(str(tiny_llama))
    release()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def rows(store: Store, tmp_path: Path) -> Artifact[DatasetBody]:
    return dataset(
        store, tmp_path, [conversation(i) for i in range(10)], [conversation(77)], max_length=128
    )


def contents(draft: Draft[CheckpointBody]) -> dict[str, bytes]:
    return {
        name: content if isinstance(content, bytes) else content.read_bytes()
        for name, content in draft.files.items()
    }


def weights(files: ModelFiles, dtype: str = "float32") -> dict[str, torch.Tensor]:
    """What the process's one loaded model holds now, without loading it again."""
    (slot,) = [
        slot
        for slot in loading._slots.values()
        if str(slot.model.dtype) == f"torch.{dtype}" and slot.files.digest == files.digest
    ]
    return {name: tensor.clone() for name, tensor in slot.model.state_dict().items()}


def test_a_checkpoint_holds_the_adapter_and_how_it_was_made(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    draft = finetune(TrainSpec(base, name="mine", **SMALL), dataset=rows, store=store)
    files = contents(draft)
    assert sorted(files) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "losses.jsonl",
        "resolved.json",
    ]
    body = draft.body
    assert (draft.kind, draft.name, body.method) == ("checkpoint", "mine", "lora")
    assert (body.rank, body.alpha, body.seed) == (4, 8.0, 0)
    assert body.target_modules == [
        *("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    ]
    assert (body.steps, body.rows, body.epochs) == (6, 10, 2.0)
    losses = [json.loads(line) for line in files["losses.jsonl"].splitlines()]
    assert [line["step"] for line in losses] == [1, 2, 3, 4, 5, 6]
    assert losses[0].keys() == {
        *("step", "epoch", "loss", "lr", "tokens", "label_tokens", "grad_norm")
    }
    assert body.tokens_trained == sum(line["tokens"] for line in losses)
    assert body.label_tokens == sum(line["label_tokens"] for line in losses)
    assert body.first_loss == losses[0]["loss"]
    assert len(body.epoch_losses) == 2
    assert body.final_loss == body.epoch_losses[-1] < body.epoch_losses[0]
    assert body.base == base.ref
    sealed = store.seal(draft, step={}, fingerprint="1" * 64, inputs={})
    assert sealed.files["adapter_model.safetensors"] == body.weights_sha256
    spec, tensors = adapters.read(store.checkout(sealed, tmp_path / "out"))
    assert (spec.rank, spec.alpha) == (4, 8.0)
    assert body.trainable_parameters == sum(t.numel() for t in tensors.values())


def test_every_automatic_choice_is_written_down(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    spec = TrainSpec(base, scheduler=SchedulerSpec(warmup_ratio=0.5), **SMALL)
    draft = finetune(spec, dataset=rows, store=store)
    resolved = json.loads(contents(draft)["resolved.json"])
    assert resolved["precision"] == draft.body.precision == "float32"
    assert resolved["threads"] == torch.get_num_threads()
    assert resolved["max_length"] == 128
    assert resolved["micro_tokens"] == 4096
    assert resolved["warmup_steps"] == 3
    assert resolved["layout"] == "flat"
    assert "flat" in draft.body.engine
    assert "label-only head" in draft.body.engine


def test_equal_runs_give_equal_bytes_and_another_seed_others(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    first = contents(finetune(TrainSpec(base, **SMALL), dataset=rows, store=store))
    torch.manual_seed(99)
    again = contents(finetune(TrainSpec(base, **SMALL), dataset=rows, store=store))
    assert again == first
    other = contents(finetune(TrainSpec(base, seed=1, **SMALL), dataset=rows, store=store))
    assert other["adapter_model.safetensors"] != first["adapter_model.safetensors"]


def test_eight_times_one_row_is_one_step_of_eight(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    def adapter(batch_size: int, accumulation: int, micro_tokens: int) -> dict[str, torch.Tensor]:
        spec = TrainSpec(
            base,
            **{
                **SMALL,
                "optimizer": OptimizerSpec("sgd", lr=1.0),
                "batch_size": batch_size,
                "gradient_accumulation": accumulation,
                "micro_tokens": micro_tokens,
            },
        )
        draft = finetune(spec, dataset=rows, store=store)
        return load_file(str(draft.files["adapter_model.safetensors"]))

    at_once, one_by_one = adapter(8, 1, 4096), adapter(1, 8, 1)
    for name, tensor in at_once.items():
        assert (one_by_one[name] - tensor).norm() <= 1e-5 * tensor.norm(), name


def test_progress_and_epochs_are_told(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    events: list[Event] = []
    with listening(events.append):
        draft = finetune(TrainSpec(base, **SMALL), dataset=rows, store=store)
    bars = [e for e in events if e["kind"] == "progress" and e["task"] == "training"]
    assert [bar["done"] for bar in bars] == [1, 2, 3, 4, 5, 6]
    assert bars[0].keys() >= {"loss", "lr", "tokens_per_s"}
    epochs = [e for e in events if e["kind"] == "train.epoch"]
    assert [(e["epoch"], e["epochs"]) for e in epochs] == [(1, 2), (2, 2)]
    assert [e["loss"] for e in epochs] == draft.body.epoch_losses


def test_part_of_an_epoch_is_told_too(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    events: list[Event] = []
    spec = TrainSpec(base, **{**SMALL, "epochs": None, "max_steps": 4})
    with listening(events.append):
        draft = finetune(spec, dataset=rows, store=store)
    assert draft.body.epochs == pytest.approx(4 / 3)
    assert [e["epoch"] for e in events if e["kind"] == "train.epoch"] == [1, 2]


def test_the_loaded_model_is_the_base_again(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    before = {n: t.clone() for n, t in load(base, dtype="float32").model.state_dict().items()}
    for spec in (TrainSpec(base, **SMALL, engine="generic"), full(base)):
        finetune(spec, dataset=rows, store=store)
        after = weights(base)
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        model = load(base, dtype="float32").model
        assert all(p.requires_grad and p.grad is None for p in model.parameters())
        assert not model.training


def full(base: ModelFiles, **changes: Any) -> TrainSpec:
    settings = {**SMALL, "lora": None, "method": "full", "optimizer": OptimizerSpec(lr=1e-3)}
    return TrainSpec(base, **{**settings, **changes})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_weights_can_be_trained(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, precision: str
) -> None:
    draft = finetune(full(base, precision=precision), dataset=rows, store=store)
    body = draft.body
    assert (body.method, body.rank, body.target_modules) == ("full", None, [])
    assert body.final_loss < body.epoch_losses[0]
    path = draft.files["model.safetensors"]
    assert isinstance(path, Path)
    assert body.weights_sha256 == sha256_file(path)
    trained = load_file(path)
    start = load(base, dtype="float32").model.state_dict()
    assert trained.keys() == start.keys() - {"lm_head.weight"}  # tied: one name is enough
    assert all(t.dtype == torch.float32 for t in trained.values())
    assert not torch.equal(trained["model.norm.weight"], start["model.norm.weight"])
    assert body.trainable_parameters == sum(t.numel() for t in trained.values())


def test_bfloat16_learns_as_float32_does(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    exact = finetune(TrainSpec(base, **SMALL), dataset=rows, store=store).body
    short = TrainSpec(base, **{**SMALL, "precision": "bfloat16"})
    rounded = finetune(short, dataset=rows, store=store).body
    assert rounded.precision == "bfloat16"
    assert rounded.epoch_losses == pytest.approx(exact.epoch_losses, abs=0.02)


def test_a_rate_of_nothing_changes_nothing_and_stops(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    spec = TrainSpec(base, **{**SMALL, "optimizer": OptimizerSpec(lr=0.0)})
    with pytest.raises(TrainingError, match="changed nothing"):
        finetune(spec, dataset=rows, store=store)


def test_weights_that_are_not_numbers_stop_before_the_first_step(
    rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    folder = write_tiny_model(tmp_path / "broken", seed=3)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] *= float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="weights are not numbers") as caught:
        finetune(TrainSpec(resolve(str(folder)), **SMALL), dataset=rows, store=store)
    assert "model.norm.weight" in str(caught.value.found)


def test_a_tokenizer_of_a_larger_model_stops_before_the_first_step(
    rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    folder = write_tiny_model(tmp_path / "cut")
    model = LlamaForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(100)
    model.save_pretrained(folder)
    with pytest.raises(VocabularyError, match="does not belong to this model"):
        finetune(TrainSpec(resolve(str(folder)), **SMALL), dataset=rows, store=store)


def test_scratch_space_is_empty_after_a_failure_and_when_the_draft_is_gone(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    still = {**SMALL, "optimizer": OptimizerSpec(lr=0.0)}
    with pytest.raises(TrainingError):
        finetune(TrainSpec(base, scratch=scratch, **still), dataset=rows, store=store)
    assert not list(scratch.iterdir())
    draft = finetune(TrainSpec(base, scratch=scratch, **SMALL), dataset=rows, store=store)
    assert list(scratch.iterdir())
    del draft
    assert not list(scratch.iterdir())


def test_a_base_that_carries_an_adapter_is_refused(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    spec = TrainSpec(replace(base, adapter=tmp_path), **SMALL)
    with pytest.raises(ModelError, match="with an adapter on it"):
        finetune(spec, dataset=rows, store=store)
