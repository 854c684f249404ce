"""`nexa data merge`: files of candidates into a new version of a dataset that is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa.core.config import load_config
from nexa.core.events import emit
from nexa.core.records import Artifact, DatasetBody, SuiteBody
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.data.filters.registry import specs
from nexa.data.merge import MergeSpec, NothingNew
from nexa.data.prepare import PrepareSpec
from nexa.data.registry import State, register
from nexa.data.sources import files_of, named_sources
from nexa.lm.resolve import ModelFiles
from nexa.orchestrate import deliver, plan, sealed_data
from nexa.orchestrate.data_files import place_of
from nexa.orchestrate.run_state import Run, opened


@dataclass(frozen=True)
class Merged:
    """A dataset before and after; the same version twice where no candidate added anything."""

    parent: Artifact[DatasetBody]
    dataset: Artifact[DatasetBody]
    why: str = ""

    @property
    def added(self) -> dict[str, int]:
        """New rows in each split."""
        before, after = self.parent.body.splits, self.dataset.body.splits
        return {name: after[name].rows - before[name].rows for name in after}


def merge_data(name: str, files: Sequence[str | Path], config_path: Path) -> Merged:
    """Add the rows of files to a dataset of the project, through the same filters.

    `name` is the dataset's, its newest version or one of them (`name@v2`); a file may be a folder
    or a Hub dataset. The suite that the dataset is kept clean of is found by its lineage. The new
    version is registered with its parent; equal files make no second one.

    Raises:
        UnknownArtifact: there is no such dataset.
        DataError: the files hold no row that can be read.
        TemplateError: the dataset was prepared for another chat template.
    """
    config = load_config(config_path)
    tiers = Tiers.of(config_path.parent)
    parent = sealed_data.current(name, tiers)
    found = [file for path in files for file in files_of(place_of(path).path)]
    with opened(tiers, config, config_path, run_type="data_gen") as run:
        base = plan.base_model(config, tiers)
        spec = PrepareSpec(
            dataset_id=f"{parent.name}-candidates",
            sources=named_sources(found),
            model=base,
            only_split="train",
            filters=specs(config.data.filters),
            scratch=run.scratch,
        )
        candidates = run.step("candidates", "prepare", spec)
        merged = merge_candidates(run, parent, candidates, base)
        run.ledger.amend(
            dataset_id=f"{merged.dataset.name}@{merged.dataset.version}",
            dataset_hash=merged.dataset.digest,
        )
        run.meter()
        run.ledger.close("done", eval_status="skipped")
    return merged


def suite_of(dataset: Artifact[DatasetBody], store: Store) -> Artifact[SuiteBody] | None:
    """The suite that a dataset is kept clean of: its input, or one frozen from it or a parent.

    Never a part of the held-out rows: who keeps clean of one may still give the other away.
    """
    if "suite" in dataset.inputs:
        return store.by_digest(dataset.inputs["suite"])
    digests = {dataset.digest}
    while "dataset" in dataset.inputs:
        dataset = store.by_digest(dataset.inputs["dataset"])
        digests.add(dataset.digest)
    suites = (
        store.get("suite", f"{name}@{version}")
        for name in store.names("suite")
        for version in reversed(store.versions("suite", name))
    )
    whole = (suite for suite in suites if suite.body.part is None)
    return next((s for s in whole if s.inputs.get("dataset") in digests), None)


def merge_candidates(
    run: Run,
    parent: Artifact[DatasetBody],
    candidates: Artifact[DatasetBody],
    base: ModelFiles,
    *,
    role: str = "dataset",
    suite: Artifact[SuiteBody] | None = None,
    state: State | None = None,
) -> Merged:
    """Merge prepared candidates into a dataset, and register and commit what comes out.

    What comes out is kept clean of `suite`, or of the one that the parent is kept clean of. With a
    `state` it is a version on trial, which the registry says.
    """
    suite = suite or suite_of(parent, run.tiers.store)
    if suite is None:
        emit("note", text=f"{parent.label} has no suite: nothing is held out to be leaked")
    try:
        dataset = run.step(
            role,
            "merge_data",
            MergeSpec(base, scratch=run.scratch),
            dataset=parent,
            candidates=candidates,
            suite=suite,
        )
    except NothingNew as nothing:
        emit("note", text=f"{parent.label} stays as it is: {nothing.found}")
        return Merged(parent, parent, nothing.found or "")
    registry = run.tiers.root / "dataset_registry.yaml"
    register(registry, dataset, parent=f"{parent.name}@{parent.version}", state=state)
    deliver.commit_dataset(run.tiers, dataset)
    return Merged(parent, dataset)
