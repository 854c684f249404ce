from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import ConfigError, UsageError
from nexa.core.identity import canonical_json, stable
from nexa.weights.merge_models.recipe import (
    Block,
    Recipe,
    Slice,
    Value,
    parse_recipe,
    read_recipe,
    recipe_of,
)
from tests.weights.merge_models.made import Notes

LINEAR = """\
merge_method: linear
models:
  - model: one
    parameters:
      weight: 0.25
  - model: org/two
    parameters: {weight: 0.75}
dtype: float32
"""


def number(*points: float) -> Value:
    return Value(((None, points),))


# -- what is read --------------------------------------------------------------------------------


def test_models_become_one_block_of_whole_models() -> None:
    assert parse_recipe(LINEAR) == Recipe(
        method="linear",
        models=("one", "org/two"),
        blocks=(
            Block(
                (
                    Slice("one", parameters={"weight": number(0.25)}),
                    Slice("org/two", parameters={"weight": number(0.75)}),
                )
            ),
        ),
        dtype="float32",
    )


def test_models_may_be_plain_names() -> None:
    recipe = parse_recipe(
        "merge_method: linear\nmodels: [one, ./two]\nparameters: {weight: 1}\ndtype: float16"
    )
    assert recipe.models == ("one", "./two")
    assert recipe.parameters == {"weight": number(1.0)}


def test_slices_become_blocks_with_their_layers() -> None:
    recipe = parse_recipe("""
merge_method: passthrough
slices:
  - sources:
      - model: one
        layer_range: [0, 3]
  - sources:
      - model: two
        layer_range: [1, 4]
        parameters:
          scale:
            - filter: o_proj
              value: 0.0
            - value: 1.0
dtype: bfloat16
""")
    assert recipe.models == ("one", "two")
    scale = Value((("o_proj", (0.0,)), (None, (1.0,))))
    assert recipe.blocks == (
        Block((Slice("one", 0, 3),)),
        Block((Slice("two", 1, 4, {"scale": scale}),)),
    )


def test_a_gradient_with_filters_is_read_as_written() -> None:
    recipe = parse_recipe("""
merge_method: slerp
base_model: one
models:
  - model: one
  - model: two
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 1]
    - {filter: "*", value: 1e-1}
dtype: bfloat16
""")
    assert recipe.parameters["t"] == Value((("self_attn", (0.0, 0.5, 1.0)), (None, (0.1,))))


def test_one_filter_needs_no_list() -> None:
    recipe = parse_recipe(
        "merge_method: linear\nmodels: [a, b]\nparameters: {weight: {filter: mlp, value: 2}}"
    )
    assert recipe.parameters["weight"] == Value((("mlp", (2.0,)),))


@pytest.mark.parametrize("word", ["true", "True", "yes", "on", "1", "1.0"])
def test_flags_are_what_mergekit_takes_for_true(word: str) -> None:
    recipe = parse_recipe(
        f"merge_method: ties\nbase_model: b\nmodels: [a]\nparameters: {{normalize: {word}}}"
    )
    assert recipe.parameters["normalize"] == number(1.0)


def test_a_number_may_stand_in_quotes() -> None:
    text = LINEAR.replace("0.25", "'0.25'")
    assert parse_recipe(text).blocks[0].sources[0].parameters["weight"] == number(0.25)


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "dare_linear", "dare_ties", "slerp"])
def test_a_base_that_is_not_among_the_models_is_read_with_them(method: str) -> None:
    recipe = parse_recipe(f"merge_method: {method}\nbase_model: base\nmodels: [a]\n")
    assert [source.model for source in recipe.blocks[0].sources] == ["a", "base"]
    assert recipe.models == ("a", "base")
    assert recipe.references == ("a", "base")


def test_a_base_among_the_models_is_there_once() -> None:
    recipe = parse_recipe("merge_method: ties\nbase_model: b\nmodels: [a, b]\n")
    assert [source.model for source in recipe.blocks[0].sources] == ["a", "b"]


