from __future__ import annotations

from typing import Any

import pytest

from nexa.core.identity import canonical_json
from nexa.core.methods import method_name, method_told, quantised
from nexa.core.records import AdoptedBody, CheckpointBody, ModelRef

BASE = ModelRef(name="tiny", origin="folder", digest="0" * 64)
FACTS: dict[str, Any] = {
    "base": BASE,
    "method": "lora",
    "rank": 16,
    "alpha": 32.0,
    "target_modules": ["q_proj", "v_proj"],
    "template_sha256": "1" * 64,
    "end_of_turn": [2],
    "weights_sha256": "2" * 64,
}
TRAINED: dict[str, Any] = {
    "engine": "generic",
    "precision": "float32",
    "seed": 0,
    "epochs": 1.0,
    "steps": 5,
    "rows": 40,
    "tokens_trained": 4000,
    "label_tokens": 1500,
    "trainable_parameters": 5632,
    "first_loss": 5.75,
    "final_loss": 1.25,
    "epoch_losses": [1.25],
    "mask_sha256": "3" * 64,
}
FOUND: dict[str, Any] = {"base_named_by": "--base-model", "found": {}, "left_out": []}
NF4 = {"quantization": "nf4", "double_quantization": True}


def trained(**changes: Any) -> CheckpointBody:
    return CheckpointBody(**{**FACTS, **TRAINED, **changes})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "LoRA"),
        ({"variant": "rslora"}, "rsLoRA"),
        ({"variant": "dora"}, "DoRA"),
        ({"variant": "dora+rslora"}, "DoRA with rsLoRA"),
        ({"plus_ratio": 16.0}, "LoRA with LoRA+"),
        (NF4, "QLoRA"),
        ({**NF4, "variant": "dora"}, "QLoRA with DoRA"),
        ({**NF4, "variant": "rslora", "plus_ratio": 4.0}, "QLoRA with rsLoRA with LoRA+"),
        ({"method": "full"}, "all weights"),
    ],
)
def test_a_method_has_the_name_that_people_know_it_by(changes: dict[str, Any], name: str) -> None:
    assert method_name(trained(**changes)) == name


def test_what_belongs_to_it_is_told_with_it() -> None:
    assert method_told(trained()) == "LoRA, rank 16, alpha 32, on q_proj, v_proj"
    assert method_told(trained(**NF4, plus_ratio=16.0)) == (
        "QLoRA with LoRA+, rank 16, alpha 32, B's rate 16 times A's, on q_proj, v_proj; "
        "the frozen base in NF4 with double quantisation"
    )
    assert method_told(trained(method="full")) == "all weights"


def test_the_form_of_the_base_is_told_where_it_is_known() -> None:
    assert quantised(trained()) is None
    assert quantised(trained(quantization="nf4", double_quantization=False)) == "NF4"
    assert quantised(AdoptedBody(**FACTS, **FOUND)) is None


def test_an_adopted_adapter_is_named_too_with_every_rank_where_layers_differ() -> None:
    assert method_name(AdoptedBody(**{**FACTS, **FOUND, "variant": "dora"})) == "DoRA"
    several = AdoptedBody(**FACTS, **FOUND, ranks=[4, 16], alphas=[8.0, 32.0])
    told = method_told(several)
    assert "4" in told
    assert "16" in told


def test_a_record_of_plain_lora_is_what_it_was_before_there_were_others() -> None:
    # Its digest is over these bytes: a field that is none must not enter them.
    before = b'"alpha":32,"base":'
    written = canonical_json(trained().model_dump(mode="json"))
    assert before in written
    for later in (b"variant", b"plus_ratio", b"quantization"):
        assert later not in written
    assert b'"quantization":"nf4"' in canonical_json(trained(**NF4).model_dump(mode="json"))
