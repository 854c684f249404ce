"""A run under way: its manifest, its log, and what it has made so far."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from nexa.core.config import Config, load_config
from nexa.core.errors import EvalError, NexaError
from nexa.core.events import EventLog, emit, listening
from nexa.core.interrupts import Interrupted, stoppable
from nexa.core.manifest import ManifestFile
from nexa.core.records import Artifact
from nexa.core.tiers import Tiers
from nexa.infra.cost_tracker import cost_of
from nexa.orchestrate import liveness
from nexa.orchestrate.provenance import opening_facts
from nexa.orchestrate.runner import run_step

CONFIG = "config.yaml"
# What work in a folder without a config.yaml has of one: every default, no price. Neither the model
# nor the data of it is ever asked for.
WITHOUT_CONFIG = {"model": {"path": "none"}, "data": {"train_path": "none"}}


@dataclass
class Run:
    """One run under way: where it keeps things, its manifest, and what it has made so far."""

    tiers: Tiers
    config: Config
    ledger: ManifestFile
    start: datetime
    scratch: Path
    made: dict[str, Artifact[Any]] = field(default_factory=dict)
    teacher_usd: float | None = None  # what answers cost that this run has

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.ledger.manifest.run_id

    def step(
        self, role: str, name: str, spec: Any, **artifacts: Artifact[Any] | None
    ) -> Artifact[Any]:
        """Make or reuse what a step makes, and write it into the manifest under its role."""
        artifact, reused = run_step(name, spec, artifacts, store=self.tiers.store)
        self.made[role] = artifact
        manifest = self.ledger.manifest
        self.ledger.amend(
            outputs={**manifest.outputs, role: artifact.digest},
            reused=[*manifest.reused, role] if reused else manifest.reused,
        )
        return artifact

    def take(self, role: str, artifact: Artifact[Any]) -> None:
        """Write what an earlier run made into the manifest, under the role that it has in this."""
        self.made[role] = artifact
        manifest = self.ledger.manifest
        self.ledger.amend(
            outputs={**manifest.outputs, role: artifact.digest}, reused=[*manifest.reused, role]
        )

    def meter(self, gain: float | None = None) -> None:
        """Write into the manifest what the run has cost until now.

        `gain` is what the money bought, on the primary metric; an adapter that an earlier run
        paid for was not bought by this one.
        """
        manifest = self.ledger.manifest
        cost = cost_of(
            self.start,
            datetime.now(UTC),
            gpu_type=manifest.gpu_type,
            provider=manifest.provider,
            cost_per_hour_usd=self.config.infra.cost_per_hour_usd,
            tokens=manifest.tokens_trained,
            gain=None if "checkpoint" in manifest.reused else gain,
            teacher_usd=self.teacher_usd,
        )
        self.ledger.amend(cost=cost, cost_estimate_usd_total=cost.cost_total_usd)


@contextlib.contextmanager
def opened(
    tiers: Tiers, config: Config, config_path: Path | None, *, run_type: str = "train"
) -> Iterator[Run]:
    """A run with its manifest open and its log listening; closed as it deserves.

    `config_path` is None for work that has no config.yaml.
    """
    dead = liveness.close_dead_runs(tiers)
    start = datetime.now(UTC)
    facts = opening_facts(start, run_type=run_type, config_path=config_path, ledger=tiers.manifests)
    facts.attempts = 1 + liveness.failed_before(tiers.manifests, facts)
    if config_path is not None:
        tiers.store.put(config_path)  # by its digest, which the manifest has: for `nexa replay`
    log = EventLog(tiers.logs / f"{facts.run_id}.jsonl")
    scratch = tiers.new_scratch(facts.run_id)
    liveness.note_process(tiers, facts.run_id, config_path or tiers.root / "config.yaml")
    try:
        with stoppable(), listening(log):
            run = Run(tiers, config, ManifestFile.open(tiers.manifests, facts), start, scratch)
            with _closing_it(run):
                for run_id in dead:
                    emit("note", text=f"run {run_id} was killed; its manifest now says so")
                yield run
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        log.close()


@contextlib.contextmanager
def opened_beside(tiers: Tiers, *, run_type: str) -> Iterator[Run]:
    """A run that config.yaml does not describe: of an evaluation, of a model from elsewhere.

    Its price is config.yaml's, or nothing where there is none.
    """
    path = tiers.root / CONFIG
    known = path.exists()
    config = load_config(path) if known else Config.model_validate(WITHOUT_CONFIG)
    with opened(tiers, config, path if known else None, run_type=run_type) as run:
        yield run


@contextlib.contextmanager
def _closing_it(run: Run) -> Iterator[None]:
    """Whatever ends the run is in its manifest, and the log says how it ended."""
    try:
        emit("run.start", run_id=run.run_id)
        yield
    except KeyboardInterrupt as stop:
        _end(run, "interrupted", _told(stop))
        raise
    except NexaError as error:
        facts = {"eval_status": "failed"} if isinstance(error, EvalError) else {}
        _end(run, "failed", f"{error.what} ({error.found})" if error.found else error.what, **facts)
        raise
    except BaseException as error:
        _end(run, "failed", f"{type(error).__name__}: {error}")
        raise
    finally:
        emit("run.end", run_id=run.run_id, status=run.ledger.manifest.status)


def _end(run: Run, status: Literal["failed", "interrupted"], error: str, **facts: Any) -> None:
    """Close the manifest; one that is closed stands, for what failed came after the run."""
    if run.ledger.manifest.status == "running":
        run.meter()
        run.ledger.close(status, error=error, **facts)
        liveness.keep_manifest(run.tiers, run.ledger)


def _told(stop: KeyboardInterrupt) -> str:
    """Who ended the run, and where it was; the message that the user reads says how to go on."""
    if not isinstance(stop, Interrupted):
        return Interrupted().reason
    stop.fix = stop.fix or "the same command: what was made is reused"
    return f"{stop.reason} ({stop.found})" if stop.found else stop.reason
