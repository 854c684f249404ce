"""Tiny models whose answers do not repeat one token, and their answers by the slowest way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from nexa.lm.resolve import ModelFiles, resolve
from tests.support.tiny import tiny_model, tiny_tokenizer


def write_lively(
    folder: Path, architecture: str = "llama", *, tied: bool = False, seed: int = 0, **config: Any
) -> ModelFiles:
    """A model folder with large random weights, biases and norms among them.

    `config` has settings that do not change a tensor's shape (a window, a scaled rotation).
    """
    model = tiny_model(architecture, tied=tied)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if name.endswith("norm.weight") else 0.0
            parameter.normal_(mean, 0.3, generator=random)
    model.config.update(config)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return resolve(str(folder))


def prompts_of(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 300, (n,), generator=random).tolist() for n in lengths]


def alone(model: PreTrainedModel, prompt: list[int], n: int, stop: Collection[int]) -> list[int]:
    """The whole text through transformers for every token: no cache, no batch, no padding."""
    ids = list(prompt)
    for _ in range(n):
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token in stop:
            break
        ids.append(token)
    return ids[len(prompt) :]


def stops_that_happen(model: PreTrainedModel, prompts: list[list[int]], n: int) -> tuple[int, ...]:
    """Tokens that some of these answers hold and others do not: rows end at different times."""
    free = [alone(model, prompt, n, ()) for prompt in prompts]
    return tuple({free[0][3], free[1][9], free[2][0]})