def test_the_base_of_passthrough_gives_its_config_only() -> None:
    recipe = parse_recipe("merge_method: passthrough\nbase_model: b\nmodels: [a]\n")
    assert recipe.models == ("a",)
    assert recipe.references == ("a", "b")


def test_what_is_written_is_out_dtype_then_dtype() -> None:
    head = "merge_method: linear\nmodels: [a]\n"
    assert parse_recipe(head + "dtype: float16").dtype == "float16"
    assert parse_recipe(head + "dtype: float64\nout_dtype: torch.bfloat16").dtype == "bfloat16"
    assert parse_recipe(head + "dtype: float64").dtype == "float32"


def test_without_a_dtype_bfloat16_is_written_and_told() -> None:
    with Notes() as notes:
        recipe = parse_recipe("merge_method: linear\nmodels: [a]\n")
    assert recipe.dtype == "bfloat16"
    assert notes.texts == ["recipe.yaml names no dtype: the child is written in bfloat16"]


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("tokenizer_source: base", None),
        ("tokenizer_source: union", None),
        ("tokenizer_source: b", "b"),
        ("tokenizer: {source: b}", "b"),
        ("tokenizer: {source: union}", None),
        ("tokenizer: {}", None),
        ("chat_template: auto", None),
    ],
)
def test_the_tokenizer_is_the_bases_or_a_models(line: str, model: str | None) -> None:
    assert parse_recipe(f"merge_method: linear\nmodels: [a, b]\n{line}\n").tokenizer == model


def test_a_seed_is_nexas_own_key() -> None:
    text = "merge_method: dare_ties\nbase_model: b\nmodels: [a]\nseed: 7\n"
    assert parse_recipe(text).seed == 7


def test_a_recipe_is_plain_data_with_one_form() -> None:
    recipe = parse_recipe("""
merge_method: dare_linear
base_model: base
slices:
  - sources:
      - {model: a, layer_range: [0, 2], parameters: {weight: [0, 1], density: 0.5}}
      - {model: base, layer_range: [0, 2]}
    parameters:
      lambda:
        - {filter: mlp, value: 2}
        - {value: [1, 2]}
parameters: {weight: {filter: mlp, value: 3}}
dtype: float16
tokenizer_source: a
seed: 3
""")
    told = recipe.to_json()
    assert told == {
        "method": "dare_linear",
        "models": ["a", "base"],
        "base": "base",
        "blocks": [
            {
                "sources": [
                    {
                        "model": "a",
                        "layers": [0, 2],
                        "parameters": {"weight": [0.0, 1.0], "density": 0.5},
                    },
                    {"model": "base", "layers": [0, 2], "parameters": {}},
                ],
                "parameters": {"lambda": [{"filter": "mlp", "value": 2.0}, {"value": [1.0, 2.0]}]},
            }
        ],
        "parameters": {"weight": [{"filter": "mlp", "value": 3.0}]},
        "dtype": "float16",
        "tokenizer": "a",
        "seed": 3,
    }
    assert canonical_json(told)


def test_equal_recipes_have_one_fingerprint_however_they_are_written() -> None:
    text = "merge_method: linear\nmodels: [a, b]\nparameters: {weight: 1}\ndtype: float32\n"
    other = "dtype: float32\nparameters: {weight: 1.0}\nmodels: [{model: a}, b]\n"
    written = stable(parse_recipe(other + "merge_method: linear\n"))
    assert canonical_json(stable(parse_recipe(text))) == canonical_json(written)


def test_whole_models_have_no_layers_in_plain_data() -> None:
    assert parse_recipe(LINEAR).to_json()["blocks"][0]["sources"][0]["layers"] is None


def test_a_file_is_read_and_named_in_its_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "merge.yaml"
    path.write_text(LINEAR)
    assert read_recipe(path) == parse_recipe(LINEAR)
    path.write_text("merge_method: linear\nmodles: [a]\n")
    with pytest.raises(ConfigError, match=r"merge\.yaml has 2 mistakes"):
        read_recipe(path)


