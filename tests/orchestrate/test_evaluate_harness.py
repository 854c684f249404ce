"""`nexa eval --harness` as a run with its manifest."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import EvalError, UsageError
from nexa.core.events import Event, listening
from nexa.core.manifest import find_manifest
from nexa.core.tiers import Tiers
from nexa.orchestrate.evaluate_harness import Harness, evaluate_harness
from tests.eval.harnessed import write_model, write_tasks
from tests.support.project import Finished, kinds


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return write_tasks(tmp_path / "tasks")


def wanted(tasks: Path, *names: str, **options: object) -> Harness:
    return Harness(tasks=names, tasks_path=tasks, dtype="float32", **options)  # type: ignore[arg-type]


def test_two_models_on_two_tasks_are_one_run_and_set_side_by_side(
    tmp_path: Path, tasks: Path, tiny_llama: Path
) -> None:
    other = write_model(tmp_path / "other", seed=4)
    made = evaluate_harness(
        [str(tiny_llama), str(other)], wanted(tasks, "toy_choice", "toy_text", limit=3), tmp_path
    )
    labels = [each.scores.label for each in made]
    assert labels == [
        "scores/tiny-llama-lm-eval-toy_choice@v1",
        "scores/other-lm-eval-toy_choice@v1",
        "scores/tiny-llama-lm-eval-toy_text@v1",
        "scores/other-lm-eval-toy_text@v1",
    ]
    assert [each.minus_first is None for each in made] == [True, False, True, False]
    tiers = Tiers.of(tmp_path)
    manifest = find_manifest(tiers.manifests, "latest")
    assert (manifest.run_type, manifest.status) == ("eval", "done")
    roles = {
        f"{task}{side}{what}"
        for task in ("", "t2_")
        for side in ("", "m2_")
        for what in ("answers", "scores")
    }
    assert set(manifest.outputs) == roles | {"suite", "t2_suite"}
    assert set(manifest.eval_summary) == {"acc", "acc_norm"}
    assert (tiers.scratch / "lm_eval" / "datasets").exists()
    events: list[Event] = []
    with listening(events.append):
        again = evaluate_harness([str(tiny_llama)], wanted(tasks, "toy_choice", limit=3), tmp_path)
    assert again[0].scores.digest == made[0].scores.digest
    assert "step.start" not in kinds(events)


def test_an_export_s_answers_stand_in_the_lineage_of_its_training(
    project: Finished, tasks: Path
) -> None:
    [made] = evaluate_harness(["latest"], wanted(tasks, "toy_choice", limit=2), project.root)
    answers = project.tiers.store.by_digest(made.scores.body.answers_digest)
    assert answers.inputs["export"] == project.manifest.outputs["export"]


def test_models_of_an_api_and_no_task_are_refused(tmp_path: Path, tasks: Path) -> None:
    with pytest.raises(UsageError, match="tell no likelihoods"):
        evaluate_harness(["gpt-4o"], wanted(tasks, "toy_choice"), tmp_path)
    with pytest.raises(UsageError, match="names no task"):
        Harness(tasks=())


def test_a_task_that_fails_makes_no_run(tmp_path: Path, tasks: Path, tiny_llama: Path) -> None:
    (tasks / "docs.jsonl").unlink()
    with pytest.raises(EvalError, match="cannot load"):
        evaluate_harness([str(tiny_llama)], wanted(tasks, "toy_choice"), tmp_path)
    assert not list(Tiers.of(tmp_path).manifests.glob("*.json"))
