"""`nexa publish`: from the folder that training left to a published one, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nexa.core.config import PublishSection
from nexa.core.errors import GateError, UsageError
from nexa.core.identity import sha256_file
from nexa.core.manifest import ManifestFile, RunManifest, find_manifest
from nexa.core.records import Artifact, PublicationBody
from nexa.core.tiers import Tiers
from nexa.orchestrate.output import read_output
from nexa.orchestrate.runner import run_step
from nexa.publish.publish import PublishSpec

# The roles of a run whose records make up a publication's evidence.
EVIDENCE = (
    "export",
    "checkpoint",
    "report",
    "base_scores",
    "tuned_scores",
    "base_answers",
    "tuned_answers",
    "suite",
    "dataset",
)


@dataclass(frozen=True)
class Request:
    """What the user asked to publish."""

    section: PublishSection
    model_dir: Path
    allow: tuple[str, ...] = ()
    licence: str | None = None


def section(**choices: Any) -> PublishSection:
    """The `publish:` section that a command line amounts to.

    Raises:
        UsageError: a repository that is not OWNER/NAME.
    """
    try:
        return PublishSection(**choices)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"--{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}",
            found=repr(first["input"]),
        ) from error


def publish_folder(request: Request, project: Path) -> Artifact[PublicationBody]:
    """Publish a model folder of the project in `project`."""
    return publish(request, Tiers.of(project))


def publish(request: Request, tiers: Tiers) -> Artifact[PublicationBody]:
    """Publish the model in `model_dir` with the evidence of the run that made it.

    Raises:
        IntegrityError: the folder is not what training left, or was changed since.
        GateError: the run did not end well, or the gate refuses its evidence.
        UsageError: a Hub that this version cannot reach.
    """
    facts = read_output(request.model_dir)
    refuse_changed(request.model_dir, facts)
    manifest = find_manifest(tiers.manifests, facts["run_id"])
    made = evidence(manifest, tiers)
    spec = PublishSpec(
        repo=request.section.repo,
        folder=hub_root(request.section.hub, tiers),
        hub=request.section.hub,
        licence=request.licence,
        model_card=request.section.model_card,
        merge_adapters=request.section.merge_adapters,
        allow=request.allow,
    )
    published, _ = run_step(
        "publish",
        spec,
        made,
        store=tiers.store,
        effects={"manifest": manifest.model_dump(mode="json", by_alias=True)},
    )
    ledger = ManifestFile(tiers.manifests / f"{manifest.run_id}.json", manifest)
    ledger.note_publication(published.body.location)
    tiers.write(ledger.to_bytes(), f"manifests/{manifest.run_id}.json")
    return published


def hub_root(hub: str, tiers: Tiers) -> Path:
    """The folder behind `--hub local` or `--hub FOLDER`.

    Raises:
        UsageError: an address on the network: not in this version.
    """
    if hub == "local":
        return tiers.hub
    if "://" in hub:
        raise UsageError(
            f"this version of nexa cannot publish to {hub}",
            found="it publishes into a local folder laid out as a Hub repository",
            fix="publish with --hub local (in config.yaml: publish.hub: local)",
        )
    return Path(hub).expanduser().resolve()


def evidence(manifest: RunManifest, tiers: Tiers) -> dict[str, Artifact[Any]]:
    """The sealed records of a finished run, by role.

    Raises:
        GateError: the run did not end, or made no report.
    """
    if manifest.status != "done":
        raise GateError(
            f"run {manifest.run_id} is {manifest.status}: it has no report to publish with",
            found=manifest.error,
            fix="nexa train config.yaml",
        )
    missing = [role for role in EVIDENCE if role not in manifest.outputs]
    if missing:
        raise GateError(f"run {manifest.run_id} made no {', '.join(missing)}")
    return {role: tiers.store.by_digest(manifest.outputs[role]) for role in EVIDENCE}


def refuse_changed(folder: Path, facts: dict[str, Any]) -> None:
    """What is published is what was evaluated: a file edited since is an error, by name.

    Raises:
        GateError: a file of the model is missing or has other bytes.
    """
    changed = [
        name
        for name, digest in facts["files"].items()
        if not (folder / name).is_file() or sha256_file(folder / name) != digest
    ]
    if changed:
        raise GateError(
            f"{folder} was changed after it was evaluated",
            found=", ".join(changed),
            fix="run nexa train again: what has not changed is reused",
        )
