from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from nexa.core.errors import ModelError
from nexa.weights.merge_models.methods import Options
from nexa.weights.merge_models.plan import Source
from nexa.weights.merge_models.recipe import recipe_of
from tests.weights.merge_models.made import (
    Notes,
    edit_json,
    model,
    planned,
    planned_recipe,
    task,
)

Q = "model.layers.{}.self_attn.q_proj.weight"
UP = "model.layers.{}.mlp.up_proj.weight"
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
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


def expected(config: dict[str, Any], folder: Path) -> dict[str, tuple[int, ...]]:
    """The tensors that transformers makes of a config, without what is tied."""
    edit_json(folder / "config.json", lambda told: told.update(config))
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    tied = set(made.all_tied_weights_keys)
    return {n: tuple(t.shape) for n, t in made.state_dict().items() if n not in tied}


# -- tensors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
def test_the_child_has_the_tensors_of_its_config(
    architecture: str, tied: bool, tmp_path: Path
) -> None:
    one = model(tmp_path / "one", architecture, tied=tied)
    other = model(tmp_path / "other", architecture, tied=tied, seed=1)
    found = planned_recipe(recipe_of("linear", [str(one), str(other)]))
    assert {t.name: t.shape for t in found.tasks} == expected(dict(found.config), tmp_path)
    assert found.tie is tied
    assert found.config["tie_word_embeddings"] is tied
    vocabulary = {EMBEDDING} if tied else {EMBEDDING, HEAD}
    assert {t.name for t in found.tasks if t.vocabulary} == vocabulary
    assert all(t.sources == (Source(0, t.name), Source(1, t.name)) for t in found.tasks)
    assert found.rows == {}
    assert found.notes == ()


def test_linear_merges_all_models_with_their_weights(a: Path, b: Path) -> None:
    found = planned_recipe(recipe_of("linear", [str(a), str(b)], weights=[0.25, 0.75]))
    assert {t.options for t in found.tasks} == {Options(weights=(0.25, 0.75), normalize=True)}
    assert {t.base for t in found.tasks} == {None}
    assert [files.name for files in found.models] == ["a", "b"]
    assert found.config["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("task_arithmetic", Options(weights=(0.5, 1.0), normalize=False)),
        ("ties", Options(weights=(0.5, 1.0), densities=(1.0, 1.0), normalize=True)),
        ("dare_linear", Options(weights=(0.5, 1.0), densities=(1.0, 1.0), normalize=False)),
        ("dare_ties", Options(weights=(0.5, 1.0), densities=(1.0, 1.0), normalize=False)),
    ],
)
def test_task_vectors_have_their_base_apart_and_mergekits_defaults(
    method: str, options: Options, a: Path, b: Path, base: Path
) -> None:
    recipe = recipe_of(method, [str(a), str(b)], base=str(base), weights=[0.5, 1.0])
    found = planned_recipe(recipe)
    assert {t.options for t in found.tasks} == {options}
    assert task(found, NORM).sources == (Source(0, NORM), Source(1, NORM))
    assert task(found, NORM).base == Source(2, NORM)


def test_a_base_among_the_models_is_not_merged_with_itself(a: Path, base: Path) -> None:
    found = planned(
        "merge_method: ties\nbase_model: {base}\nmodels: [{base}, {a}]\nparameters: {{weight: 1}}",
        a=a,
        base=base,
    )
    assert task(found, NORM).sources == (Source(1, NORM),)
    assert task(found, NORM).base == Source(0, NORM)


def test_the_numbers_of_a_command_line_reach_the_tensors(a: Path, base: Path) -> None:
    recipe = recipe_of(
        "dare_ties",
        [str(a)],
        base=str(base),
        densities=[0.3],
        scale=1.5,
        normalize=True,
        seed=11,
    )
    (options,) = {t.options for t in planned_recipe(recipe).tasks}
    assert options == Options(
        weights=(1.0,), densities=(0.3,), scale=1.5, normalize=True, rescale=True, seed=11
    )


