"""Distances of two trainings: step by step, and over seeds."""

from __future__ import annotations

import math
import random

import pytest

from nexa.core.manifest import RunManifest
from nexa.orchestrate.replay_compare import (
    choices_changed,
    differences,
    loss_distance,
    losses,
    metric_distance,
)


def records(*values: float) -> list[dict[str, float]]:
    return [{"step": i, "loss": value} for i, value in enumerate(values, start=1)]


def test_equal_losses_are_no_distance_apart() -> None:
    found = loss_distance(records(2.0, 1.5), records(2.0, 1.5))
    assert (found.steps, found.largest, found.at_step, found.first_step) == (2, 0.0, None, None)


def test_the_first_and_the_farthest_step_are_named() -> None:
    found = loss_distance(records(2.0, 1.5, 1.25, 1.0), records(2.0, 1.5625, 1.0, 1.125))
    assert (found.first_step, found.at_step, found.largest) == (2, 3, 0.25)


def test_a_training_that_ended_sooner_is_compared_as_far_as_it_goes() -> None:
    found = loss_distance(records(2.0, 1.5), records(2.0))
    assert (found.steps, found.steps_then, found.steps_now, found.largest) == (1, 2, 1, 0.0)
    assert loss_distance([], []).at_step is None


def test_no_number_is_infinitely_far_from_every_number() -> None:
    assert loss_distance(records(2.0), records(math.nan)).largest == math.inf


def test_losses_are_read_line_by_line() -> None:
    assert losses(b'{"step": 1, "loss": 2.5}\n\n{"step": 2, "loss": 2.0}\n') == records(2.5, 2.0)


def test_a_distance_that_seeds_make_too_is_within() -> None:
    # s = 0.1, t(0.975, 2) = 4.302653, times sqrt(2).
    found = metric_distance("final_loss", 1.0, 1.5, [0.9, 1.0, 1.1])
    assert found.allowed == pytest.approx(0.1 * 4.302653 * math.sqrt(2), rel=1e-6)
    assert found.within
    assert not metric_distance("final_loss", 1.0, 1.7, [0.9, 1.0, 1.1]).within
    assert metric_distance("final_loss", 1.0, 1.0, [0.9, 0.9]).within


def test_of_two_runs_that_only_seeds_set_apart_95_in_100_are_within() -> None:
    draw = random.Random(0)
    inside = 0
    for _ in range(2000):
        then, now, *others = (draw.gauss(1.2, 0.03) for _ in range(5))
        inside += metric_distance("final_loss", then, now, others).within
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)


def manifest(**facts: object) -> RunManifest:
    known = {
        "run_id": "2026-01-02-030405-abcd",
        "run_type": "train",
        "nexa_version": "0.1.0",
        "code_digest": "aa",
        "versions": {"click": "8.1", "torch": "2.13.0", "transformers": "5.23.0"},
        "machine": {"cpu": "one", "gpus": [], "system": "Linux x86_64"},
    }
    return RunManifest.model_validate(known | facts)


def test_the_same_machine_and_libraries_differ_in_nothing() -> None:
    assert differences(manifest(), manifest(machine=manifest().machine | {"gpus": ()})) == ()


def test_what_differs_is_told_with_both_values_and_torch_before_the_rest() -> None:
    now = manifest(
        nexa_version="0.2.0",
        code_digest="bb",
        versions={"click": "8.2", "torch": "2.12.0", "wandb": "1"},
        machine={"cpu": "two", "gpus": ["H100", "H100"], "system": "Linux x86_64"},
    )
    assert differences(manifest(), now) == (
        "nexa: 0.1.0 then, 0.2.0 now",
        "torch: 2.13.0 then, 2.12.0 now",
        "transformers: 5.23.0 then, none now",
        "click: 8.1 then, 8.2 now",
        "wandb: none then, 1 now",
        "processor: one then, two now",
        "GPUs: none then, H100, H100 now",
    )


def test_code_that_changed_under_one_version_is_told() -> None:
    assert differences(manifest(), manifest(code_digest="bb")) == (
        "nexa: the same version, but its source files have changed",
    )


def test_choices_are_compared_and_reasons_are_not() -> None:
    then = {"precision": "bfloat16", "micro_tokens": 4096, "executor_reason": "asked for"}
    now = {"precision": "float32", "micro_tokens": 2048, "executor_reason": "auto"}
    assert choices_changed(then, now) == (
        "precision: bfloat16 then, float32 now",
        "micro tokens: 4096 then, 2048 now",
    )
    assert choices_changed(then, then) == ()
