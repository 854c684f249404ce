"""The run manifest: one JSON a run, where every record, cost and verdict of the run meet.

Opened before any work, amended as facts arrive, closed exactly once. Each write is aside and
renamed, so a killed run leaves a whole manifest that says `running`. The digest of a closed one
is noted beside it (`core.ledger`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nexa.core.errors import IntegrityError, NexaError, UsageError, nearest
from nexa.core.ledger import require_noted, write_noted
from nexa.core.secrets import redact

SPECIFIED = re.compile(r"\d{4}-\d{2}-\d{2}_\d{6}")  # a run's second, as the specification has it

# Fields that hold a host name, an address, or a sentence or path that may name a folder.
PRIVATE = frozenset(
    {
        "hostname",
        "tailscale_ip",
        "checkpoint_dir_durable",
        "eval_report",
        "deliverables",
        "output_dir",
        "publications",
        "error",
    }
)


def _is_none(value: object) -> bool:
    """For a field that a later version added: what was published before stays, byte for byte."""
    return value is None


class ManifestClosed(NexaError, RuntimeError):
    """A closed manifest is evidence; nothing amends it."""


class Cost(BaseModel):
    """What a run cost, and by whose word."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_time: str = Field(description="UTC, ISO 8601")
    end_time: str = Field(description="UTC, ISO 8601")
    gpu_type: str | None = Field(description="None on a machine without a GPU")
    provider: str = Field(description="who owns the machine")
    cost_per_hour_usd: float = Field(description="0 for one's own machine unless told otherwise")
    price_source: str = Field(description="who named the price")
    cost_total_usd: float = Field(description="metered time x price, and the teacher's answers")
    teacher_usd: float | None = Field(
        default=None,
        description="of the teacher's answers; not there: none, or an unknown price",
        exclude_if=_is_none,
    )
    tokens: int = Field(description="tokens that went through the model in training")
    usd_per_point: float | None = Field(
        description="dollars a point (0.01) of the primary metric gained; None without a gain"
    )


