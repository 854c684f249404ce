"""Models as other tools leave them: made by real PEFT and real transformers on the tiny model."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def peft_adapter(
    folder: Path, base: Path, *, seed: int = 0, strength: float = 0.05, **options: Any
) -> Path:
    """An adapter that plain PEFT saved; both matrices random."""
    model = AutoModelForCausalLM.from_pretrained(base)
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    config = LoraConfig(**settings | {"task_type": "CAUSAL_LM"} | options)
    with warnings.catch_warnings():  # PEFT asks transformers under a name that is going away
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * strength)
    adapted.save_pretrained(str(folder))
    return folder


def full_model(folder: Path, base: Path, *, seed: int = 1, strength: float = 0.01) -> Path:
    """A whole model that transformers saved: the base with every weight moved a little."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * strength)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def as_trainer_checkpoint(folder: Path, step: int = 60) -> Path:
    """The files that transformers' Trainer puts beside a model."""
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (folder / "optimizer.pt").write_bytes(b"\x80a pickle")
    (folder / "training_args.bin").write_bytes(b"\x80a pickle")
    return folder
