from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from nexa.weights.generic_logits import folder_logits, refilled_logits
from nexa.weights.tensors import model_weights
from tests.weights.other_family import write_granite

TEXTS = [[5, 6, 7, 8], [9, 10]]


def test_logits_of_a_folder_are_those_of_its_texts_one_by_one(tmp_path: Path) -> None:
    folder = write_granite(tmp_path / "model")

    found = folder_logits(folder, TEXTS)

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        wanted = torch.cat([model(torch.tensor([ids])).logits[0] for ids in TEXTS])
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_module_is_given_other_weights_in_place(tmp_path: Path) -> None:
    folder = write_granite(tmp_path / "model", tied=False)
    weights = model_weights(folder)

    own, other = refilled_logits(folder, TEXTS, lambda name: weights.tensor(name) * 1.5)
    again, same = refilled_logits(folder, TEXTS, weights.tensor)

    assert not torch.allclose(own, other, atol=1e-4)
    assert torch.equal(again, same)