class RunManifest(BaseModel):
    """Everything about one run that others must know. The first fields are the lab's."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    run_id: str = Field(description="YYYY-MM-DD-HHMMSS-xxxx; a DNS label")
    run_type: str = Field(
        description="train | distill | improve | data_gen | feedback | eval | export | merge | "
        "publish"
    )
    dataset_id: str | None = Field(default=None, description="name@version of the training data")
    dataset_hash: str | None = Field(default=None, description="digest of the dataset's record")
    teacher_model: str | None = Field(default=None, description="in distillation")
    judge_model_id: str | None = Field(
        default=None, description="the model that judged; not there: none", exclude_if=_is_none
    )
    judge_prompt_hash: str | None = Field(
        default=None,
        description="sha256 over the prompts that it was asked with",
        exclude_if=_is_none,
    )
    student_model: str | None = Field(
        default=None, description="the model that was trained; in an evaluation, the one scored"
    )
    gpu_type: str | None = Field(default=None, description="None on a machine without a GPU")
    provider: str = Field(default="local", description="who owns the machine")
    tailscale_ip: str | None = Field(default=None, description="when the node was on a tailnet")
    hostname: str | None = Field(default=None, description="left out of what is published")
    wandb_run_id: str | None = Field(default=None, description="when a W&B sink listened")
    tokens_trained: int = Field(default=0, description="tokens through the model in training")
    cost_estimate_usd_total: float = Field(default=0.0, description="cost.cost_total_usd")
    checkpoint_dir_durable: str | None = Field(default=None, description="durable address")
    best_checkpoint: str | None = Field(default=None, description="file in that folder")
    eval_status: Literal["pending", "done", "failed", "skipped"] = Field(
        default="pending", description="how far the evaluation came"
    )
    eval_report: str | None = Field(default=None, description="leaderboard in durable storage")
    eval_summary: dict[str, float] = Field(default_factory=dict, description="metric -> tuned mean")

    schema_: Literal["nexa.manifest/1"] = Field(
        default="nexa.manifest/1", alias="schema", description="this document's version"
    )
    status: Literal["running", "done", "failed", "interrupted"] = Field(
        default="running", description="a run that was killed says so until the next one begins"
    )
    error: str | None = Field(default=None, description="why it did not end well")
    attempts: int = Field(
        default=1, description="this one, and those of the same config.yaml that ended badly before"
    )
    inexact: list[str] = Field(
        default_factory=list, description="what had changed when --allow-inexact let it go on"
    )
    nexa_version: str = Field(default="", description="Nexa's own")
    code_digest: str = Field(default="", description="sha256 over Nexa's own source files")
    lock_digest: str | None = Field(default=None, description="sha256 over versions")
    versions: dict[str, str] = Field(default_factory=dict, description="library -> version")
    machine: dict[str, Any] = Field(default_factory=dict, description="CPU, cores, memory, GPUs")
    memory: dict[str, int] = Field(
        default_factory=dict,
        description="bytes of the training: estimated and rehearsed by the check, and its peak",
    )
    evidence: str = Field(default="real", description="how the provider's driver was proved")
    config_sha256: str | None = Field(default=None, description="of config.yaml as it was read")
    method: str | None = Field(
        default=None, description="how it was trained: LoRA, QLoRA, DoRA..., all weights"
    )
    seed: int | None = Field(default=None, description="of data order, adapter and dropout")
    template_sha256: str | None = Field(default=None, description="of the chat template")
    mask_sha256: str | None = Field(default=None, description="over token ids and loss masks")
    label_tokens: int = Field(default=0, description="tokens that bore loss")
    teacher_tokens: dict[str, int] = Field(
        default_factory=dict,
        description="input and output tokens of the teacher's answers, those of earlier attempts "
        "among them",
    )
    verdict: str | None = Field(
        default=None, description="improved | no evidence | worse | contaminated"
    )
    cost: Cost | None = Field(default=None, description="the cost breakdown, below")
    inputs: dict[str, str] = Field(default_factory=dict, description="role -> digest")
    outputs: dict[str, str] = Field(default_factory=dict, description="role -> record digest")
    reused: list[str] = Field(default_factory=list, description="outputs made by an earlier run")
    deliverables: dict[str, str] = Field(
        default_factory=dict,
        description="the six: checkpoint, manifest, leaderboard, report, cost, lineage -> address",
    )
    digests: dict[str, str] = Field(
        default_factory=dict,
        description="sha256 of files left outside the store: report, cost, lineage, final_model",
    )
    output_dir: str | None = Field(default=None, description="the folder left to the user")
    publications: list[str] = Field(
        default_factory=list, description="where it was published, also after the run's end"
    )

    def public(self) -> dict[str, Any]:
        """What may leave the machine: no host name, no address, no path of the file system."""
        return self.model_dump(mode="json", by_alias=True, exclude=set(PRIVATE))


class ManifestFile:
    """A manifest and the file that holds it."""

    def __init__(self, path: Path, manifest: RunManifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, folder: Path, manifest: RunManifest) -> ManifestFile:
        """Start a manifest before the work that it describes."""
        opened = cls(folder / f"{manifest.run_id}.json", manifest)
        opened._write()
        return opened

    def amend(self, **fields: Any) -> None:
        """Add facts. Unknown fields and wrong types are refused.

        Raises:
            ManifestClosed: the run has ended; its manifest stands.
        """
        if self.manifest.status != "running":
            raise ManifestClosed(f"the manifest of run {self.manifest.run_id} is closed")
        current = self.manifest.model_dump(by_alias=True)
        self.manifest = RunManifest.model_validate({**current, **fields})
        self._write()

    def close(self, status: Literal["done", "failed", "interrupted"], **fields: Any) -> None:
        """End it, once."""
        self.amend(**fields, status=status)

    def note_publication(self, address: str) -> None:
        """Where the run was published: the one fact that may arrive after its end."""
        if address not in self.manifest.publications:
            self.manifest.publications.append(address)
            self._write()

    def to_bytes(self) -> bytes:
        """The manifest as it is kept: indented JSON, fields in their order, without secrets."""
        data = self.manifest.model_dump(mode="json", by_alias=True)
        return redact(json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()

    def _write(self) -> None:
        write_noted(self.path, self.to_bytes(), closed=self.manifest.status != "running")


def read_manifest(path: Path) -> RunManifest:
    """A manifest from its file.

    Raises:
        IntegrityError: it is not one.
    """
    try:
        return RunManifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{path} is not a run manifest", found=str(error)) from error


def list_manifests(folder: Path) -> list[RunManifest]:
    """Every manifest of a ledger, oldest first."""
    return [read_manifest(path) for path in sorted(folder.glob("*.json"))]


def find_manifest(folder: Path, run_id: str) -> RunManifest:
    """The manifest of a run; `latest` is the newest, an unambiguous beginning is enough.

    Raises:
        UsageError: no such run, or more than one; names those there are.
        IntegrityError: it was changed after the run ended.
    """
    path = folder / f"{find_run_id(folder, run_id)}.json"
    require_noted(path)
    return read_manifest(path)


def find_run_id(folder: Path, run_id: str) -> str:
    """The whole id of a run; raises `UsageError` as `find_manifest`.

    The lab's specification writes a run's second as `2025-10-28_141200`: that is taken, too.
    """
    if SPECIFIED.fullmatch(run_id):
        run_id = run_id.replace("_", "-")
    known = [path.stem for path in sorted(folder.glob("*.json"))]
    wanted = known[-1:] if run_id == "latest" else [k for k in known if k.startswith(run_id)]
    if run_id in known:
        wanted = [run_id]
    if len(wanted) != 1:
        near = nearest(run_id, known)
        raise UsageError(
            f"{len(wanted)} runs begin with {run_id!r}" if wanted else f"there is no run {run_id}",
            found=", ".join((wanted or known)[-5:]) or f"no runs in {folder}",
            fix=f"nexa runs show {near}" if near else None,
        )
    return wanted[0]
