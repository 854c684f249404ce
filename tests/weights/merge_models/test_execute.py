from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nexa.core.errors import ModelError
from nexa.core.events import Event, listening
from nexa.lm.resolve import ModelFiles
from nexa.weights.merge_models import execute as execution
from nexa.weights.merge_models.execute import execute
from nexa.weights.merge_models.methods import Method, Options
from nexa.weights.merge_models.plan import Plan, Source, Task
from nexa.weights.tensors import model_weights
from tests.weights.merge_models.plans import EMBEDDING, plan_of

ALL = 1 << 40


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(plan: Plan, out: Path, **changes: Any) -> dict[str, bytes]:
    out.mkdir(exist_ok=True)
    execute(plan, out, **{"dtype": "float32", "limit_bytes": ALL} | changes)
    return files(out)


def test_every_tensor_is_what_the_recipe_says(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    plan = plan_of(three_models, "linear", Options(weights=(0.2, 0.3, 0.5)))

    run(plan, tmp_path / "out")

    found = load_file(tmp_path / "out" / "model.safetensors")
    parents = [model_weights(model.folder) for model in three_models]
    assert sorted(found) == sorted(task.name for task in plan.tasks)
    for name, tensor in found.items():
        wanted = sum(
            weight * parent.tensor(name).double()
            for weight, parent in zip((0.2, 0.3, 0.5), parents, strict=True)
        )
        torch.testing.assert_close(tensor.double(), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("slerp", Options(t=0.3)),
        ("ties", Options(weights=(1.0, 0.5), densities=(0.4, 0.7))),
        ("dare_linear", Options(weights=(1.0, 0.5), densities=(0.4, 0.7), seed=3)),
    ],
)
def test_the_bytes_do_not_depend_on_the_number_of_threads(
    three_models: tuple[ModelFiles, ...], tmp_path: Path, method: Method, options: Options
) -> None:
    plan = plan_of(three_models, method, options)

    alone = run(plan, tmp_path / "alone", threads=1, dtype="bfloat16")
    together = run(plan, tmp_path / "together", threads=7, dtype="bfloat16")
    again = run(plan, tmp_path / "again", dtype="bfloat16", limit_bytes=20_000)

    assert alone == together
    assert len(again) > 3
    assert "model.safetensors.index.json" in again
    whole = load_file(tmp_path / "alone" / "model.safetensors")
    for name in set(again) - {"model.safetensors.index.json"}:
        for tensor, numbers in load_file(tmp_path / "again" / name).items():
            assert torch.equal(numbers, whole[tensor])


def test_rows_of_a_vocabulary_are_brought_into_the_childs_order(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    plan = plan_of(three_models, "task_arithmetic", Options(weights=(0.5, 0.5), normalize=False))
    turned = dataclasses.replace(plan, rows={0: tuple(reversed(range(320)))})

    run(turned, tmp_path / "out")

    found = load_file(tmp_path / "out" / "model.safetensors")[EMBEDDING]
    first, second, base = (model_weights(model.folder).tensor(EMBEDDING) for model in three_models)
    wanted = base + 0.5 * (first.flip(0) - base) + 0.5 * (second - base)
    torch.testing.assert_close(found, wanted)


def test_what_is_too_large_beside_others_is_made_alone(
    three_models: tuple[ModelFiles, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(three_models, "linear", Options(weights=(1.0, 1.0, 1.0)))
    plan = dataclasses.replace(plan, rows={2: tuple(range(320))})
    unlimited = run(plan, tmp_path / "unlimited")
    monkeypatch.setattr(execution, "UNDER_WAY_BYTES", 1)

    assert run(plan, tmp_path / "narrow", threads=4) == unlimited

    parents = execution.Parents(plan)
    embedding, norm = (
        next(task for task in plan.tasks if task.name == name)
        for name in (EMBEDDING, "model.norm.weight")
    )
    assert parents.cost_bytes(embedding) == 2 * 4 * 320 * 32  # the result and reordered rows
    assert parents.cost_bytes(norm) == 4 * 32


def test_progress_is_told_in_megabytes_of_the_child(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    heard: list[Event] = []
    plan = plan_of(three_models, "slerp", Options())

    with listening(heard.append):
        run(plan, tmp_path / "out")

    end = heard[-1]
    assert (end["kind"], end["task"], end["unit"]) == ("progress.end", "merging models", "MB")
    assert end["done"] == pytest.approx(end["total"])
    assert sum(event["kind"] == "progress" for event in heard) == len(plan.tasks)


def test_an_interrupt_ends_it_and_leaves_neither_files_nor_settings(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    plan = plan_of(three_models, "ties", Options(weights=(1.0, 1.0), densities=(0.5, 0.5)))
    before = torch.get_num_threads()

    def interrupt(event: Event) -> None:
        if event["kind"] == "progress":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(interrupt):
        run(plan, tmp_path / "out")

    assert files(tmp_path / "out") == {}
    assert torch.get_num_threads() == before


def test_a_tensor_that_cannot_be_merged_is_named_and_nothing_is_left(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    plan = plan_of(three_models, "slerp", Options())
    odd = Task(
        "odd",
        (32,),
        "slerp",
        (Source(0, "model.norm.weight"), Source(1, EMBEDDING)),
        None,
        Options(),
    )

    with pytest.raises(ModelError, match="odd"):
        run(dataclasses.replace(plan, tasks=(*plan.tasks, odd)), tmp_path / "out")

    assert files(tmp_path / "out") == {}
