from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nexa.core.errors import ModelError, UsageError
from nexa.weights.merge_models.plan import Source
from nexa.weights.merge_models.recipe import recipe_of
from tests.weights.merge_models.made import edit_tensors, model, planned, planned_recipe, task

Q = "model.layers.{}.self_attn.q_proj.weight"
NORM = "model.norm.weight"


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return model(tmp_path / "a")


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return model(tmp_path / "b", seed=1)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return model(tmp_path / "base", seed=2)


@pytest.fixture
def deep(tmp_path: Path) -> dict[str, Path]:
    """Three models of five layers with heads of their own."""
    return {
        name: model(tmp_path / f"deep-{name}", tied=False, seed=seed, layers=5)
        for seed, name in enumerate(("a", "b", "base"))
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "merge_method: linear\nmodels: [{{model: {a}, parameters: {{weight: 1}}}}, {b}]",
            "linear needs a weight for every tensor\n  found  none for model.embed_tokens.weight "
            "of b",
        ),
        (
            "merge_method: slerp\nmodels: [{a}, {b}]\nparameters: {{t: {{filter: mlp, value: 1}}}}",
            "slerp needs a t for every tensor\n  found  none for model.embed_tokens.weight\n",
        ),
        (
            "merge_method: slerp\nmodels: [{a}, {b}, {base}]\nparameters: {{t: 0.5}}",
            "found  3 for model.embed_tokens.weight",
        ),
        (
            "merge_method: passthrough\nmodels: [{a}, {b}]",
            "found  2 for model.embed_tokens.weight",
        ),
        (
            "merge_method: ties\nmodels: [{a}, {b}]\nparameters: {{weight: 1}}",
            "found  model.embed_tokens.weight",
        ),
        (
            "merge_method: ties\nbase_model: {base}\nmodels: [{base}]",
            "found  0 for model.embed_tokens.weight",
        ),
        (
            "merge_method: ties\nbase_model: {base}\nmodels: [{a}]\n"
            "parameters: {{weight: 1, density: 0}}",
            "found  (0.0,) for model.embed_tokens.weight",
        ),
        (
            "merge_method: ties\nbase_model: {base}\nslices:\n"
            "- sources: [{{model: {a}, layer_range: [0, 2]}}]",
            "ties reads its base for every layer",
        ),
        (
            "merge_method: slerp\nbase_model: {base}\nslices:\n- sources:\n"
            "  - {{model: {a}, layer_range: [0, 2]}}\n  - {{model: {b}, layer_range: [0, 2]}}",
            "slerp reads its base for every layer",
        ),
        (
            "merge_method: passthrough\nslices:\n- sources: [{{model: {a}, layer_range: [1, 3]}}]",
            "a has no layers 1 to 3\n  found  it has 2, from 0",
        ),
    ],
)
def test_a_recipe_without_what_its_method_needs_is_refused(
    text: str, told: str, a: Path, b: Path, base: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        planned(text, a=a, b=b, base=base)
    assert told in str(caught.value)


def test_models_of_unlike_depth_are_not_merged_as_wholes(a: Path, deep: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="layers side by side must be as many") as caught:
        planned_recipe(recipe_of("linear", [str(a), str(deep["b"])]))
    assert caught.value.found == "a 2, deep-b 5"


def test_a_slice_of_a_deeper_model_may_be_merged(a: Path, tmp_path: Path) -> None:
    deeper = model(tmp_path / "deeper", layers=5, seed=1)
    found = planned(
        "merge_method: linear\nslices:\n- sources:\n"
        "  - {{model: {a}, layer_range: [0, 2]}}\n  - {{model: {deeper}, layer_range: [3, 5]}}\n"
        "parameters: {{weight: 1}}",
        a=a,
        deeper=deeper,
    )
    assert found.config["num_hidden_layers"] == 2
    assert task(found, Q.format(1)).sources == (Source(0, Q.format(1)), Source(1, Q.format(4)))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (Q.format(1), "layer 1: self_attn.q_proj.weight"),
        (NORM, "tensors of no layer: model.norm.weight"),
    ],
)
def test_a_tensor_that_one_model_lacks_is_named(name: str, told: str, a: Path, b: Path) -> None:
    edit_tensors(b, lambda tensors: tensors.pop(name))
    with pytest.raises(ModelError, match="b lacks tensors that other models have") as caught:
        planned_recipe(recipe_of("linear", [str(a), str(b)]))
    assert caught.value.found == told


def test_a_tensor_of_another_shape_is_named(a: Path, b: Path) -> None:
    edit_tensors(b, lambda tensors: tensors.update({NORM: torch.zeros(31)}))
    with pytest.raises(ModelError, match=r"cannot merge model\.norm\.weight") as caught:
        planned_recipe(recipe_of("linear", [str(a), str(b)]))
    assert caught.value.found == "a (32,), b (31,)"
