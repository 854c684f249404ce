"""From any artifact back to the files it grew from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nexa.core.errors import IntegrityError
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.records import (
    AdoptedBody,
    AnswersBody,
    Artifact,
    CheckpointBody,
    DatasetBody,
    ExportBody,
    ModelRef,
    SyntheticBody,
)
from nexa.core.store import Store, UnknownArtifact


@dataclass(frozen=True)
class Node:
    """One place in a lineage: an artifact, or an outside input (a file, a model)."""

    depth: int
    role: str
    label: str
    digest: str
    step: str
    artifact: Artifact[Any] | None = None


def walk(artifact: Artifact[Any], store: Store) -> Iterator[Node]:
    """The artifact, then its inputs, depth first, down to source files and base models.

    Raises:
        IntegrityError: an input's record was changed or is gone: what lies behind it is unknown.
    """
    yield from _walk(artifact, store, 0, "")


def _walk(artifact: Artifact[Any], store: Store, depth: int, role: str) -> Iterator[Node]:
    step = str(artifact.step.get("name", "?"))
    yield Node(depth, role, artifact.label, artifact.digest, step, artifact)
    for name in sorted(artifact.inputs):
        yield from _walk(_input(artifact, name, store), store, depth + 1, name)
    yield from _outside(artifact, depth + 1)


def _input(artifact: Artifact[Any], name: str, store: Store) -> Artifact[Any]:
    digest = artifact.inputs[name]
    try:
        return store.by_digest(digest)
    except UnknownArtifact as error:
        raise IntegrityError(
            f"the lineage of {artifact.label} has a gap",
            found=f"the record of its {name}, {digest[:16]}, is not in the store",
            fix="run the command that made it again",
        ) from error


def _outside(artifact: Artifact[Any], depth: int) -> Iterator[Node]:
    """What an artifact grew from that no step made: source files, a base model, a teacher."""
    body = artifact.body
    if isinstance(body, DatasetBody | SyntheticBody):
        for file, digest in sorted(body.sources.items()):
            yield Node(depth, "source", file, digest, "file")
    if isinstance(body, SyntheticBody):
        ran = f" ({', '.join(body.served)})" if body.served else ""
        digest = sha256_bytes(canonical_json(body.identity))
        yield Node(depth, "teacher", f"{body.teacher}{ran}", digest, "model")
    if isinstance(body, CheckpointBody | AdoptedBody):
        yield _model_node(depth, "base", body.base)
    if isinstance(body, ExportBody):
        yield from _behind(artifact, body, depth)
    if isinstance(body, AnswersBody) and "export" not in artifact.inputs:
        yield _model_node(depth, "model", body.model)


def _behind(artifact: Artifact[Any], body: ExportBody, depth: int) -> Iterator[Node]:
    """The models of an export that no record of the store stands for.

    Of a merge every parent (and last its base, where it is none of them) that is no export; of a
    conversion the model it was made from. An export with a checkpoint has its base behind that.
    """
    if body.parents is not None:
        last = [] if body.base in body.parents else [body.base]
        for number, model in enumerate([*body.parents, *last], 1):
            if f"parent{number}" not in artifact.inputs:
                yield _model_node(depth, "base" if [model] == last else f"parent{number}", model)
    elif not artifact.inputs:
        yield _model_node(depth, "base", body.base)


def _model_node(depth: int, role: str, model: ModelRef) -> Node:
    return Node(depth, role, f"{model.name} ({model.origin})", model.digest, "model")


def verify(artifact: Artifact[Any], store: Store) -> list[str]:
    """Every problem in the artifact and all it grew from; an empty list is a whole lineage.

    Raises:
        IntegrityError: as `walk`.
    """
    # By digest: one artifact is the input of several, and its bytes are read once.
    chain = {n.digest: n.artifact for n in walk(artifact, store) if n.artifact is not None}
    return [problem for link in chain.values() for problem in store.verify(link)]
