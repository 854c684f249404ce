"""What all rounds stand on: config.yaml's own run, and two halves of the rows that it holds out.

On the rows for analysis weaknesses are looked for; on those for acceptance, which no generator
ever sees, a round is kept or rolled back. Candidates are kept clean of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nexa.core.config import Config, load_config
from nexa.core.errors import LeakError
from nexa.core.events import emit
from nexa.core.identity import sha256_file
from nexa.core.manifest import RunManifest, list_manifests
from nexa.core.records import Artifact, DatasetBody, ExportBody, SuiteBody
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.eval.analyze import contaminated
from nexa.eval.suite import SPLIT, FreezeSpec, Part
from nexa.lm.resolve import ModelFiles, resolve
from nexa.orchestrate import plan, sealed_data
from nexa.orchestrate.publishing.source import EVIDENCE
from nexa.orchestrate.run import train
from nexa.orchestrate.run_state import Run
from nexa.orchestrate.runner import run_step


@dataclass(frozen=True)
class Model:
    """A model that a round begins with: the run that made it, its rows, its weights."""

    run_id: str
    dataset: Artifact[DatasetBody]
    export: Artifact[ExportBody]

    def files(self, tiers: Tiers) -> ModelFiles:
        """The model itself."""
        return resolve(self.export.label, project=tiers.root)


@dataclass(frozen=True)
class Ground:
    """A project as every round of it finds it."""

    config_path: Path
    config: Config
    tiers: Tiers
    base: ModelFiles
    held_out: Artifact[DatasetBody]
    """The dataset whose split `eval` all suites are frozen from."""
    analysis_share: float

    @property
    def name(self) -> str:
        """What models of this project are called."""
        return plan.run_name(self.config, self.tiers.root, self.base)

    @property
    def store(self) -> Store:
        """The project's store."""
        return self.tiers.store

    def part(self, part: Part) -> FreezeSpec:
        """One of the two halves."""
        spec = plan.freeze(self.config, self.tiers.root)
        name = f"{spec.name}-{part}"
        return replace(spec, name=name, part=part, analysis_share=self.analysis_share)

    def everything(self) -> FreezeSpec:
        """All rows that are held out: what candidates are kept clean of."""
        spec = plan.freeze(self.config, self.tiers.root)
        rows = max(spec.rows, self.held_out.body.splits[SPLIT].rows)
        # Of no more rows than the run's own suite it is that one.
        return spec if rows == spec.rows else replace(spec, name=f"{spec.name}-all", rows=rows)

    def frozen(self, run: Run) -> tuple[Artifact[SuiteBody], Artifact[SuiteBody]]:
        """(the suite for analysis, that for acceptance), which is the run's own."""
        analysis = run.step(
            "analysis_suite", "freeze", self.part("analysis"), dataset=self.held_out
        )
        return analysis, run.step("suite", "freeze", self.part("acceptance"), dataset=self.held_out)

    def guard(self, run: Run) -> Artifact[SuiteBody]:
        """The suite of everything that is held out."""
        return run.step("held_out", "freeze", self.everything(), dataset=self.held_out)


def own_run(config_path: Path, *, check: bool = True) -> RunManifest:
    """The run of config.yaml that all rounds begin from: the newest that is whole, else made now.

    Raises:
        NexaError: as `nexa train`.
    """
    found = known_run(config_path)
    if found is not None:
        emit("note", text=f"round 0 is run {found.run_id}, which config.yaml has had before")
        return found
    return train(config_path, check=check)


def known_run(config_path: Path) -> RunManifest | None:
    """The newest whole run of this very config.yaml on the rows as they are now, if there is one.

    The rows are looked at: what was prepared of equal files before is found, and else made.
    """
    tiers = Tiers.of(config_path.parent)
    digest = sha256_file(config_path)
    runs = [
        run
        for run in list_manifests(tiers.manifests)
        if (run.run_type, run.status, run.config_sha256) == ("train", "done", digest)
        and set(EVIDENCE) <= set(run.outputs)
    ]
    if not runs:
        return None
    dataset = _dataset(config_path, tiers)
    whole = [run for run in runs if run.outputs["dataset"] == dataset.digest]
    return whole[-1] if whole else None


def model_of(manifest: RunManifest, tiers: Tiers) -> Model:
    """What a run made."""
    return Model(
        manifest.run_id,
        tiers.store.by_digest(manifest.outputs["dataset"]),
        tiers.store.by_digest(manifest.outputs["export"]),
    )


def held_out_of(manifest: RunManifest, tiers: Tiers) -> Artifact[DatasetBody]:
    """The dataset that a run's suite was frozen from."""
    suite = tiers.store.by_digest(manifest.outputs["suite"])
    found: Artifact[DatasetBody] = tiers.store.by_digest(suite.inputs["dataset"])
    return found


def require_clean(ground: Ground, model: Model) -> None:
    """Refuse to judge by rows that the model's training rows give away.

    A run keeps its rows clean of the rows that it asks; the halves may ask others.

    Raises:
        LeakError: names the key that helps.
    """
    store, spec = ground.store, ground.everything()
    if spec.rows <= ground.config.eval.rows:
        return
    everything, _ = run_step("freeze", spec, {"dataset": ground.held_out}, store=store)
    leaked = contaminated(everything, model.dataset, store)
    if leaked:
        raise LeakError(
            f"{len(leaked)} held-out rows are given away by rows of {model.dataset.label}",
            found=f"it is kept clean of the {ground.config.eval.rows} rows that its run asks, and "
            f"{spec.rows} are held out",
            fix=f"eval.rows: {spec.rows}   so that its run asks, and leaves out, all of them",
        )


def _dataset(config_path: Path, tiers: Tiers) -> Artifact[DatasetBody]:
    """The dataset of a config.yaml, as its run makes it."""
    config = load_config(config_path)
    base, store = plan.base_model(config, tiers), tiers.store
    sealed = sealed_data.find(config.data.train_path, tiers)
    if sealed is not None:
        return sealed
    suite = None
    if config.data.eval_path is not None:
        held_out, _ = run_step("prepare", plan.held_out(config, tiers.root, base), {}, store=store)
        freeze = plan.freeze(config, tiers.root)
        suite, _ = run_step("freeze", freeze, {"dataset": held_out}, store=store)
    rows = plan.training_rows(config, tiers.root, base)
    made, _ = run_step("prepare", rows, {"suite": suite}, store=store)
    return made
