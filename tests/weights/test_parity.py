from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nexa.core.errors import ParityError
from nexa.weights.folder import write_weights
from nexa.weights.merging import Change, MergedWeights, Tuned
from nexa.weights.parity import TensorLook
from nexa.weights.tensors import model_weights
from tests.weights.conftest import Merged

TARGET = "model.layers.0.self_attn.q_proj.weight"


def look(folder: Path, tuned: Tuned) -> TensorLook:
    return TensorLook(model_weights(folder), tuned, torch.bfloat16)


def test_an_honest_merge_passes_every_check(merged: Merged) -> None:
    parity = merged.prove()

    parity.require()
    told = parity.to_json()
    assert told["passed"] is True
    assert told["rounding"] == "float32 to bfloat16, once, to nearest even"
    assert {"applied_once", "tuned_unlike_base", "tied_embeddings"} <= {
        check["name"] for check in told["checks"]
    }


def test_an_adapter_scaled_to_zero_is_caught_by_name(merged: Merged) -> None:
    untouched = MergedWeights(merged.tuned.base, {}, tied=merged.tuned.tied)
    write_weights(untouched, merged.folder, dtype="bfloat16")

    assert {"applied_once", "tuned_unlike_base", "tensors_exact"} <= merged.failures()


def test_an_adapter_applied_twice_is_caught_by_name(merged: Merged) -> None:
    twice = {name: Change(c.a, c.b, 2 * c.scale) for name, c in merged.tuned.changes.items()}
    weights = MergedWeights(merged.tuned.base, twice, tied=merged.tuned.tied)
    write_weights(weights, merged.folder, dtype="bfloat16")

    parity = merged.prove()

    values = {check.name: check.value for check in parity.checks if not check.passed}
    assert values["applied_once"] == pytest.approx(2, abs=0.01)
    assert "tuned_unlike_base" in values


def test_one_module_applied_twice_among_many_is_caught_by_name(merged: Merged) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        before, after = merged.tuned.pair(TARGET)
        tensors[TARGET] = (tensors[TARGET].float() + after - before).bfloat16()

    merged.edit_tensors(spoil)

    assert {"applied_once", "tensors_exact"} <= merged.failures()


@pytest.mark.parametrize(
    "wrong",
    [{"magnitude": None}, {"scale": 2.0}],
    ids=["magnitudes left out", "scaled as plain LoRA"],
)
def test_a_merge_that_takes_another_kind_of_adapter_for_lora_is_caught(
    merged_dora: Merged, wrong: dict[str, Any]
) -> None:
    assert not merged_dora.failures()
    changes = {name: replace(c, **wrong) for name, c in merged_dora.tuned.changes.items()}
    tuned = MergedWeights(merged_dora.tuned.base, changes, tied=merged_dora.tuned.tied)
    write_weights(tuned, merged_dora.folder, dtype="bfloat16")

    assert {"tensors_exact", "applied_once"} <= merged_dora.failures()
    # Nor does it help to be wrong twice: the live adapter is computed by itself.
    parity = merged_dora.prove(tuned)
    assert "merge_is_the_live_adapter" in {c.name for c in parity.checks if not c.passed}


def test_an_lm_head_untied_then_tied_is_caught_by_name(merged_head: Merged) -> None:
    assert not merged_head.failures()
    merged_head.edit_json("config.json", tie_word_embeddings=True)
    merged_head.edit_tensors(lambda tensors: tensors.pop("lm_head.weight"))

    assert {"tied_embeddings", "tensor_names", "rounded_kl_nats"} & merged_head.failures() >= {
        "tied_embeddings",
        "tensor_names",
    }


def test_a_tie_flag_that_contradicts_the_stored_head_is_caught_by_name(merged_head: Merged) -> None:
    merged_head.edit_json("config.json", tie_word_embeddings=True)

    assert "tied_embeddings" in merged_head.failures()