# -- what is noted -------------------------------------------------------------------------------


def test_numbers_without_effect_are_noted_and_left_out() -> None:
    with Notes() as notes:
        recipe = parse_recipe("""\
merge_method: linear
models:
  - model: a
    parameters:
      density: 0.5
      normalize: false
      weight: 1
dtype: float32
parameters: {int8_mask: true, t: 0.5}
""")
    assert recipe.blocks[0].sources[0].parameters == {"weight": number(1.0)}
    assert recipe.parameters == {}
    assert notes.texts == [
        "recipe.yaml, line 5: density has no effect (linear has no density)",
        "recipe.yaml, line 6: normalize has no effect (normalize holds for all models: name it "
        "above them)",
        "recipe.yaml, line 9: t has no effect (linear has no t)",
    ]


def test_ties_without_rescale_is_what_it_is_anyway() -> None:
    with Notes() as notes:
        parse_recipe(
            "merge_method: ties\nbase_model: b\nmodels: [a]\nparameters: {rescale: false}\n"
            "dtype: float32"
        )
    assert notes.texts == ["recipe.yaml, line 4: rescale has no effect (ties has no rescale)"]


# -- the command line ----------------------------------------------------------------------------


def test_a_command_line_gives_each_model_its_number() -> None:
    recipe = recipe_of(
        "dare_ties",
        ["a", "b"],
        base="base",
        weights=[0.3, 0.6],
        densities=[0.5],
        scale=1.5,
        normalize=True,
        dtype="float32",
        tokenizer="b",
        seed=9,
    )
    assert recipe == Recipe(
        method="dare_ties",
        models=("a", "b"),
        blocks=(
            Block(
                (
                    Slice("a", parameters={"weight": number(0.3), "density": number(0.5)}),
                    Slice("b", parameters={"weight": number(0.6), "density": number(0.5)}),
                    Slice("base"),
                )
            ),
        ),
        base="base",
        parameters={"lambda": number(1.5), "normalize": number(1.0)},
        dtype="float32",
        tokenizer="b",
        seed=9,
    )
    assert recipe.references == ("a", "b", "base")


def test_without_numbers_every_model_counts_alike_and_it_is_in_the_recipe() -> None:
    linear = recipe_of("linear", ["a", "b"])
    assert [s.parameters for s in linear.blocks[0].sources] == [{"weight": number(1.0)}] * 2
    slerp = recipe_of("slerp", ["a", "b"])
    assert slerp.parameters == {"t": number(0.5)}


def test_the_scale_of_passthrough_is_its_own() -> None:
    assert recipe_of("passthrough", ["a"], scale=2.0).parameters == {"scale": number(2.0)}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"method": "tie"}, "there is no method 'tie'"),
        ({"method": "della"}, "the nearest is dare_ties"),
        ({"dtype": "float8"}, "there is no type 'float8'"),
        ({"models": ["a", "a"]}, "a twice"),
        ({"tokenizer": "c"}, "must be one of the models'"),
        ({"base": "c"}, "linear knows no base"),
        ({"weights": [1.0, 2.0, 3.0]}, "one number for each of 2 models"),
        ({"weights": [float("nan")]}, "weight must be finite"),
        ({"densities": [0.5]}, "density is of ties, dare_linear, dare_ties"),
        ({"method": "ties", "base": "c", "densities": [1.5]}, "density must be from 0 to 1"),
        ({"t": 0.5}, "linear has no t"),
        ({"scale": 0.5}, "linear has no lambda"),
    ],
)
def test_a_command_line_that_cannot_be_merged_is_refused(
    arguments: dict[str, object], told: str
) -> None:
    given = {"method": "linear", "models": ["a", "b"], **arguments}
    with pytest.raises(UsageError) as caught:
        recipe_of(**given)  # type: ignore[arg-type]
    assert told in str(caught.value)
