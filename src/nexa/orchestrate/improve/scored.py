"""A model's answers to a suite and their scores, always by the same engine, type and batch."""

from __future__ import annotations

from nexa.core.records import AnswersBody, Artifact, ExportBody, ScoresBody, SuiteBody
from nexa.lm.resolve import ModelFiles
from nexa.orchestrate import plan
from nexa.orchestrate.run_state import Run


def scored(
    run: Run,
    model: ModelFiles,
    export: Artifact[ExportBody] | None,
    suite: Artifact[SuiteBody],
    *,
    side: str,
    name: str,
) -> Artifact[ScoresBody]:
    """Ask, and score: roles `SIDE_answers` and `SIDE_scores`. What was answered is not asked again.

    `export` is the sealed model that is asked, where it is one; the base model is none.
    """
    answers: Artifact[AnswersBody] = run.step(
        f"{side}_answers",
        "generate",
        plan.generate(run.config, model, f"{name}-{side}"),
        suite=suite,
        export=export,
    )
    scores = plan.score(f"{name}-{side}", run_code=run.config.eval.run_code)
    return run.step(f"{side}_scores", "score", scores, suite=suite, answers=answers)
