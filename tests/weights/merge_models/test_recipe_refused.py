from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import ConfigError
from nexa.weights.merge_models.recipe import parse_recipe


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(text)
    return (caught.value.found or "").splitlines()


def test_every_mistake_is_told_at_once_with_its_line() -> None:
    assert mistakes("""\
merge_metod: linear
models:
  - model: a
    weight: 0.5
  - modl: b
    parameters:
      wieght: 1
      weight: much
dtype: bf16
paramters: {}
""") == [
        "line 1: merge_metod is not a key: did you mean 'merge_method'?",
        "line 1: merge_method is missing: one of linear, task_arithmetic, slerp, ties, "
        "dare_linear, dare_ties, passthrough",
        "line 4: models[0].weight is not a key: did you mean parameters.weight?",
        "line 5: models[1].modl is not a key: did you mean 'model'?",
        "line 5: models[1].model should name a model: a folder, a Hub id, a run",
        "line 7: models[1].parameters.wieght is not a key: did you mean 'weight'?",
        "line 8: models[1].parameters.weight should be a number (got 'much')",
        "line 9: dtype 'bf16' is no type: did you mean 'bfloat16'?",
        "line 10: paramters is not a key: did you mean 'parameters'?",
    ]


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("della", "'della' is not built: the nearest is dare_ties"),
        ("model_stock", "'model_stock' is not built: the nearest is linear, the base among the"),
        ("dare_tie", "'dare_tie' is no method: did you mean 'dare_ties'?"),
        ("7", "7 is no method: known: linear, task_arithmetic"),
    ],
)
def test_other_methods_are_refused_with_what_comes_nearest(method: str, told: str) -> None:
    (line,) = mistakes(f"models: [a, b]\nmerge_method: {method}\n")
    assert line.startswith(f"line 2: merge_method {told}")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("modules: {}", "line 3: modules is not taken: models of several parts"),
        ("experts: []", "line 3: experts is not taken: a mixture of experts"),
        ("gate_mode: hidden", "line 3: gate_mode is not taken: a mixture of experts"),
        ("name: first", "line 3: name is not taken: a file holds one recipe"),
        ("weight: 1", "line 3: weight is not a key: did you mean parameters.weight?"),
        ("lamda: 1", "line 3: lamda is not a key: did you mean parameters.lambda?"),
        ("zzz: 1", "line 3: zzz is not a key: known: merge_method, base_model, models"),
        ("tokenizer: {source: a, tokens: {}}", "line 3: tokenizer.tokens is not taken: no emb"),
        ("tokenizer: {pad_to_multiple_of: 64}", "line 3: tokenizer.pad_to_multiple_of is not"),
        ("tokenizer: {source: c}", "line 3: tokenizer.source should be base or one of the models"),
        ("tokenizer: a", "line 3: tokenizer should have keys below it (got 'a')"),
        ("tokenizer_source: 5", "line 3: tokenizer_source should name a model"),
        ("chat_template: chatml", "line 3: chat_template is not taken, but for auto"),
        ("parameters: {embed_slerp: true}", "line 3: parameters.embed_slerp is not taken: embed"),
        ("parameters: {gamma: 0.01}", "line 3: parameters.gamma is not taken: it belongs to bre"),
        ("parameters: {weight: true}", "line 3: parameters.weight should be a number (got True)"),
        ("parameters: {weight: .inf}", "line 3: parameters.weight should be a number (got inf)"),
        ("parameters: {weight: []}", "line 3: parameters.weight is an empty list"),
        ("parameters: {weight: [1, x]}", "line 3: parameters.weight[1] should be a number"),
        ("parameters: {density: 2}", "line 3: parameters.density should be a number from 0 to 1"),
        ("parameters: {normalize: 2}", "line 3: parameters.normalize should be true or false"),
        ("parameters: {normalize: x}", "line 3: parameters.normalize should be true or false"),
        ("parameters: {weight: [{filter: a}]}", "line 3: parameters.weight[0].value is missing"),
        ("parameters: {weight: [1, {value: 1}]}", "line 3: parameters.weight[0] should have key"),
        ("parameters: {weight: {filter: 1, value: 1}}", "line 3: parameters.weight.filter should"),
        ("parameters: {weight: {value: [x]}}", "line 3: parameters.weight.value[0] should be a"),
        ("parameters: 1", "line 3: parameters should have keys below it (got 1)"),
        ("dtype: int8", "line 3: dtype 'int8' is no type: known: bfloat16, float16, float32"),
        ("out_dtype: float64", "line 3: out_dtype 'float64' is no type: did you mean 'float32'?"),
        ("seed: 1.5", "line 3: seed should be a whole number (got 1.5)"),
        ("base_model: a+lora", "line 3: base_model is a model with an adapter (a+lora): merge"),
        ("base_model: org/a@main", "line 3: base_model names a revision (main): download that"),
    ],
)
def test_what_is_not_taken_is_told_with_its_line(lines: str, told: str) -> None:
    found = mistakes(f"merge_method: linear\nmodels: [a, b]\n{lines}\n")
    assert any(line.startswith(told) for line in found), found


