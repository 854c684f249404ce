from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import IntegrityError, ModelError, UsageError
from nexa.core.manifest import ManifestFile, RunManifest
from nexa.core.store import UnknownArtifact
from nexa.core.tiers import Tiers
from nexa.lm import sealed
from nexa.lm.resolve import resolve
from tests.lm.checkpoints import ADAPTER, model_files, seal_checkpoint, seal_export
from tests.support.tiny import write_tiny_model

RUN = "2026-01-02-030405-abcd"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write_tiny_model(folder / "model")
    return folder


def close(project: Path, **outputs: str) -> None:
    """The manifest of a run that made these."""
    manifest = RunManifest(run_id=RUN, run_type="train", outputs=outputs)
    ManifestFile.open(Tiers.of(project).manifests, manifest)


def test_a_run_is_its_export_or_else_its_checkpoint(project: Path) -> None:
    base = resolve(str(project / "model"), project=project)
    checkpoint = seal_checkpoint(project, base, ADAPTER)
    close(project, checkpoint=checkpoint.digest)
    assert sealed.find(RUN, project) == checkpoint
    assert resolve(RUN, project=project).origin == f"checkpoint:{checkpoint.digest}"
    export = seal_export(project, base, model_files(project / "model"))
    close(project, export=export.digest, checkpoint=checkpoint.digest)
    assert sealed.find(RUN, project) == export
    assert resolve(RUN, project=project).reference == RUN


def test_a_run_that_made_no_model_says_what_it_made(project: Path) -> None:
    close(project)
    with pytest.raises(ModelError, match="no outputs"):
        sealed.find(RUN, project)


def test_names_that_are_not_there_are_said(project: Path) -> None:
    with pytest.raises(UsageError, match=RUN):
        sealed.find(RUN, project)
    with pytest.raises(UnknownArtifact, match="no checkpoint named 'x'"):
        sealed.find("checkpoint/x@v1", project)


def test_a_file_that_changed_after_sealing_is_named(project: Path) -> None:
    base = resolve(str(project / "model"), project=project)
    export = seal_export(project, base, model_files(project / "model"))
    place = sealed.checkout(export, project)
    config = place / "config.json"
    config.chmod(0o644)
    config.write_text(config.read_text() + "\n")  # the blob too: they are one file
    with pytest.raises(IntegrityError, match=r"config\.json is not what was sealed"):
        resolve("export/tiny", project=project)


def test_a_place_is_remembered_until_it_is_gone(project: Path, tmp_path: Path) -> None:
    assert sealed.remembered_place(project, "d") is None
    sealed.remember_place(project, "d", tmp_path)
    sealed.remember_place(project, "d", project / "model")
    sealed.remember_place(project, "d", project / "model")
    assert sealed.remembered_place(project, "d") == (project / "model").resolve()
    (project / "model").rename(project / "moved")
    assert sealed.remembered_place(project, "d") is None
