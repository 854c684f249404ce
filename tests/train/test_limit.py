"""What the machine could reach: the formula against counted figures, the measure against itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nexa.train.batches import TokenRow
from nexa.train.limit import flops_a_token, machine_limit, measured_gflops, shapes_of
from tests.support.tiny import ARCHITECTURES, tiny_model

# SmolLM2-135M's config.json, as far as its products go.
SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}


def rows(length: int, labels: int, count: int = 1) -> list[TokenRow]:
    trained = [False] * (length - labels) + [True] * labels
    return [TokenRow(str(i), [3] * length, trained) for i in range(count)]


def test_the_operations_of_a_token_are_those_that_were_counted_by_hand() -> None:
    shapes = shapes_of(SMOLLM2)
    assert shapes is not None
    # 212 forward, 212 for the activations' gradient, 29 LoRA, 29 attention, 66 head.
    found = flops_a_token(shapes, rows(238, 138), rank=16)
    assert found == pytest.approx(548e6, rel=0.002)
    without_head = flops_a_token(shapes, [TokenRow("a", [3] * 238, [False] * 238)], rank=16)
    assert found - without_head == pytest.approx(66e6, rel=0.01)
    no_adapter = flops_a_token(shapes, rows(238, 138), rank=0)
    assert found - no_adapter == pytest.approx(29e6, rel=0.02)


def test_all_weights_cost_half_as_much_again_as_an_adapter_without_rank() -> None:
    shapes = shapes_of(SMOLLM2)
    assert shapes is not None
    # Rows of one token: no attention worth counting, no label.
    one = [TokenRow("a", [3], [False])]
    ratio = flops_a_token(shapes, one, rank=None) / flops_a_token(shapes, one, rank=0)
    assert ratio == pytest.approx(1.5, rel=0.001)


def test_longer_rows_cost_more_and_a_token_sees_the_length_of_its_own_row() -> None:
    shapes = shapes_of(SMOLLM2)
    assert shapes is not None
    mixed = flops_a_token(shapes, [*rows(100, 0), *rows(300, 0)], rank=16)
    assert mixed == pytest.approx(flops_a_token(shapes, rows(250, 0), rank=16))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_products_are_the_models_linear_layers(architecture: str) -> None:
    model = tiny_model(architecture)
    shapes = shapes_of(model.config.to_dict())
    assert shapes is not None
    layers = [
        (layer.in_features, layer.out_features)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and name != "lm_head"
    ]
    assert sorted(shapes.products * shapes.layers) == sorted(layers)
    assert (shapes.width, shapes.vocabulary) == (32, 320)


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, True),
        ({"model_type": "mamba"}, False),
        ({"model_type": None}, False),
        ({"hidden_size": None}, False),
        ({"vocab_size": 0}, False),
        ({"intermediate_size": None}, True),
        ({"num_key_value_heads": None}, True),
    ],
)
def test_shapes_that_are_not_told_are_not_guessed(changes: dict[str, Any], known: bool) -> None:
    config = SMOLLM2 | changes
    assert (shapes_of(config) is not None) == known
    assert (shapes_of({"model_type": "outer", "text_config": config}) is not None) == known
    assert known or machine_limit(config, "float32") is None


def test_gpt2_says_the_same_under_other_names() -> None:
    told = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100, "model_type": "gpt2"}
    shapes = shapes_of(told)
    assert shapes is not None
    assert shapes.products[-2:] == ((64, 256), (256, 64))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_limit_is_the_measured_speed_over_the_work(precision: str) -> None:
    config = tiny_model().config.to_dict()
    limit = machine_limit(config, precision, rows=rows(20, 5, count=3), rank=4)
    assert limit is not None
    assert limit.gflops > 0
    assert limit.tokens_per_s == pytest.approx(limit.gflops * 1e9 / limit.flops_a_token)


def test_measuring_touches_neither_random_numbers_nor_threads() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    machine_limit(tiny_model().config.to_dict(), "float32")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_large_model_is_measured_on_fewer_rows() -> None:
    # 8 GFLOP at 2,048 rows each, so that all three together pass the limit of one look.
    assert measured_gflops([(2048, 1024), (1024, 2048), (2048, 2048)], torch.float32) > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_products_are_waited_for() -> None:
    # Unwaited, a product of 17 GFLOP would seem to take microseconds: beyond any GPU there is.
    assert measured_gflops([(4096, 4096)], torch.bfloat16, "cuda") < 5e6
