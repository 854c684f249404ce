"""QLoRA from `nexa init` to a published folder that verifies, by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nexa.core.records import CheckpointBody
from nexa.core.tiers import Tiers
from tests.support.project import rows, write_rows
from tests.support.tiny import write_tiny_model
from tests.walk.test_walk import Walk


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """The three commands."""
    folder = tmp_path_factory.mktemp("qlora")
    write_tiny_model(folder / "tiny-llama")
    write_rows(folder / "data" / "train.jsonl", rows(range(40)))
    write_rows(folder / "data" / "eval.jsonl", rows(range(100, 110)))
    walk = Walk(folder)
    walk.nexa("init", "--base", "./tiny-llama", "--method", "qlora", "--data", "./data")
    walk.nexa("train")
    walk.nexa("publish", "--repo", "you/walked", "--hub", "local")
    return walk


def checkpoint(walk: Walk) -> CheckpointBody:
    body: Any = Tiers.of(walk.folder).store.get("checkpoint", "tiny-llama-data").body
    assert isinstance(body, CheckpointBody)
    return body


def test_what_was_published_verifies_and_names_the_method(walk: Walk) -> None:
    walk.nexa("verify", str(walk.published))
    card = (walk.published / "README.md").read_text()
    assert "fine-tuned (a QLoRA adapter, merged) on 40 rows" in card
    assert "the frozen base in NF4 with double quantisation" in card
    assert '- "qlora"' in card
    assert "QLoRA" in walk.nexa("runs", "show")


def test_the_record_says_what_the_adapter_was_trained_on_and_that_it_learned(walk: Walk) -> None:
    body = checkpoint(walk)
    assert (body.quantization, body.double_quantization) == ("nf4", True)
    assert body.final_loss < body.first_loss
    assert json.loads((walk.folder / "output" / "parity.json").read_bytes())["passed"] is True


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_its_adapter_is_plain_lora_for_the_plain_base(walk: Walk) -> None:
    adapter: Path = walk.published / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_bytes())
    assert config["peft_type"] == "LORA"
    base = AutoModelForCausalLM.from_pretrained(walk.folder / "tiny-llama", dtype=torch.float32)
    ids = torch.tensor([[1, 40, 41, 42, 2, 99]])
    with torch.no_grad():
        before = base(ids).logits
        after = PeftModel.from_pretrained(base, adapter)(ids).logits
    assert not torch.allclose(before, after, atol=1e-3)
    merged = load_file(walk.published / "model.safetensors")
    plain = load_file(walk.folder / "tiny-llama" / "model.safetensors")
    embedding = "model.embed_tokens.weight"
    assert torch.equal(merged[embedding], plain[embedding].bfloat16())
