"""What runs made -> model folders: checkpoints and exports of a project's store, by name or run.

.nexa/models/DIGEST/          an artifact's files under their readable names, hard-linked
.nexa/models/DIGEST.place     where the folder or .gguf file with this model digest was seen
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nexa.core.errors import IntegrityError, ModelError
from nexa.core.manifest import find_manifest
from nexa.core.records import Artifact
from nexa.core.store import write_atomic
from nexa.core.tiers import Tiers

# In the order in which a run's outputs are looked through: an export is a whole model.
KINDS = ("export", "checkpoint")


def find(reference: str, project: Path) -> Artifact[Any]:
    """The checkpoint or export called `KIND/NAME@vN`, or made by the run with this id.

    Raises:
        UnknownArtifact: no such name.
        UsageError: no such run.
        ModelError: the run has made no model (yet).
    """
    tiers = Tiers.of(project)
    kind, _, name = reference.partition("/")
    if kind in KINDS:
        return tiers.store.get(kind, name)
    outputs = find_manifest(tiers.manifests, reference).outputs
    made: list[Artifact[Any]] = [tiers.store.by_digest(digest) for digest in outputs.values()]
    of_kind = {artifact.kind: artifact for artifact in made}  # the last one of each
    found = next((of_kind[kind] for kind in KINDS if kind in of_kind), None)
    if found is not None:
        return found
    raise ModelError(
        f"run {reference} has made no model", found=", ".join(sorted(outputs)) or "no outputs"
    )


def by_digest(digest: str, project: Path) -> Artifact[Any]:
    """The artifact whose record has this digest."""
    return Tiers.of(project).store.by_digest(digest)


def checkout(artifact: Artifact[Any], project: Path) -> Path:
    """A folder of the project with the artifact's files under their own names."""
    target = _models(project) / artifact.digest[:16]
    return Tiers.of(project).store.checkout(artifact, target)


def require_same(found: dict[str, str], artifact: Artifact[Any]) -> None:
    """Check the digests of files against the sealed ones.

    Raises:
        IntegrityError: a file was changed after it was sealed; names it.
    """
    for name, digest in found.items():
        if artifact.files.get(name, digest) != digest:
            raise IntegrityError(
                f"{artifact.label}: {name} is not what was sealed",
                fix=f"nexa verify {artifact.label}",
            )


def remember_place(project: Path, digest: str, path: Path) -> None:
    """Note where a local model was seen, so that a checkpoint trained on it finds it again."""
    place = _models(project) / f"{digest}.place"
    content = str(path.resolve()).encode()
    if not place.is_file() or place.read_bytes() != content:
        write_atomic(place, content)


def remembered_place(project: Path, digest: str) -> Path | None:
    """Where the local model with this digest was seen last, if it is still there."""
    place = _models(project) / f"{digest}.place"
    path = Path(place.read_text()) if place.is_file() else None
    return path if path is not None and path.exists() else None


def _models(project: Path) -> Path:
    return Tiers.of(project).root / ".nexa" / "models"
