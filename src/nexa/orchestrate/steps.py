"""The one table of steps: what can be made, by which function, from what.

`version` is raised whenever a step's output changes for equal inputs; it is part of every
fingerprint, so an older result is never taken for a newer one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nexa.core.records import Draft


@dataclass(frozen=True)
class Step:
    """One row of the table.

    `inputs` names artifacts by role and kind; `?` marks optional ones, `|` alternatives. A role
    that ends with `*` stands for any number: `parent*` for parent1, parent2 and so on.
    """

    name: str
    version: int
    function: str
    inputs: tuple[str, ...]
    output: str

    def load(self) -> Callable[..., Draft[Any]]:
        """Import the function; until then the step costs no import."""
        module, _, attribute = self.function.partition(":")
        function: Callable[..., Draft[Any]] = getattr(importlib.import_module(module), attribute)
        return function


STEPS = {
    step.name: step
    for step in (
        Step("prepare", 3, "nexa.data.prepare:prepare", ("suite: suite?",), "dataset"),
        Step(
            "merge_data",
            3,  # raised whenever the rules of `core.hazards` are
            "nexa.data.merge:merge",
            ("dataset: dataset", "candidates: dataset", "suite: suite?"),
            "dataset",
        ),
        Step("augment", 1, "nexa.data.augment:augment", ("dataset: dataset?",), "synthetic"),
        Step(
            "distill_materialize",
            1,
            "nexa.data.distill_materialize:distill_materialize",
            ("dataset: dataset?", "suite: suite?"),
            "synthetic",
        ),
        Step(
            "prepare_synthetic",
            2,  # raised whenever that of `prepare` is, or the rules of `core.hazards` are
            "nexa.data.synthetic:prepare_synthetic",
            ("synthetic: synthetic", "suite: suite?"),
            "dataset",
        ),
        Step("freeze", 1, "nexa.eval.suite:freeze", ("dataset: dataset",), "suite"),
        Step("finetune", 2, "nexa.train.finetune:finetune", ("dataset: dataset",), "checkpoint"),
        Step(
            "merge",
            2,
            "nexa.weights.merge_adapter:merge_adapter",
            ("checkpoint: checkpoint|adopted",),
            "export",
        ),
        Step(
            "merge_models",
            1,
            "nexa.weights.merge_models.step:merge_models",
            ("parent*: export?",),
            "export",
        ),
        Step(
            "merge_adapters",
            1,
            "nexa.weights.merge_models.adapter_step:merge_sealed_adapters",
            ("parent*: checkpoint|adopted?",),
            "adopted",
        ),
        Step("convert", 1, "nexa.weights.convert:convert", ("export: export?",), "export"),
        Step("adopt", 1, "nexa.weights.adopt:adopt", (), "adopted"),
        Step(
            "take",
            1,
            "nexa.weights.take:take",
            ("checkpoint: adopted", "export: export?"),
            "export",
        ),
        Step(
            "generate",
            3,
            "nexa.eval.generate:generate",
            ("suite: suite", "export: export?"),
            "answers",
        ),
        Step("ask", 1, "nexa.eval.ask:ask", ("suite: suite",), "answers"),
        Step("harness_suite", 1, "nexa.eval.harness:harness_suite", (), "suite"),
        Step(
            "harness_answers",
            1,
            "nexa.eval.harness:harness_answers",
            ("suite: suite", "export: export?"),
            "answers",
        ),
        Step(
            "harness_scores",
            1,
            "nexa.eval.harness:harness_scores",
            ("suite: suite", "answers: answers"),
            "scores",
        ),
        Step(
            "score",
            2,  # raised whenever the rules of `core.hazards` are
            "nexa.eval.metrics:score",
            ("suite: suite", "answers: answers"),
            "scores",
        ),
        Step(
            "judge",
            1,
            "nexa.eval.judge:judge",
            ("suite: suite", "answers: answers"),
            "judgements",
        ),
        Step(
            "judge_pairs",
            1,
            "nexa.eval.pairwise:judge_pairs",
            ("suite: suite", "answers: answers", "other: answers"),
            "judgements",
        ),
        Step(
            "score_judged",
            1,
            "nexa.eval.judged:score_judged",
            ("suite: suite", "answers: answers", "judgements: judgements"),
            "scores",
        ),
        Step(
            "agree",
            1,
            "nexa.eval.agreement:agree",
            ("suite: suite", "judgements: judgements"),
            "agreement",
        ),
        Step(
            "analyze",
            3,  # raised whenever `core.statistics` gives other numbers
            "nexa.eval.analyze:analyze",
            ("suite: suite", "dataset: dataset?", "base: scores", "tuned: scores"),
            "report",
        ),
        Step(
            "weakness",
            2,
            "nexa.feedback.weakness_analysis:weakness",
            ("suite: suite", "scores: scores", "judgements: judgements?", "report: report?"),
            "weakness",
        ),
        Step(
            "select",
            1,
            "nexa.feedback.feedback_generators.pool:select",
            ("weakness: weakness?", "pool: dataset", "exclude: dataset?"),
            "dataset",
        ),
        Step(
            "propose",
            1,
            "nexa.feedback.feedback_generators.asking:propose",
            ("weakness: weakness", "dataset: dataset", "answers: answers?"),
            "synthetic",
        ),
        Step(
            "decide",
            2,  # raised whenever `core.statistics` gives other numbers
            "nexa.feedback.feedback_loop:decide",
            (
                "weakness: weakness",
                "suite: suite",
                "report: report?",
                "before: scores",
                "after: scores?",
            ),
            "decision",
        ),
        Step(
            "publish",
            2,
            "nexa.publish.publish:publish",
            (
                "export: export",
                "gguf*: export?",
                "checkpoint: checkpoint|adopted",
                "report: report",
                "base_scores: scores",
                "tuned_scores: scores",
                "base_answers: answers",
                "tuned_answers: answers",
                "suite: suite",
                "dataset: dataset?",
            ),
            "publication",
        ),
    )
}
