"""From what a user says of a teacher to rows that it wrote: opened, asked, recorded, paid once.

The answers of a job lie in .nexa/requests/RECIPE.jsonl, whatever becomes of the run: the same
command reads them first and asks for the rest. More rows of the same job read them, too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from nexa.core.errors import NexaError
from nexa.core.events import emit
from nexa.core.records import Artifact, SyntheticBody
from nexa.core.tiers import Tiers
from nexa.data.augment import AugmentSpec
from nexa.data.distill_materialize import DistillSpec
from nexa.data.filters.registry import specs
from nexa.data.prepare import PrepareSpec
from nexa.data.sources import Source
from nexa.data.synthetic import ROWS
from nexa.feedback.feedback_generators.asking import ProposeSpec
from nexa.lm.client import Price, Request
from nexa.lm.journal import read_journal
from nexa.lm.requests import Pace, estimate
from nexa.lm.resolve import ModelFiles
from nexa.lm.scripted_chat import PREFIX as SCRIPTED
from nexa.lm.teachers import KEY_VARIABLES, open_model
from nexa.lm.teaching import Teacher
from nexa.orchestrate.run_state import Run
from nexa.orchestrate.runner import recipe_of

Spec = TypeVar("Spec", AugmentSpec, DistillSpec, ProposeSpec)
Asking = TypeVar("Asking")  # any spec that has `again`
NO_KEY = "dry-run-without-a-key"  # what stands for one where nothing is sent
MOST_ATTEMPTS = 16  # at requests that are not answered, by which a job's record is known


@dataclass(frozen=True)
class Choice:
    """Which teacher, at what price, and how hard it may be asked."""

    name: str
    base_url: str | None = None
    price: Price | None = None
    budget_usd: float | None = None
    concurrency: int | None = None
    per_minute: int | None = None

    @property
    def label(self) -> str:
        """The name as records have it, which are published: no address, no folder."""
        name = self.name.partition("@http")[0]
        path = Path(name.removeprefix(SCRIPTED)).expanduser()
        return path.resolve().name if path.exists() else name

    @property
    def pace(self) -> Pace:
        """How hard, and for how much."""
        return Pace(
            concurrency=self.concurrency, per_minute=self.per_minute, budget_usd=self.budget_usd
        )


@dataclass(frozen=True)
class Preview:
    """What a job would send at most; nothing was sent, and nothing was written."""

    teacher: str
    rows: int
    requests: int
    cached: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    price_source: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def open_teacher(choice: Choice, project: Path, *, asks: bool = True) -> Teacher:
    """The teacher, without a journal yet; one that is not asked needs no key.

    Raises:
        ModelError: no such model; says the nearest name.
        AccessError: an API whose key is not in the environment.
    """
    environment = dict(os.environ)
    if not asks:
        environment |= {
            name: NO_KEY for name in KEY_VARIABLES.values() if not environment.get(name)
        }
    model = open_model(
        choice.name,
        project=project,
        base_url=choice.base_url,
        price=choice.price,
        environment=environment,
    )
    return Teacher(choice.label, dict(model.identity), model, Path(), choice.pace)


def preview(
    step: str,
    spec: Spec,
    requests: Sequence[Request],
    tiers: Tiers,
    **artifacts: Artifact[Any] | None,
) -> Preview:
    """What a job would take; the second round of a method is counted at its longest."""
    placed = with_journal(step, spec, artifacts, tiers)
    model = placed.teacher.model
    found = estimate(model, requests, journal=placed.teacher.journal)
    return Preview(
        teacher=spec.teacher.name,
        rows=len(requests) if spec.rows is None else min(spec.rows, len(requests)),
        requests=found.requests,
        cached=found.cached,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        usd=found.usd,
        price_source=model.price.source if model.price else None,
    )


def taught(
    run: Run, step: str, spec: Spec, **artifacts: Artifact[Any] | None
) -> Artifact[SyntheticBody]:
    """The rows of a job, made or found, and what they cost in the run's manifest.

    Where an earlier run of the job left requests without an answer, those are asked once more.

    Raises:
        BudgetSpent: the budget does not reach for all; what was answered is kept.
    """
    placed = asked_again(step, with_journal(step, spec, artifacts, run.tiers), artifacts, run.tiers)
    run.ledger.amend(teacher_model=spec.teacher.name, seed=spec.seed)
    with metered(run, placed.teacher, "synthetic"):
        made: Artifact[SyntheticBody] = run.step("synthetic", step, placed, **artifacts)
    body = made.body
    if "synthetic" not in run.ledger.manifest.reused:
        run.teacher_usd = body.cost_usd
        tokens = {"input": body.input_tokens, "output": body.output_tokens}
        run.ledger.amend(teacher_tokens=tokens)
    run.meter()
    if body.failed:
        text = f"{body.failed:,} requests have no answer: the same command asks them once more"
        emit("note", text=text)
    return made


@contextlib.contextmanager
def metered(run: Run, teacher: Teacher, role: str) -> Iterator[None]:
    """Where the job does not come to its end, the manifest has what was answered until then.

    `role` is that of what it makes.
    """
    tokens_before, usd_before = run.ledger.manifest.teacher_tokens or {}, run.teacher_usd
    try:
        yield
    finally:
        if role not in run.made:
            with contextlib.suppress(NexaError):  # that the journal is broken is being told
                entries = read_journal(teacher.journal)
                answers = entries.answers.values()
                tokens = {
                    side: tokens_before.get(side, 0)
                    + sum(line[f"{side}_tokens"] for line in answers)
                    for side in ("input", "output")
                }
                run.ledger.amend(teacher_tokens=tokens)
                if teacher.model.price:
                    run.teacher_usd = round((usd_before or 0.0) + entries.paid_usd, 9)


def with_journal(
    step: str, spec: Spec, artifacts: Mapping[str, Artifact[Any] | None], tiers: Tiers
) -> Spec:
    """The spec with the journal of its job: the same however many rows are asked for."""
    # Not the suite: it only says which prompts are left out.
    dataset = artifacts.get("dataset")
    given = {"dataset": dataset} if dataset is not None else {}
    job = recipe_of(step, replace(spec, rows=1, again=0), given)
    return replace(spec, teacher=replace(spec.teacher, journal=tiers.requests / f"{job}.jsonl"))


def recipes(step: str, spec: Spec, **artifacts: Artifact[Any]) -> list[str]:
    """The fingerprints that a job's record may have: of its first attempts."""
    return [recipe_of(step, replace(spec, again=n), artifacts) for n in range(MOST_ATTEMPTS)]


def rows_of(
    synthetic: Artifact[SyntheticBody], name: str, base: ModelFiles, run: Run
) -> PrepareSpec:
    """How those rows are prepared, as candidates or as a dataset of their own."""
    folder = run.tiers.store.checkout(synthetic, run.scratch / "synthetic")
    source = Source(f"{synthetic.name}.jsonl", synthetic.files[ROWS], folder / ROWS)
    return PrepareSpec(
        dataset_id=name,
        sources=(source,),
        model=base,
        filters=specs(run.config.data.filters),
        scratch=run.scratch,
    )


def asked_again(
    step: str, spec: Asking, artifacts: Mapping[str, Artifact[Any] | None], tiers: Tiers
) -> Asking:
    """The spec whose record is not there yet, or is without failures: its `again` raised."""
    given = {role: artifact for role, artifact in artifacts.items() if artifact is not None}
    asking: Any = spec
    known = tiers.store.made_by(recipe_of(step, asking, given))
    while known is not None and known.body.failed:
        asking = replace(asking, again=asking.again + 1)
        known = tiers.store.made_by(recipe_of(step, asking, given))
    return cast("Asking", asking)
