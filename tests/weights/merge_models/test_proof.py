"""Every check of the proof fails by name for the fault it is there for, and for no honest merge."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nexa.core.errors import ParityError
from nexa.lm.resolve import ModelFiles
from nexa.weights.checks import Parity
from nexa.weights.folder import write_config
from nexa.weights.merge_models import proof
from nexa.weights.merge_models.execute import execute
from nexa.weights.merge_models.formulas import FORMULAS
from nexa.weights.merge_models.methods import METHODS, Method, Options
from nexa.weights.merge_models.plan import Plan, Source
from nexa.weights.merge_models.proof import prove
from nexa.weights.merge_models.texts import write_texts
from tests.weights.merge_models import made
from tests.weights.merge_models.plans import EMBEDDING, plan_of

NORM = "model.norm.weight"
LAYER = "model.layers.1.mlp.up_proj.weight"


@dataclass
class Child:
    """A folder that was merged rightly, to be spoiled, and its plan."""

    folder: Path
    plan: Plan
    dtype: str = "float32"

    def prove(self) -> Parity:
        return prove(self.folder, self.plan, dtype=self.dtype)

    def failures(self) -> set[str]:
        return {check.name for check in self.prove().checks if not check.passed}

    def edit(self, edit: Callable[[dict[str, Tensor]], Any]) -> None:
        made.edit_tensors(self.folder, edit)

    def change(self, name: str, **fields: Any) -> None:
        made.edit_json(self.folder / name, lambda told: told.update(fields))


def merge(plan: Plan, folder: Path, dtype: str = "float32") -> Child:
    folder.mkdir()
    execute(plan, folder, dtype=dtype, limit_bytes=1 << 40)
    write_config(plan.config, folder, dtype=dtype, tie=plan.tie)
    owner = plan.models[plan.tokenizer]
    write_texts(owner, folder)
    return Child(folder, plan, dtype)


@pytest.fixture(scope="module")
def _child(three_models: tuple[ModelFiles, ...], tmp_path_factory: pytest.TempPathFactory) -> Child:
    plan = plan_of(three_models, "ties", Options(weights=(1.0, 0.5), densities=(0.4, 0.7)))
    return merge(plan, tmp_path_factory.mktemp("child") / "model")


@pytest.fixture
def child(_child: Child, tmp_path: Path) -> Child:
    folder = shutil.copytree(_child.folder, tmp_path / "model")
    return Child(folder, _child.plan)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("method", FORMULAS)
def test_an_honest_merge_passes_every_check(
    three_models: tuple[ModelFiles, ...], tmp_path: Path, method: Method, dtype: str
) -> None:
    weights = (0.5, 0.4, 0.3)[: 2 if METHODS[method].base else 3]
    options = Options(weights=weights, densities=(0.5,) * len(weights), t=0.3, scale=0.9)
    parity = merge(plan_of(three_models, method, options), tmp_path / "out", dtype).prove()

    assert parity.passed, parity.to_json()
    told = parity.to_json()
    assert json.loads(json.dumps(told)) == told
    assert told["sample"]["tensors"] == len(plan_of(three_models, method, options).tasks)
    losses = told["cross_entropy_nats"]
    assert math.isfinite(losses["child"])
    assert len(losses["parents"]) == 3
    assert [check.name for check in parity.checks] == [
        *("dtype", "config", "tensor_names", "tensor_shapes", "tied_embeddings"),
        *("weights_are_numbers", "tensors_recomputed", "tokenizer_files", "token_ids"),
        *("end_of_turn", "loads", "logits_are_numbers", "logits_unlike_parents"),
    ]


def test_rows_of_large_tensors_are_looked_at_and_whole_ones_while_there_is_room(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "SMALL_NUMBERS", 100)
    monkeypatch.setattr(proof, "ROWS", 7)
    monkeypatch.setattr(proof, "WHOLE_NUMBERS", 320 * 32 + 2000)

    sample = child.prove().to_json()["sample"]

    # Five norms of 32, seven rows of the embedding, and of the others but what there is room for.
    assert 5 < sample["tensors"] < len(child.plan.tasks)
    child.edit(lambda tensors: tensors[EMBEDDING].mul_(1.001))
    assert child.failures() == {"tensors_recomputed"}


def test_of_drawn_masks_the_first_rows_are_looked_at(
    three_models: tuple[ModelFiles, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "SMALL_NUMBERS", 100)
    monkeypatch.setattr(proof, "ROWS", 7)
    options = Options(weights=(1.0, 1.0), densities=(0.5, 0.5), seed=2)
    merged = merge(plan_of(three_models, "dare_ties", options), tmp_path / "out")

    assert merged.prove().passed
    merged.plan = plan_of(three_models, "dare_ties", dataclasses.replace(options, seed=3))
    assert merged.failures() == {"tensors_recomputed"}


def test_rows_in_another_order_are_followed_into_the_models_own_numbers(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    plan = plan_of(three_models, "linear", Options(weights=(0.5, 0.3, 0.2)))
    turned = dataclasses.replace(plan, rows={1: tuple(reversed(range(320)))})
    merged = merge(turned, tmp_path / "out")

    assert merged.prove().passed
    merged.plan = plan
    assert merged.failures() == {"tensors_recomputed"}


def test_an_untied_model_has_two_matrices_and_passes(tmp_path: Path) -> None:
    parents = made.files(
        made.model(tmp_path / "a", tied=False), made.model(tmp_path / "b", tied=False, seed=1)
    )
    merged = merge(plan_of(parents, "slerp", Options(t=0.5)), tmp_path / "out")

    assert merged.prove().passed
    merged.change("config.json", tie_word_embeddings=True)
    assert merged.failures() == {"tied_embeddings"}


def test_a_merge_that_is_to_be_a_parent_may_be_like_it(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    plan = plan_of(three_models[:2], "slerp", Options(t=0.0))

    parity = merge(plan, tmp_path / "out").prove()

    assert parity.passed
    [unlike] = [check for check in parity.checks if check.name == "logits_unlike_parents"]
    assert unlike.value[0] == 0
    assert unlike.value[1] > 0


def no_merge(tensors: dict[str, Tensor], plan: Plan) -> None:
    weights = load_file(plan.models[0].folder / "model.safetensors")
    for name, tensor in tensors.items():
        tensor.copy_(weights[name])


FAULTS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], set[str]]] = {
    "a number is none": (
        lambda t: t[NORM].__setitem__(3, float("nan")),
        {"weights_are_numbers", "tensors_recomputed"},
    ),
    "a number is infinite": (
        lambda t: t[LAYER].__setitem__((3, 3), -float("inf")),
        {"weights_are_numbers", "tensors_recomputed"},
    ),
    "another type": (
        lambda t: t.update({NORM: t[NORM].bfloat16()}),
        {"weights_are_numbers"},
    ),
    "a number is off": (lambda t: t[LAYER][5, 5].add_(1e-3), {"tensors_recomputed"}),
    "two tensors changed places": (
        lambda t: t.update({LAYER: t[LAYER.replace("up", "gate")].clone()}),
        {"tensors_recomputed"},
    ),
    "a tensor is missing": (lambda t: t.pop(LAYER), {"tensor_names"}),
    "a stranger": (
        lambda t: t.update({"lm_head.weight": t[EMBEDDING].clone()}),
        {"tensor_names"},
    ),
    "another shape": (lambda t: t.update({NORM: t[NORM][:8].clone()}), {"tensor_shapes"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_weights_is_named(child: Child, fault: str) -> None:
    edit, names = FAULTS[fault]
    child.edit(edit)

    assert child.failures() == names
    with pytest.raises(ParityError, match="not what its recipe says"):
        child.prove().require()


def test_a_child_that_is_a_copy_of_a_parent_is_named(child: Child) -> None:
    child.edit(lambda tensors: no_merge(tensors, child.plan))

    assert child.failures() == {"tensors_recomputed"}


def test_logits_that_are_a_parents_are_named_though_the_numbers_are_right(child: Child) -> None:
    """The plan of the weights is another than that of the logits: what no check of numbers sees."""
    sample = proof.Sample(1)
    sample.off, sample.squares = [1.0], 1.0
    same = proof.Reading(1.0, torch.ones(1, 3), finite=True)

    unlike = proof._unlike_parents(same, [same], sample)

    assert (unlike.name, unlike.passed, unlike.value) == ("logits_unlike_parents", False, [0.0])


def test_a_tensor_from_elsewhere_makes_its_parent_another_model(child: Child) -> None:
    tasks = list(child.plan.tasks)
    place = next(i for i, task in enumerate(tasks) if task.name == LAYER)
    moved = Source(0, LAYER.replace(".1.", ".0."))
    tasks[place] = dataclasses.replace(tasks[place], sources=(moved, tasks[place].sources[1]))
    plan = dataclasses.replace(child.plan, tasks=tuple(tasks))
    sample = proof.Sample(3)
    stored = proof.model_weights(merge(plan, child.folder.parent / "moved").folder)

    assert proof._recomputed(plan, stored, sample).passed
    assert math.isinf(sample.changed(0))
    assert 0 < sample.changed(1) < 10
    assert proof.Sample(1).changed(0) == 0


def test_faults_in_the_texts_are_named(child: Child) -> None:
    template = child.folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert child.failures() == {"tokenizer_files"}

    made.swap_ids(child.folder, 100, 101)
    assert child.failures() == {"tokenizer_files", "token_ids"}


def test_faults_in_the_config_are_named(child: Child) -> None:
    child.change("config.json", dtype="bfloat16", rope_theta=7)
    assert child.failures() == {"dtype", "config"}

    child.change("config.json", dtype="float32", tie_word_embeddings=False)
    assert child.failures() == {"config", "tied_embeddings"}


def test_a_config_that_asks_for_other_weights_is_named_though_it_is_the_plans(child: Child) -> None:
    child.plan = dataclasses.replace(
        child.plan, config={**child.plan.config, "num_hidden_layers": 3}
    )
    child.change("config.json", num_hidden_layers=3)

    parity = child.prove()

    assert child.failures() == {"loads"}
    assert parity.to_json()["cross_entropy_nats"] == {}
