"""A project whose model is trained and can be improved; and what became of it after two rounds."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from nexa.core.events import Event, listening
from nexa.core.manifest import RunManifest, list_manifests
from nexa.core.tiers import Tiers
from nexa.orchestrate.improve.asked import Options
from nexa.orchestrate.improve.loop import Improved, improve
from tests.support.improving import write_improvable
from tests.support.project import train


@dataclass(frozen=True)
class Project:
    """A folder with a config.yaml."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def tiers(self) -> Tiers:
        return Tiers.of(self.root)

    def runs(self) -> list[RunManifest]:
        return list_manifests(self.tiers.manifests)

    def copy(self, folder: Path) -> Project:
        shutil.copytree(self.root, folder)
        return Project(folder)

    def improve(self, **options: object) -> Improved:
        """`nexa improve --no-check`."""
        return improve(self.config, Options(**options), check=False)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Done:
    """A project after a pass, what it came to, and what was told on the way."""

    project: Project
    told: Improved
    events: tuple[Event, ...]


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Project:
    folder = tmp_path_factory.mktemp("improvable") / "words"
    folder.mkdir()
    train(write_improvable(folder, tiny_llama))
    return Project(folder)


@pytest.fixture
def trained(_trained: Project, tmp_path: Path) -> Project:
    """A copy of a project whose own run is there."""
    return _trained.copy(tmp_path / "words")


@pytest.fixture(scope="session")
def improved(_trained: Project, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """After `nexa improve --rounds 2 --control`. Read only."""
    project = _trained.copy(tmp_path_factory.mktemp("improved") / "words")
    events: list[Event] = []
    with listening(events.append):
        told = project.improve(rounds=2, control=True)
    return Done(project, told, tuple(events))
