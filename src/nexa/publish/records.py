"""`nexa/records.jsonl`: the header, then every sealed record behind a publication, one a line.

The header says which record plays which role, and carries the few facts of the card that no
sealed record holds (repository, licence, the run's cost and machine). Each line is canonical JSON,
so the file is a pure function of its content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nexa.core.errors import GateError, IntegrityError
from nexa.core.identity import canonical_json
from nexa.core.manifest import Cost, RunManifest
from nexa.core.records import Artifact
from nexa.core.store import Store, UnknownArtifact

MODEL = "model"
ROLES = {
    "suite": "suite",
    "dataset": "dataset",
    "checkpoint": "checkpoint",
    "export": "export",
    "base_answers": "answers",
    "tuned_answers": "answers",
    "base_scores": "scores",
    "tuned_scores": "scores",
    "report": "report",
}
# A model that Nexa did not train: nobody here knows what it was trained on.
ADOPTED = "adopted"
ADOPTED_ROLES = {
    **{role: kind for role, kind in ROLES.items() if role != "dataset"},
    "checkpoint": ADOPTED,
}
# gguf1, gguf2 and so on: the evaluated export in another form, in the order they were asked for.
GGUF_ROLE = re.compile(r"gguf([1-9]\d*)")


class RunFacts(BaseModel):
    """What the card tells of the run; manifest.json must tell the same."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    run_id: str
    provider: str
    gpu_type: str | None
    machine: dict[str, Any]
    versions: dict[str, str]
    nexa_version: str
    cost: Cost | None

    @classmethod
    def of(cls, manifest: RunManifest) -> RunFacts:
        """The facts of a manifest."""
        return cls.model_validate(manifest.public())


def _usual(format_: object) -> bool:
    """For a field that a later version added: the header of what was published before stays."""
    return format_ == "safetensors"


class Header(BaseModel):
    """The first line of records.jsonl."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["nexa.publication/1"] = Field(default="nexa.publication/1", alias="schema")
    card_version: str
    repo: str = Field(pattern=r"^[^/]+/[^/]+$")
    licence: str | None
    model_card: bool
    merge_adapters: bool
    format: Literal["safetensors", "gguf"] = Field(default="safetensors", exclude_if=_usual)
    roles: dict[str, str] = Field(description="role -> digest of the record that plays it")
    run: RunFacts


@dataclass(frozen=True)
class Records:
    """The content of records.jsonl: the header and the sealed records by digest."""

    header: Header
    artifacts: Mapping[str, Artifact[Any]]

    def role(self, name: str) -> Artifact[Any]:
        """The record that plays a role (`checkpoint`, `base_scores`, ...)."""
        return self.artifacts[self.header.roles[name]]

    def roles(self) -> dict[str, Artifact[Any]]:
        """Every role with the record that plays it."""
        return {name: self.role(name) for name in self.header.roles}

    @property
    def ggufs(self) -> list[Artifact[Any]]:
        """The GGUF files' exports, in order; none where safetensors were published."""
        return [self.role(name) for name in gguf_roles(self.header.roles)]

    @property
    def adopted(self) -> bool:
        """Whether Nexa did not train the model: then there is no dataset."""
        return is_adopted(self.role("checkpoint"))

    def to_bytes(self) -> bytes:
        """The file: the header, then the records in the order they were gathered."""
        header = self.header.model_dump(mode="json", by_alias=True)
        lines = [header, *(artifact.to_json() for artifact in self.artifacts.values())]
        return b"".join(canonical_json(line) + b"\n" for line in lines)


def is_adopted(checkpoint: Artifact[Any]) -> bool:
    """Whether what plays the checkpoint is a model that Nexa did not train."""
    return checkpoint.kind == ADOPTED


def roles_of(checkpoint: Artifact[Any]) -> dict[str, str]:
    """The roles that a publication has, with the kind of each; the checkpoint decides."""
    return ADOPTED_ROLES if is_adopted(checkpoint) else ROLES


def gguf_roles(roles: Iterable[str]) -> list[str]:
    """The roles among these that GGUF files play, in order."""
    numbered = {int(match[1]): name for name in roles if (match := GGUF_ROLE.fullmatch(name))}
    return [numbered[number] for number in sorted(numbered)]


def gather(roles: Mapping[str, Artifact[Any]], store: Store, **header: Any) -> Records:
    """The records of a publication: those that play a role, and all that they grew from.

    An input called `model` is a model's digest, not a record: a base, or an export's own.

    Raises:
        GateError: an input of one of them is not in the store, so the chain has a gap.
    """
    found: dict[str, Artifact[Any]] = {}
    wanted = [*roles_of(roles["checkpoint"]), *gguf_roles(roles)]
    waiting = [roles[name] for name in wanted]
    while waiting:
        artifact = waiting.pop(0)
        if artifact.digest in found:
            continue
        found[artifact.digest] = artifact
        waiting += [
            _parent(artifact, role, store) for role in sorted(artifact.inputs) if role != MODEL
        ]
    names = {name: roles[name].digest for name in wanted}
    return Records(Header(roles=names, **header), found)


def _parent(artifact: Artifact[Any], role: str, store: Store) -> Artifact[Any]:
    try:
        return store.by_digest(artifact.inputs[role])
    except UnknownArtifact as error:
        raise GateError(
            f"cannot publish: the lineage of {artifact.label} has a gap",
            found=f"its {role} {artifact.inputs[role][:16]} is not in the store",
            fix="run the steps again in this project, so that every input is kept",
        ) from error


def read_records(data: bytes) -> Records:
    """Read records.jsonl back.

    Raises:
        IntegrityError: it is not canonical, a record does not fit its kind, or a role is unfilled.
    """
    try:
        first, *lines = [json.loads(line) for line in data.splitlines()]
        header = Header.model_validate(first)
        artifacts = [Artifact.from_json(line) for line in lines]
        records = Records(header, {artifact.digest: artifact for artifact in artifacts})
        wanted = roles_of(records.role("checkpoint"))
        ggufs = gguf_roles(header.roles)
        if set(header.roles) != {*wanted, *ggufs}:
            raise ValueError(f"the roles are {', '.join(sorted(header.roles))}")
        if (header.format == "gguf") != bool(ggufs):
            raise ValueError(f"the format is {header.format} with {len(ggufs)} GGUF files")
        wanted = {**wanted, **dict.fromkeys(ggufs, "export")}
        for name, kind in wanted.items():
            if records.role(name).kind != kind:
                raise ValueError(f"the role {name} is played by a {records.role(name).kind}")
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            "nexa/records.jsonl is not what nexa wrote", found=f"{type(error).__name__}: {error}"
        ) from error
    if records.to_bytes() != data:
        raise IntegrityError("nexa/records.jsonl is not in its canonical form")
    return records
