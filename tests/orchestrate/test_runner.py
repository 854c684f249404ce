from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from nexa.core.errors import UsageError
from nexa.core.events import Event, listening
from nexa.core.identity import fingerprint
from nexa.core.records import Artifact
from nexa.eval.metrics import ScoreSpec
from nexa.eval.suite import FreezeSpec
from nexa.orchestrate.runner import run_step
from nexa.orchestrate.steps import STEPS
from tests.support.project import Finished, kinds


def made(finished: Finished, role: str) -> Artifact[Any]:
    artifact: Artifact[Any] = finished.tiers.store.by_digest(finished.manifest.outputs[role])
    return artifact


def test_an_equal_recipe_gives_the_artifact_that_is_there(project: Finished) -> None:
    events: list[Event] = []
    artifacts = {"suite": made(project, "suite"), "answers": made(project, "base_answers")}
    with listening(events.append):
        artifact, reused = run_step(
            "score", ScoreSpec(name="another-name"), artifacts, store=project.tiers.store
        )
    assert reused
    assert artifact == made(project, "base_scores")
    assert kinds(events) == ["step.reused"]
    assert events[0]["label"] == artifact.label


def test_the_runner_seals_step_recipe_and_inputs(project: Finished) -> None:
    dataset = made(project, "eval_dataset")
    spec = FreezeSpec(name="small", rows=3)
    events: list[Event] = []
    with listening(events.append):
        artifact, reused = run_step("freeze", spec, {"dataset": dataset}, store=project.tiers.store)
    assert not reused
    assert artifact.label == "suite/small@v1"
    assert artifact.step == {"name": "freeze", "version": 1}
    assert artifact.inputs == {"dataset": dataset.digest}
    assert artifact.fingerprint == fingerprint("freeze", 1, spec, artifact.inputs)
    assert [k for k in kinds(events) if k.startswith("step")] == ["step.start", "step.end"]
    assert project.tiers.store.get("suite", "small").digest == artifact.digest


def test_a_step_of_another_version_is_made_anew(
    project: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = STEPS["score"].version + 1
    monkeypatch.setitem(STEPS, "score", dataclasses.replace(STEPS["score"], version=version))
    artifacts = {"suite": made(project, "suite"), "answers": made(project, "base_answers")}
    artifact, reused = run_step("score", ScoreSpec(name="a"), artifacts, store=project.tiers.store)
    assert not reused
    assert artifact.step["version"] == version
    assert artifact.body == made(project, "base_scores").body


def test_an_optional_input_may_be_left_out(project: Finished) -> None:
    recipe = made(project, "base_answers")
    assert set(recipe.inputs) == {"suite"}
    assert set(made(project, "tuned_answers").inputs) == {"suite", "export"}


@pytest.mark.parametrize(
    ("roles", "complaint"),
    [
        ({}, "step freeze needs a dataset as dataset"),
        ({"dataset": "suite"}, "step freeze takes a dataset as dataset"),
        ({"dataset": None}, "step freeze needs a dataset as dataset"),
        (
            {"dataset": "dataset", "suite": "suite", "more": "suite"},
            "step freeze takes no more, suite",
        ),
    ],
)
def test_a_step_takes_its_own_inputs_and_no_others(
    finished: Finished, roles: dict[str, str | None], complaint: str
) -> None:
    artifacts = {role: made(finished, name) if name else None for role, name in roles.items()}
    with pytest.raises(UsageError, match=complaint):
        run_step("freeze", FreezeSpec(name="x"), artifacts, store=finished.tiers.store)
