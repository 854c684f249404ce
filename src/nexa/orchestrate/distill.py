"""`nexa distill`: a teacher's answers, then a student trained on them, judged as any training is.

It is one run: its manifest has the teacher, the student, and what both cost. The same command goes
on where it was stopped: answers are in their journal, weights in their checkpoints.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from nexa.core.config import Config, load_config, parse_config
from nexa.core.errors import ConfigError, ModelError
from nexa.core.events import emit
from nexa.core.hardware import this_machine
from nexa.core.manifest import RunManifest
from nexa.core.store import write_atomic
from nexa.core.tiers import Tiers
from nexa.data.distill_materialize import DistillSpec, requests_of
from nexa.lm.client import Request
from nexa.lm.prices import TEACHERS
from nexa.lm.resolve import ModelFiles, resolve
from nexa.orchestrate import plan
from nexa.orchestrate.distill_data import (
    STEP,
    Answers,
    Found,
    distilled_name,
    find_prompts,
    materialise,
    spec_of,
)
from nexa.orchestrate.estimate import estimate
from nexa.orchestrate.model_shape import shape_of
from nexa.orchestrate.recipes import ROWS_A_STEP, length_for, recipe_for
from nexa.orchestrate.run import train_prepared
from nexa.orchestrate.run_state import CONFIG, opened
from nexa.orchestrate.teaching import Choice, Preview, preview
from nexa.train.memory import method_of

NEW_TOKENS = 256  # of an answer in the evaluation, where there is no config.yaml to say so
TRAINED_SHARE = 0.9  # of the rows, where a tenth is held out


@dataclass(frozen=True)
class Plan:
    """What `nexa distill` would take: the teacher's part, and the training's."""

    teaching: Preview
    student: str
    dataset: str
    held_out: str
    training: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "teaching": self.teaching.to_json()}


@dataclass(frozen=True)
class _Job:
    """Everything that is known before the run begins."""

    tiers: Tiers
    found: Found
    spec: DistillSpec
    requests: Sequence[Request]
    name: str
    text: str
    """config.yaml as this run has it."""
    config: Config
    base: ModelFiles


def distill(choice: Choice, student: str | None, answers: Answers, project: Path) -> RunManifest:
    """Materialise a teacher's answers to prompts and train the student on them.

    Without `answers.prompts` they are those of config.yaml's data.train_path, without a `student`
    it is config.yaml's model. Without a config.yaml the recipe for the student's size is taken.

    Raises:
        NexaError: with the exit code of its class; the manifest is closed as failed and says why.
        KeyboardInterrupt: passed on, after the manifest was closed as interrupted.
    """
    job = _job(choice, student, answers, project)
    path = job.tiers.root / ".nexa" / "distill" / f"{job.name}.yaml"
    write_atomic(path, job.text.encode())
    plan.check(job.config, job.tiers)
    with opened(job.tiers, job.config, path, run_type="distill") as run:
        emit("flight.check", made=False, cached=False)
        run.ledger.amend(student_model=job.base.name, inputs={"model": job.base.digest})
        materialise(run, job.spec, job.found, job.base, job.name)
        train_prepared(run, job.base, {})
    return run.ledger.manifest


def preview_distillation(
    choice: Choice, student: str | None, answers: Answers, project: Path
) -> Plan:
    """Tokens, dollars and time; nothing is sent, nothing is written.

    Raises:
        NexaError: what would stop the run before it asks anything.
    """
    job = _job(choice, student, answers, project, asks=False)
    plan.check_here(job.config, job.tiers)
    teaching = preview(STEP, job.spec, job.requests, job.tiers, dataset=job.found.dataset)
    spec = plan.finetune(job.config, job.tiers.root, job.base)
    held_out = job.config.data.eval_path
    rows = max(1, math.floor(len(job.requests) * (1 if held_out else TRAINED_SHARE)))
    tokens = (teaching.input_tokens + teaching.output_tokens) / max(1, teaching.requests)
    told = estimate(
        shape_of(job.base),
        method_of(spec),
        rows=rows,
        tokens_a_row=max(1.0, tokens),
        epochs=spec.total_steps(rows) / spec.steps_per_epoch(rows),
        machine=this_machine(),
        spec=spec,
    )
    fits = "" if told.fits else ": more than this machine has"
    return Plan(
        teaching=teaching,
        student=f"{job.base.name} ({job.base.origin})",
        dataset=job.name,
        held_out=held_out or "a tenth of the answers",
        training=f"about {told.memory_bytes / 1e9:.1f} GB{fits}, "
        f"{math.ceil(told.seconds / 60)} min at most ({told.basis})",
        seconds=told.seconds,
    )


def _job(
    choice: Choice, student: str | None, answers: Answers, project: Path, *, asks: bool = True
) -> _Job:
    tiers = Tiers.of(project)
    path = tiers.root / CONFIG
    known = load_config(path) if path.exists() else None
    prompts = answers.prompts or (known.data.train_path if known else "")
    if not prompts:
        raise ConfigError("there are no prompts to ask the teacher", fix="--data PROMPTS")
    reference = student or (known.model.path if known else "")
    if not reference:
        raise ConfigError("there is no student to train", fix="--student MODEL")
    _refuse_api(reference)
    found = find_prompts(prompts, known, tiers)
    spec = spec_of(answers, found, choice, tiers, asks=asks)
    requests = requests_of(spec, dataset=found.dataset, store=tiers.store)
    name = distilled_name(found, choice)
    if known is None:
        text = _proposed(reference, name, len(requests), tiers)
    else:
        text = _with_student(path.read_text(encoding="utf-8"), student, name)
    config = parse_config(text)
    base = plan.base_model(config, tiers)
    return _Job(tiers, found, spec, requests, name, text, config, base)


def _refuse_api(student: str) -> None:
    if student in TEACHERS:
        raise ModelError(
            f"{student} is behind an API: it can teach, it cannot be trained",
            fix="--student smollm2-135m   or another model whose weights can be had",
        )


def _with_student(text: str, student: str | None, name: str) -> str:
    """config.yaml with the student as its model, and the answers as its rows."""
    tree = YAML().load(text)
    if student is not None and tree["model"].get("path") != student:
        tree["model"] = {"path": student}
    tree["data"].pop("train", None)
    tree["data"].pop("format", None)
    tree["data"]["train_path"] = name
    return _dump(tree)


def _proposed(student: str, name: str, rows: int, tiers: Tiers) -> str:
    """A configuration for a student of this size, as `nexa init` would choose it."""
    recipe = recipe_for(shape_of(resolve(student, project=tiers.root)).parameters)
    length = length_for(math.ceil(rows * TRAINED_SHARE))
    return _dump(
        {
            "model": {"path": student},
            "data": {"train_path": name, "batch_size": ROWS_A_STEP},
            "optimizer": {"lr": recipe.lr},
            "scheduler": {"warmup_steps": length.warmup_steps},
            "lora": {"rank": recipe.rank, "alpha": recipe.alpha},
            "training": {"method": "lora", "epochs": length.epochs},
            "eval": {"max_new_tokens": NEW_TOKENS},
        }
    )


def _dump(tree: Any) -> str:
    page = io.StringIO()
    page.write("# Written by `nexa distill`: data.train_path names the rows of its teacher.\n")
    YAML().dump(tree, page)
    return page.getvalue()
