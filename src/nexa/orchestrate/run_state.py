"""A run under way: its manifest, its log, and what it has made so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa.core.config import Config
from nexa.core.errors import NexaError
from nexa.core.events import EventLog, emit, listening
from nexa.core.manifest import ManifestFile
from nexa.core.records import Artifact
from nexa.core.tiers import Tiers
from nexa.orchestrate.provenance import opening_facts
from nexa.orchestrate.runner import run_step


@dataclass
class Run:
    """One run under way: where it keeps things, its manifest, and what it has made so far."""

    tiers: Tiers
    config: Config
    ledger: ManifestFile
    start: datetime
    made: dict[str, Artifact[Any]] = field(default_factory=dict)

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


@contextmanager
def opened(
    tiers: Tiers, config: Config, config_path: Path, *, run_type: str = "train"
) -> Iterator[Run]:
    """A run with its manifest open and its log listening; closed as it deserves."""
    start = datetime.now(UTC)
    facts = opening_facts(start, run_type=run_type, config_path=config_path)
    ledger = ManifestFile.open(tiers.manifests, facts)
    log = EventLog(tiers.logs / f"{facts.run_id}.jsonl")
    run = Run(tiers, config, ledger, start)
    try:
        with listening(log):
            emit("run.start", run_id=run.run_id)
            yield run
            emit("run.end", run_id=run.run_id, status=ledger.manifest.status)
    except KeyboardInterrupt:
        ledger.close("interrupted", error="interrupted by the user")
        raise
    except NexaError as error:
        ledger.close("failed", error=error.what)
        raise
    except BaseException as error:
        ledger.close("failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        log.close()