def test_slerp_goes_from_its_base_to_the_other(a: Path, b: Path) -> None:
    with_base = planned_recipe(recipe_of("slerp", [str(a), str(b)], base=str(b), t=0.2))
    assert task(with_base, NORM).sources == (Source(1, NORM), Source(0, NORM))
    assert task(with_base, NORM).options.t == 0.2
    beside = planned_recipe(recipe_of("slerp", [str(a)], base=str(b), t=0.2))
    assert task(beside, NORM).sources == (Source(1, NORM), Source(0, NORM))
    without = planned_recipe(recipe_of("slerp", [str(a), str(b)]))
    assert task(without, NORM).sources == (Source(0, NORM), Source(1, NORM))
    assert task(without, NORM).base is None


# -- numbers over layers -------------------------------------------------------------------------


def test_a_gradient_is_spread_over_the_layers_of_its_block(deep: dict[str, Path]) -> None:
    """Five layers lie at 0, 1/4, 1/2, 3/4 and 1; three points at 0, 1/2 and 1."""
    found = planned(
        """
merge_method: slerp
base_model: {a}
models: [{a}, {b}]
parameters:
  t:
    - filter: self_attn
      value: [0, 1, 0.5]
    - filter: mlp
      value: [1, 0]
    - value: 0.4
""",
        **deep,
    )
    assert [task(found, Q.format(i)).options.t for i in range(5)] == [0, 0.5, 1, 0.75, 0.5]
    assert [task(found, UP.format(i)).options.t for i in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert task(found, "model.layers.3.input_layernorm.weight").options.t == 0.4
    assert task(found, EMBEDDING).options.t == 0.4


def test_tensors_of_no_layer_have_a_gradients_first_number(deep: dict[str, Path]) -> None:
    found = planned(
        "merge_method: linear\nmodels: [{a}, {b}]\nparameters: {{weight: [0.25, 1]}}", **deep
    )
    for name in (EMBEDDING, NORM, HEAD):
        assert task(found, name).options.weights == (0.25, 0.25)
    assert task(found, Q.format(4)).options.weights == (1.0, 1.0)


def test_the_first_block_has_the_embedding_and_the_last_norm_and_head(
    deep: dict[str, Path],
) -> None:
    found = planned(
        """
merge_method: linear
slices:
  - sources: [{{model: {a}, layer_range: [0, 4]}}, {{model: {b}, layer_range: [0, 4]}}]
    parameters: {{weight: [1, 2]}}
  - sources: [{{model: {a}, layer_range: [4, 5]}}, {{model: {b}, layer_range: [1, 2]}}]
    parameters: {{weight: [3, 4]}}
""",
        **deep,
    )
    assert task(found, EMBEDDING).options.weights == (1.0, 1.0)
    assert task(found, NORM).options.weights == (3.0, 3.0)
    assert task(found, HEAD).options.weights == (3.0, 3.0)
    # A block of a single layer has the last number.
    assert task(found, Q.format(4)).options.weights == (4.0, 4.0)
    assert task(found, Q.format(4)).sources == (Source(0, Q.format(4)), Source(1, Q.format(1)))
    assert task(found, Q.format(1)).options.weights == pytest.approx((4 / 3, 4 / 3))


def test_a_models_numbers_win_over_its_blocks_and_these_over_the_recipes(
    deep: dict[str, Path],
) -> None:
    found = planned(
        """
merge_method: ties
base_model: {base}
slices:
  - sources:
      - model: {a}
        layer_range: [0, 2]
        parameters:
          weight: {{filter: mlp, value: 5}}
          density: 0.9
      - {{model: {b}, layer_range: [0, 2]}}
      - {{model: {base}, layer_range: [0, 2]}}
    parameters:
      weight: {{filter: layers.1, value: 6}}
      lambda: 3
parameters: {{weight: 7, density: 0.5, lambda: 4}}
""",
        **deep,
    )
    assert task(found, UP.format(0)).options.weights == (5.0, 7.0)
    assert task(found, UP.format(1)).options.weights == (5.0, 6.0)
    assert task(found, Q.format(0)).options.weights == (7.0, 7.0)
    assert task(found, Q.format(1)).options.weights == (6.0, 6.0)
    assert task(found, NORM).options.weights == (7.0, 7.0)
    assert task(found, NORM).options.densities == (0.9, 0.5)
    assert task(found, NORM).options.scale == 3.0


def test_a_models_filter_looks_at_its_own_layers_names(deep: dict[str, Path]) -> None:
    """Layer 3 of b becomes layer 0 of the child: b's numbers know it as layer 3."""
    found = planned(
        """
merge_method: task_arithmetic
base_model: {base}
slices:
  - sources:
      - {{model: {base}, layer_range: [0, 2]}}
      - model: {b}
        layer_range: [3, 5]
        parameters: {{weight: [{{filter: layers.3, value: 2}}, {{value: 1}}]}}
    parameters: {{lambda: [{{filter: layers.0, value: 8}}, {{value: 9}}]}}
""",
        **deep,
    )
    first, second = task(found, Q.format(0)), task(found, Q.format(1))
    assert (first.options.weights, first.options.scale) == ((2.0,), 8.0)
    assert (second.options.weights, second.options.scale) == ((1.0,), 9.0)
    assert first.sources == (Source(0 if found.models[0].name == "deep-b" else 1, Q.format(3)),)


def test_flags_change_with_the_layer_too(deep: dict[str, Path]) -> None:
    found = planned(
        "merge_method: ties\nbase_model: {base}\nmodels: [{a}]\n"
        "parameters: {{weight: 1, normalize: [true, false]}}",
        **deep,
    )
    assert [task(found, Q.format(i)).options.normalize for i in range(5)] == [True] * 4 + [False]


def test_a_base_of_linear_is_one_model_more_as_in_mergekit(deep: dict[str, Path]) -> None:
    found = planned(
        "merge_method: linear\nbase_model: {base}\nmodels: [{a}]\nparameters: {{weight: 0.5}}",
        **deep,
    )
    assert task(found, NORM).sources == (Source(0, NORM), Source(1, NORM))
    assert task(found, NORM).options.weights == (0.5, 0.5)


# -- stacked layers ------------------------------------------------------------------------------


def test_slices_follow_each_other_with_new_numbers(deep: dict[str, Path]) -> None:
    found = planned(
        """
merge_method: passthrough
slices:
  - sources: [{{model: {a}, layer_range: [0, 4]}}]
  - sources:
      - model: {b}
        layer_range: [2, 5]
        parameters: {{scale: [{{filter: q_proj, value: 0.5}}, {{value: 1}}]}}
""",
        **deep,
    )
    assert found.config["num_hidden_layers"] == 7
    origin = [task(found, Q.format(i)).sources for i in range(7)]
    assert origin == [(Source(0, Q.format(i)),) for i in range(4)] + [
        (Source(1, Q.format(i)),) for i in range(2, 5)
    ]
    assert [task(found, Q.format(i)).options.scale for i in (3, 4)] == [1.0, 0.5]
    assert task(found, EMBEDDING).sources == (Source(0, EMBEDDING),)
    assert task(found, NORM).sources == (Source(1, NORM),)
    assert task(found, HEAD).sources == (Source(1, HEAD),)
    assert not any("layers.7" in t.name for t in found.tasks)


def test_a_tied_model_that_ends_with_anothers_layers_has_its_head(a: Path, b: Path) -> None:
    with Notes() as notes:
        found = planned(
            """
merge_method: passthrough
slices:
  - sources: [{{model: {a}, layer_range: [0, 2]}}]
  - sources: [{{model: {b}, layer_range: [0, 2]}}]
dtype: float32
""",
            a=a,
            b=b,
        )
    assert not found.tie
    assert task(found, HEAD).sources == (Source(1, EMBEDDING),)
    assert found.notes == (
        "embedding and head are of other models: the child has a head of its own",
    )
    assert tuple(notes.texts) == found.notes


def test_a_model_stacked_on_itself_stays_tied(a: Path, tmp_path: Path) -> None:
    found = planned(
        """
merge_method: passthrough
slices:
  - sources: [{{model: {a}, layer_range: [0, 2]}}]
  - sources: [{{model: {a}, layer_range: [0, 2]}}]
""",
        a=a,
    )
    assert found.tie
    assert {t.name: t.shape for t in found.tasks} == expected(dict(found.config), tmp_path)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_the_kinds_of_the_layers_follow_them(architecture: str, tmp_path: Path) -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    sliding = {"use_sliding_window": True, "sliding_window": 8, "layer_types": kinds}
    one = model(tmp_path / "one", architecture, layers=3)
    edit_json(one / "config.json", lambda told: told.update(sliding))
    found = planned(
        "merge_method: passthrough\nslices:\n"
        "- sources: [{{model: {one}, layer_range: [0, 2]}}]\n"
        "- sources: [{{model: {one}, layer_range: [1, 3]}}]\n",
        one=one,
    )
    assert found.config["layer_types"] == [kinds[0], kinds[1], kinds[1], kinds[2]]
    assert {t.name: t.shape for t in found.tasks} == expected(dict(found.config), tmp_path)


def test_kinds_that_the_file_leaves_out_are_written_where_layers_moved(tmp_path: Path) -> None:
    """Transformers would make them from max_window_layers and the layer's new number."""
    one = model(tmp_path / "one", "qwen2", layers=3)

    def windows(told: dict[str, Any]) -> None:
        del told["layer_types"]
        told.update(use_sliding_window=True, sliding_window=8, max_window_layers=2)

    edit_json(one / "config.json", windows)
    text = "merge_method: passthrough\nslices:\n- sources: [{{model: {one}, layer_range: [%s]}}]\n"
    assert "layer_types" not in planned(text % "0, 3", one=one).config
    moved = planned(text % "1, 3", one=one)
    assert moved.config["layer_types"] == ["full_attention", "sliding_attention"]


def test_layers_of_unlike_kind_are_not_merged(tmp_path: Path) -> None:
    one = model(tmp_path / "one", "qwen2", layers=3)
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    sliding = {"use_sliding_window": True, "sliding_window": 8, "layer_types": kinds}
    edit_json(one / "config.json", lambda told: told.update(sliding))
    other = model(tmp_path / "other", "qwen2", layers=3, seed=1)
    edit_json(
        other / "config.json", lambda told: told.update(sliding, layer_types=kinds[1:] + kinds[1:2])
    )
    with pytest.raises(ModelError, match="layers that are to become one are of unlike layer_types"):
        planned_recipe(recipe_of("linear", [str(one), str(other)]))


# -- the child's config --------------------------------------------------------------------------


def test_the_config_is_the_bases_without_what_is_stale(a: Path, base: Path) -> None:
    edit_json(
        base / "config.json",
        lambda told: told.update(torch_dtype="float32", remark="kept", _name_or_path="x"),
    )
    found = planned_recipe(recipe_of("ties", [str(a)], base=str(base), dtype="float16"))
    assert found.config["remark"] == "kept"
    assert found.config["dtype"] == "float16"
    assert not {"torch_dtype", "_name_or_path"} & set(found.config)
    assert found.tokenizer == 1


def test_the_ids_of_special_tokens_are_those_of_the_tokenizers_owner(a: Path, b: Path) -> None:
    def ids(told: dict[str, Any]) -> None:
        told["eos_token_id"] = [0, 2]
        del told["pad_token_id"]

    edit_json(b / "config.json", ids)
    found = planned_recipe(recipe_of("linear", [str(a), str(b)], tokenizer=str(b)))
    assert found.tokenizer == 1
    assert found.config["eos_token_id"] == [0, 2]
    assert "pad_token_id" not in found.config
    assert planned_recipe(recipe_of("linear", [str(a), str(b)])).config["eos_token_id"] == 2