def test_embeddings_that_were_tied_and_come_untied_are_caught_by_name(merged: Merged) -> None:
    merged.edit_json("config.json", tie_word_embeddings=False)
    merged.edit_tensors(
        lambda tensors: tensors.update(
            {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
        )
    )

    assert "tied_embeddings" in merged.failures()


@pytest.mark.parametrize(
    ("old", "new"),
    [("<|im_start|>", "<|im_start|> "), ("assistant\n", "assistant:\n")],
    ids=["other prompts", "no longer a chat template"],
)
def test_an_edited_chat_template_is_caught_by_name(merged: Merged, old: str, new: str) -> None:
    path = merged.folder / "chat_template.jinja"
    path.write_text(path.read_text().replace(old, new))

    assert "template" in merged.failures()


def test_an_edited_tokenizer_is_caught_by_name(merged: Merged) -> None:
    path = merged.folder / "tokenizer.json"
    tokenizer = json.loads(path.read_bytes())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:3]
    path.write_text(json.dumps(tokenizer))

    assert {"token_ids", "template"} <= merged.failures()


def test_an_end_of_turn_that_does_not_stop_is_caught_by_name(merged: Merged) -> None:
    merged.edit_json("generation_config.json", eos_token_id=0)

    assert merged.failures() == {"end_of_turn"}


@pytest.mark.parametrize("bit", [0, 14])
def test_one_flipped_bit_in_one_tensor_is_caught_by_name(merged: Merged, bit: int) -> None:
    def flip(tensors: dict[str, torch.Tensor]) -> None:
        flat = tensors[TARGET].view(torch.int16).view(-1)
        flat[7] ^= 1 << bit

    merged.edit_tensors(flip)

    checks = {check.name: check for check in merged.prove().checks}
    assert not checks["tensors_exact"].passed
    assert checks["tensors_exact"].value == [TARGET]


def test_a_tensor_of_another_shape_is_named(merged: Merged) -> None:
    merged.edit_tensors(lambda tensors: tensors.update({TARGET: tensors[TARGET][:-1]}))

    # Only the stored tensors are asked: transformers refuses such a file by itself.
    checks = {c.name: c for c in look(merged.folder, merged.tuned).checks()}
    assert checks["tensors_exact"].value == [TARGET]


def test_a_config_that_states_another_type_is_caught_by_name(merged: Merged) -> None:
    merged.edit_json("config.json", dtype="float16")

    assert "dtype" in merged.failures()


def test_an_adapter_that_changes_nothing_is_caught_by_name(merged: Merged) -> None:
    nothing = MergedWeights(merged.tuned.base, {}, tied=merged.tuned.tied)
    write_weights(nothing, merged.folder, dtype="bfloat16")
    merged.checkpoint = merged.checkpoint.model_copy(update={"method": "full"})

    failed = {check.name for check in merged.prove(nothing).checks if not check.passed}

    assert failed == {"applied_once", "adapter_acts", "tuned_unlike_base"}


def test_every_failure_is_told_with_its_value_and_limit(merged: Merged) -> None:
    merged.edit_json("generation_config.json", eos_token_id=0)
    merged.edit_json("config.json", dtype="float16")

    with pytest.raises(ParityError, match=r"dtype, end_of_turn") as caught:
        merged.prove().require()

    assert "dtype: float16 (limit bfloat16)" in str(caught.value)


def test_a_config_that_says_another_number_is_caught_by_name(merged: Merged) -> None:
    merged.edit_json("config.json", rms_norm_eps=0.5)

    assert "config" in merged.failures()


def test_stored_tensors_that_the_config_has_no_use_for_are_named(merged: Merged) -> None:
    merged.edit_tensors(lambda tensors: tensors.update({TARGET: tensors[TARGET][:-1]}))

    checks = {check.name: check for check in merged.prove().checks if not check.passed}

    assert checks["tensors_fit_config"].value == [TARGET]
    assert "rounded_kl_nats" not in checks


def test_who_computed_the_logits_is_told(merged: Merged) -> None:
    assert merged.prove().facts["logits_by"] == "nexa"


def test_a_module_whose_change_is_zero_is_no_fault(merged: Merged) -> None:
    changes = dict(merged.tuned.changes)
    changes[TARGET] = replace(changes[TARGET], b=torch.zeros_like(changes[TARGET].b))
    tuned = MergedWeights(merged.tuned.base, changes, tied=merged.tuned.tied)
    write_weights(tuned, merged.folder, dtype="bfloat16")

    checks = {check.name: check for check in look(merged.folder, tuned).checks()}

    assert all(check.passed for check in checks.values())
    assert checks["applied_once"].value == 1.0