def test_both_ways_to_name_a_tokenizer_are_one_too_many() -> None:
    (line,) = mistakes(
        "merge_method: linear\nmodels: [a]\ntokenizer_source: a\ntokenizer: {source: a}\n"
    )
    assert line == "line 3: tokenizer_source and tokenizer are both there: one of the two"


def test_rescaled_ties_is_refused() -> None:
    (line,) = mistakes(
        "merge_method: ties\nbase_model: b\nmodels: [a]\nparameters: {rescale: true}\n"
    )
    assert line == "line 4: parameters.rescale is not built for ties: leave it out, or use DARE"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("", "neither models nor slices"),
        ("models: []", "neither models nor slices"),
        ("models: [a]\nslices: [{sources: []}]", "models and slices are both there"),
        ("models: a", "should be a list (got 'a')"),
    ],
)
def test_either_models_or_slices_are_merged(lines: str, told: str) -> None:
    (line,) = mistakes(f"merge_method: linear\n{lines}\n")
    assert line.startswith("line ")
    assert line.endswith(told)


def test_a_model_is_merged_once() -> None:
    assert mistakes("merge_method: linear\nmodels: [a, b, a]\n") == [
        "line 2: models has a twice: a model can be merged once only"
    ]


def test_a_reference_is_text() -> None:
    (line,) = mistakes("merge_method: linear\nmodels:\n- model: {path: a, revision: b}\n")
    assert line.startswith("line 3: models[0].model should name a model: a folder, a Hub id, a run")


def test_a_folder_with_a_plus_or_an_at_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a+b").mkdir()
    (tmp_path / "c@d").mkdir()
    recipe = parse_recipe("merge_method: linear\nmodels: [a+b, ./c@d, export/tuned@v2]\n")
    assert recipe.models == ("a+b", "./c@d", "export/tuned@v2")


def test_slices_name_the_layers_of_each_model() -> None:
    assert mistakes("""\
merge_method: linear
base_model: a
slices:
  - sources:
      - {model: a, layer_range: [0, 4]}
      - {model: b, layer_range: [2, 4]}
    residual_weight: 1
  - sources: []
  - sources:
      - {model: a}
      - {model: b, layer_range: [true, 4]}
      - {model: c, layer_range: [4, 2]}
    base_model: b
  - sources:
      - {model: a, layer_range: [0, 1]}
      - {model: a, layer_range: [1, 2]}
    base_model: a
""") == [
        "line 4: slices[0] should take as many layers of each model (got 4, 2)",
        "line 7: slices[0].residual_weight is not taken: mergekit itself has no use for it; leave "
        "it out",
        "line 8: slices[1].sources should be a list of models with a layer_range",
        "line 10: slices[2].sources[0].layer_range should be the first layer and the one after "
        "the last, as [0, 16] (got None)",
        "line 11: slices[2].sources[1].layer_range should be the first layer and the one after "
        "the last, as [0, 16] (got [True, 4])",
        "line 12: slices[2].sources[2].layer_range should be the first layer and the one after "
        "the last, as [0, 16] (got [4, 2])",
        "line 13: slices[2].base_model is another than the recipe's: a merge has one",
        "line 14: slices[3] has a twice: a model can be merged once only",
    ]
