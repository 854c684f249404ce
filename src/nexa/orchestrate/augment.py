"""`nexa data augment`: rows that a teacher writes, into a new version of a dataset.

The teacher is shown training rows only. What it writes goes the way of all candidates: the same
filters, compared with the dataset's rows, kept clean of its suite.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nexa.core.config import load_config
from nexa.core.errors import IntegrityError
from nexa.core.manifest import read_manifest
from nexa.core.records import Artifact, DatasetBody, SyntheticBody
from nexa.core.tiers import Tiers
from nexa.data.augment import WARM, AugmentSpec, Method, Part, requests_of
from nexa.data.sources import Source, files_of, named_sources
from nexa.orchestrate import plan, sealed_data
from nexa.orchestrate.data_files import place_of
from nexa.orchestrate.merge_data import Merged, merge_candidates
from nexa.orchestrate.run_state import opened
from nexa.orchestrate.teaching import (
    Choice,
    Preview,
    open_teacher,
    preview,
    recipes,
    rows_of,
    taught,
)

STEP = "augment"


@dataclass(frozen=True)
class Wanted:
    """Which rows, and how they are made."""

    method: Method
    rows: int
    seed: int = 0
    part: Part = "prompt"
    temperature: float | None = None
    """None: the method's own; 0 of a model on this machine, which has one answer to a prompt."""
    documents: Sequence[str] = ()
    max_new_tokens: int = 1024


@dataclass(frozen=True)
class Augmented:
    """What was written, and what the dataset is after it."""

    run_id: str
    synthetic: Artifact[SyntheticBody]
    merged: Merged


def augment_data(name: str, wanted: Wanted, choice: Choice, config_path: Path) -> Augmented:
    """Have rows written for a dataset of the project, and merge those that pass its filters.

    `name` is the dataset's, its newest version or one of them (`name@v2`).

    Raises:
        UnknownArtifact: there is no such dataset.
        DataError: it has nothing to begin from, or no answer gave a row.
        BudgetSpent: the budget does not reach for all; what was answered is kept.
    """
    config = load_config(config_path)
    tiers = Tiers.of(config_path.parent)
    tiers.store.named("dataset", name)  # before a model is opened
    spec = _spec(wanted, choice, tiers)
    parent = _parent(name, spec, tiers)
    with opened(tiers, config, config_path, run_type="data_gen") as run:
        run.ledger.amend(dataset_id=f"{parent.name}@{parent.version}", dataset_hash=parent.digest)
        base = plan.base_model(config, tiers)
        synthetic = taught(run, STEP, spec, dataset=parent)
        rows = replace(
            rows_of(synthetic, f"{parent.name}-candidates", base, run), only_split="train"
        )
        candidates = run.step("candidates", "prepare_synthetic", rows, synthetic=synthetic)
        merged = merge_candidates(run, parent, candidates, base)
        run.ledger.amend(
            dataset_id=f"{merged.dataset.name}@{merged.dataset.version}",
            dataset_hash=merged.dataset.digest,
        )
        run.meter()
        run.ledger.close("done", eval_status="skipped")
    return Augmented(run.run_id, synthetic, merged)


def preview_augment(name: str, wanted: Wanted, choice: Choice, project: Path) -> Preview:
    """Rows, requests, tokens and dollars at most; nothing is sent, nothing is written.

    Raises:
        UnknownArtifact: there is no such dataset.
        DataError: it has nothing to begin from.
    """
    tiers = Tiers.of(project)
    tiers.store.named("dataset", name)
    spec = _spec(wanted, choice, tiers, asks=False)
    parent = _parent(name, spec, tiers)
    requests = requests_of(spec, dataset=parent, store=tiers.store)
    return preview(STEP, spec, requests, tiers, dataset=parent)


def _parent(name: str, spec: AugmentSpec, tiers: Tiers) -> Artifact[DatasetBody]:
    """The version that rows are added to: the newest, or the one that is named.

    Where the newest is what this very command made of the one before, in a run that did not come
    to its end, it is that one: the command goes on, and does not begin anew on its own result.
    """
    newest = sealed_data.current(name, tiers)
    if "@" in name or "candidates" not in newest.inputs:
        return newest
    candidates = tiers.store.by_digest(newest.inputs["candidates"])
    if "synthetic" not in candidates.inputs:
        return newest
    made = tiers.store.by_digest(candidates.inputs["synthetic"])
    before: Artifact[DatasetBody] = tiers.store.by_digest(newest.inputs["dataset"])
    own = made.fingerprint in recipes(STEP, spec, dataset=before)
    return before if own and not _ended_well(newest, tiers) else newest


def _ended_well(dataset: Artifact[DatasetBody], tiers: Tiers) -> bool:
    """Whether a run that made the dataset, or found it made, came to its end."""
    for path in tiers.manifests.glob("*.json"):
        with contextlib.suppress(IntegrityError):  # a broken manifest is `verify`'s to tell
            run = read_manifest(path)
            if run.status == "done" and run.outputs.get("dataset") == dataset.digest:
                return True
    return False


def _spec(wanted: Wanted, choice: Choice, tiers: Tiers, *, asks: bool = True) -> AugmentSpec:
    teacher = open_teacher(choice, tiers.root, asks=asks)
    usual = 0.0 if teacher.identity.get("provider") == "local" else WARM
    return AugmentSpec(
        teacher=teacher,
        temperature=usual if wanted.temperature is None else wanted.temperature,
        method=wanted.method,
        rows=wanted.rows,
        seed=wanted.seed,
        part=wanted.part,
        documents=documents_of(wanted.documents),
        max_new_tokens=wanted.max_new_tokens,
    )


def documents_of(paths: Sequence[str]) -> tuple[Source, ...]:
    """Files of documents, each named once.

    Raises:
        DataError: nothing is there.
    """
    found = [file for path in paths for file in files_of(place_of(path).path)]
    return named_sources(found) if found else ()
