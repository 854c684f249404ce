"""Sealed answers scored once more: by rule, judged, and by what cannot be asked again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexa.core.events import Event, listening
from nexa.core.records import Artifact
from nexa.core.store import Store
from nexa.eval.judge import JudgeSpec, judge
from nexa.eval.judged import ScoreJudgedSpec, score_judged
from nexa.eval.suite import FreezeSpec, freeze
from nexa.eval.verdicts import Decoding
from nexa.orchestrate.steps import STEPS
from nexa.orchestrate.verifying.rescore import AGAIN, rescored_problems
from tests.eval import made
from tests.eval.judging import RUBRIC, answers, fair, teacher
from tests.support.project import Finished, notes


@pytest.fixture
def scores(project: Finished) -> Artifact[Any]:
    return project.tiers.store.by_digest(project.manifest.outputs["tuned_scores"])


def changed(scores: Artifact[Any], **changes: Any) -> Artifact[Any]:
    return replace(scores, body=scores.body.model_copy(update=changes))


def test_sealed_scores_follow_from_their_answers(project: Finished, scores: Artifact[Any]) -> None:
    assert list(rescored_problems(scores, project.tiers.store)) == []


def test_a_forged_count_of_red_flags_does_not_follow(
    project: Finished, scores: Artifact[Any]
) -> None:
    safety = scores.body.safety.model_copy(update={"red_flag_count": 9})

    assert list(rescored_problems(changed(scores, safety=safety), project.tiers.store)) == [
        "its numbers do not follow from the answers"
    ]


def test_forged_rows_do_not_follow(project: Finished, scores: Artifact[Any]) -> None:
    store = project.tiers.store
    data = store.path(scores, "scores.jsonl").read_bytes()
    file = store.put(data.replace(b'"red_flag_count":0', b'"red_flag_count":1', 1))
    forged = replace(scores, files={**scores.files, "scores.jsonl": file})

    assert list(rescored_problems(forged, store)) == ["its rows do not follow from the answers"]


def test_judged_scores_follow_from_their_judgements(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    dataset = made.dataset(store, {"train": [], "eval": made.record_rows()})
    frozen = freeze(FreezeSpec(name="m", rows=6, max_new_tokens=24), dataset=dataset, store=store)
    suite = made.seal(frozen, store, dataset=dataset)
    given = answers(store, suite)
    asked = JudgeSpec(teacher(fair, tmp_path), RUBRIC, name="m", decoding=Decoding())
    said = made.seal(
        judge(asked, suite=suite, answers=given, store=store), store, suite=suite, answers=given
    )
    inputs = {"suite": suite, "answers": given, "judgements": said}
    draft = score_judged(ScoreJudgedSpec("m"), **inputs, store=store)
    sealed = store.seal(
        draft,
        step={"name": "score_judged", "version": 1},
        fingerprint="f",
        inputs={role: artifact.digest for role, artifact in inputs.items()},
    )

    assert list(rescored_problems(sealed, store)) == []
    assert list(rescored_problems(changed(sealed, counts={"verdicts": 99}), store)) == [
        "its numbers do not follow from the answers"
    ]


def test_what_lm_eval_scored_is_not_scored_again_and_a_note_says_so(
    project: Finished, scores: Artifact[Any]
) -> None:
    heard: list[Event] = []
    theirs = replace(scores, step={**scores.step, "name": "harness_scores"})
    with listening(heard.append):
        assert list(rescored_problems(theirs, project.tiers.store)) == []
    assert "was scored by lm-eval" in "".join(notes(heard))


def test_every_step_that_makes_scores_is_known() -> None:
    made = {name for name, step in STEPS.items() if step.output == "scores"}
    assert made == {*AGAIN, "harness_scores"}
