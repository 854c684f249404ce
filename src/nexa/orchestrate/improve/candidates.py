"""Rows against a weakness: taken from a pool, or written by a teacher. Always a dataset.

Whoever makes them, they reach the model's dataset only through `data.merge` and its filters.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nexa.core.config import Config
from nexa.core.errors import DataError
from nexa.core.records import (
    AnswersBody,
    Artifact,
    DatasetBody,
    SyntheticBody,
    WeaknessBody,
)
from nexa.core.tiers import Tiers
from nexa.data.filters.registry import specs
from nexa.data.prepare import PrepareSpec
from nexa.data.sources import files_of, named_sources
from nexa.feedback.feedback_generators.asking import ProposeSpec, requests_of
from nexa.feedback.feedback_generators.pool import SelectSpec
from nexa.lm.resolve import ModelFiles
from nexa.orchestrate.improve.asked import Asked
from nexa.orchestrate.run_state import Run
from nexa.orchestrate.teaching import Choice, Preview, open_teacher, preview, rows_of, taught

STEP = "propose"


class NoCandidates(DataError):
    """Nobody has a row to offer: the round ends before anything is trained."""


def selected(
    run: Run,
    pool: Artifact[DatasetBody],
    weakness: Artifact[WeaknessBody],
    exclude: Artifact[DatasetBody],
    *,
    rows: int,
    seed: int,
    how: str,
    role: str = "candidates",
) -> Artifact[DatasetBody]:
    """Rows of the pool that are not in `exclude`: of weak slices, or (`random`) any.

    Raises:
        NoCandidates: the pool has none.
    """
    spec = SelectSpec(name=f"{pool.name}-{how}", rows=rows, seed=seed, how=how)
    try:
        return run.step(role, "select", spec, weakness=weakness, pool=pool, exclude=exclude)
    except DataError as error:
        raise NoCandidates(error.what, found=error.found, fix=error.fix) from error


def written(
    run: Run,
    spec: ProposeSpec,
    base: ModelFiles,
    weakness: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    answers: Artifact[AnswersBody] | None,
) -> Artifact[DatasetBody]:
    """Rows that a teacher writes, prepared as any rows are.

    Raises:
        NoCandidates: no answer gave a row, or none of them passed the filters.
        BudgetSpent: the budget does not reach for all; what was answered is kept.
    """
    try:
        synthetic: Artifact[SyntheticBody] = taught(
            run, STEP, spec, weakness=weakness, dataset=dataset, answers=answers
        )
        rows = rows_of(synthetic, f"{dataset.name}-candidates", base, run)
        rows = replace(rows, only_split="train")
        return run.step("candidates", "prepare_synthetic", rows, synthetic=synthetic)
    except DataError as error:
        raise NoCandidates(error.what, found=error.found, fix=error.fix) from error


def proposal(
    asked: Asked, choice: Choice, name: str, tiers: Tiers, *, seed: int, asks: bool = True
) -> ProposeSpec:
    """What the teacher is asked for.

    Raises:
        ModelError: there is no such teacher.
        AccessError: an API whose key is not in the environment.
    """
    return ProposeSpec(
        name=f"{name}-{asked.generator}",
        generator=asked.generator,
        teacher=open_teacher(choice, tiers.root, asks=asks),
        rows=asked.rows,
        seed=seed,
        votes=asked.votes,
    )


def limited(spec: ProposeSpec, budget_usd: float) -> ProposeSpec:
    """The same, with a teacher that may cost no more."""
    pace = replace(spec.teacher.pace, budget_usd=budget_usd)
    return replace(spec, teacher=replace(spec.teacher, pace=pace))


def most_usd(
    spec: ProposeSpec,
    tiers: Tiers,
    weakness: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    answers: Artifact[AnswersBody] | None,
) -> Preview:
    """What the teacher would be asked at most; nothing is sent.

    Raises:
        NoCandidates: there is nothing that it could be asked about.
    """
    store = tiers.store
    try:
        requests = requests_of(
            spec, weakness=weakness, dataset=dataset, answers=answers, store=store
        )
    except DataError as error:
        raise NoCandidates(error.what, found=error.found, fix=error.fix) from error
    return preview(STEP, spec, requests, tiers, weakness=weakness, dataset=dataset, answers=answers)


def pool_rows(
    path: Path | None, name: str, base: ModelFiles, config: Config, scratch: Path
) -> PrepareSpec:
    """How the pool is read: as rows to train on, by the same filters, none held out.

    Raises:
        NoCandidates: there is no pool; who needs one is told so before it begins.
    """
    if path is None:
        raise NoCandidates("there is no pool of labelled rows")
    return PrepareSpec(
        dataset_id=f"{name}-pool",
        sources=named_sources(files_of(path)),
        model=base,
        only_split="train",
        filters=specs(config.data.filters),
        scratch=scratch,
    )
