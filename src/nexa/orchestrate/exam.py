"""What a model is asked: a frozen suite, rows that are frozen now, or those of a run or config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa.core.config import load_config
from nexa.core.errors import UsageError
from nexa.core.identity import slug
from nexa.core.manifest import find_manifest
from nexa.core.records import Artifact, SuiteBody
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.data.prepare import PrepareSpec
from nexa.eval.generate import GenerateSpec
from nexa.eval.suite import FreezeSpec
from nexa.eval.tasks.definition import named_task
from nexa.lm.local import Engine
from nexa.lm.resolve import ModelFiles, Source
from nexa.orchestrate import plan, sealed_data
from nexa.orchestrate.merge_data import suite_of
from nexa.orchestrate.models import run_of
from nexa.orchestrate.run_state import CONFIG, Run
from nexa.orchestrate.runner import run_step

ROWS = 64
MAX_NEW_TOKENS = 160


@dataclass(frozen=True)
class Asked:
    """What a model is asked, and by which engine: a file of held-out rows, or a frozen suite.

    With neither, a run is asked its own suite again, and any other model the rows that the
    config.yaml here holds out. `rows`, `max_new_tokens`, `task` and `metrics` are for a file.
    `run_code` lets a task run what models wrote, as `eval.run_code` does.
    """

    data: Path | None = None
    suite: str | None = None
    rows: int | None = None
    max_new_tokens: int | None = None
    base_source: Source = "auto"
    engine: Engine = "auto"
    task: str | None = None
    metrics: tuple[str, ...] = ()
    run_code: bool = False

    def __post_init__(self) -> None:
        if self.data is not None and self.suite is not None:
            raise UsageError("--data and --suite both say what is asked", fix="leave one out")
        freezes = self.rows or self.max_new_tokens or self.task or self.metrics
        if self.data is None and freezes:
            raise UsageError(
                "--rows, --max-new-tokens, --task and --metrics are for rows that are frozen now",
                found="a suite that is frozen already has its own",
                fix="--data FILE",
            )


@dataclass(frozen=True)
class Exam:
    """What is asked, and in which batches: both are part of a score's seal.

    Either a suite that is frozen already, or the rows and the way to freeze one.
    """

    suite: Artifact[SuiteBody] | None = None
    rows: PrepareSpec | None = None
    freeze: FreezeSpec | None = None
    batch_size: int = GenerateSpec.batch_size

    def frozen_in(self, run: Run) -> Artifact[SuiteBody]:
        """The suite: the one that was named, or one that the run freezes now."""
        if self.suite is not None:
            run.ledger.amend(inputs={**run.ledger.manifest.inputs, "suite": self.suite.digest})
            return self.suite
        dataset = run.step("eval_dataset", "prepare", self.rows)
        return run.step("suite", "freeze", self.freeze, dataset=dataset)

    def frozen_aside(self, store: Store) -> Artifact[SuiteBody]:
        """The same suite without a run; what has to be made goes into `store`."""
        if self.suite is not None:
            return self.suite
        dataset, _ = run_step("prepare", self.rows, {}, store=store)
        return run_step("freeze", self.freeze, {"dataset": dataset}, store=store)[0]


def exam_of(
    references: Sequence[str], asked: Asked, tiers: Tiers, measure: ModelFiles | None
) -> Exam:
    """What was named; else the suite of the first run among the references; else config.yaml's.

    `measure` is the model by which a file's rows are measured; None leaves it to config.yaml.

    Raises:
        UsageError: nothing says what to ask.
    """
    if asked.suite is not None:
        return Exam(tiers.store.get("suite", asked.suite))
    if asked.data is not None:
        return _of_file(asked.data, asked, measure or _configured_model(tiers))
    for reference in references:
        run_id = run_of(reference, tiers)
        outputs = find_manifest(tiers.manifests, run_id).outputs if run_id else {}
        if "suite" in outputs and "base_answers" in outputs:
            decoding = tiers.store.by_digest(outputs["base_answers"]).body.decoding
            suite = tiers.store.by_digest(outputs["suite"])
            return Exam(suite, batch_size=decoding["batch_size"])
    return _configured(tiers)


def _of_file(data: Path, asked: Asked, model: ModelFiles) -> Exam:
    name = slug(data.resolve().stem)
    freeze = FreezeSpec(
        name=name,
        rows=asked.rows or ROWS,
        max_new_tokens=asked.max_new_tokens or MAX_NEW_TOKENS,
        task=named_task(asked.task or "auto", Path.cwd()),
        metrics=asked.metrics,
    )
    return Exam(rows=plan.eval_rows(data, model, f"{name}-eval"), freeze=freeze)


def _configured(tiers: Tiers) -> Exam:
    """The suite that a training run of config.yaml freezes, equal to its own."""
    path = tiers.root / CONFIG
    if not path.exists():
        raise UsageError(
            "nothing to ask: no held-out rows are named",
            fix="--data FILE, --suite NAME, or a config.yaml here",
        )
    config = load_config(path)
    base = plan.base_model(config, tiers)
    sealed = sealed_data.find(config.data.train_path, tiers)
    if sealed is not None and config.data.eval_path is None:
        suite = sealed_data.require_suite(sealed, suite_of(sealed, tiers.store))
        return Exam(suite, batch_size=config.eval.batch_size)
    held_out = plan.training_rows if config.data.eval_path is None else plan.held_out
    rows = held_out(config, tiers.root, base)
    freeze = plan.freeze(config, tiers.root)
    return Exam(rows=rows, freeze=freeze, batch_size=config.eval.batch_size)


def _configured_model(tiers: Tiers) -> ModelFiles:
    path = tiers.root / CONFIG
    if not path.exists():
        raise UsageError(
            "rows are measured in the tokens of a local model, and none is named",
            fix="--suite NAME, a local model beside it, or a config.yaml here",
        )
    return plan.base_model(load_config(path), tiers)
