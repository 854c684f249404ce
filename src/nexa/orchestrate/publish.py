"""`nexa publish`: from the folder that training left to a published one, with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nexa.core.config import PublishSection, load_config
from nexa.core.errors import GateError, UsageError
from nexa.core.events import emit
from nexa.core.identity import sha256_file
from nexa.core.manifest import ManifestFile, RunManifest, find_manifest, list_manifests
from nexa.core.records import Artifact, PublicationBody
from nexa.core.store import UnknownArtifact
from nexa.core.tiers import Tiers
from nexa.orchestrate.output import read_output
from nexa.orchestrate.runner import run_step
from nexa.publish.publish import PublishSpec

CONFIG = "config.yaml"
LOCAL = "local"  # the Hub in the project's own .nexa/hub
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


def section(root: Path, flags: Mapping[str, Any]) -> PublishSection:
    """The flags of a command line over the `publish:` section of the project's config.yaml.

    A flag that is None was not given; a Hub folder that was is taken from where the user stands.

    Raises:
        UsageError: no repository, or one that is not OWNER/NAME.
        ConfigError: config.yaml has mistakes.
    """
    path = root / CONFIG
    asked = load_config(path).publish if path.exists() else None
    chosen = asked.model_dump() if asked else {"hub": LOCAL}
    chosen |= {name: value for name, value in flags.items() if value is not None}
    hub = flags.get("hub")
    if hub is not None and hub != LOCAL and "://" not in hub:
        chosen["hub"] = str(Path(hub).expanduser().absolute())
    if "repo" not in chosen:
        raise UsageError(
            "nothing says what to publish the model as",
            fix="--repo OWNER/NAME, or a publish section in config.yaml",
        )
    try:
        return PublishSection(**chosen)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"--{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}",
            found=repr(first["input"]),
        ) from error


def publish_folder(
    model_dir: Path,
    here: Path,
    flags: Mapping[str, Any],
    *,
    allow: tuple[str, ...] = (),
    licence: str | None = None,
) -> Artifact[PublicationBody]:
    """Publish a model folder of the project `here`, or of the project that the folder lies in."""
    project = project_of(model_dir, here)
    return publish(Request(section(project, flags), model_dir, allow, licence), Tiers.of(project))


def project_of(model_dir: Path, here: Path) -> Path:
    """The project whose ledger has the run that made the model.

    Raises:
        IntegrityError: the folder is not what training left.
        UsageError: neither `here` nor a folder above the model has the run.
    """
    run_id = read_output(model_dir)["run_id"]
    for folder in (here, *model_dir.resolve().parents):
        if (Tiers.of(folder).manifests / f"{run_id}.json").is_file():
            return folder
    raise UsageError(
        f"{model_dir} was made by run {run_id}, which is not a run of this project",
        found=f"no such manifest in {Tiers.of(here).manifests}",
        fix="run it in the project's folder: where its runs/ and .nexa/ are",
    )


def publish(request: Request, tiers: Tiers) -> Artifact[PublicationBody]:
    """Publish the model in `model_dir` with the evidence of the run that made it.

    Raises:
        IntegrityError: the folder is not what training left.
        GateError: the folder was changed since, the run did not end well, or the gate refuses its
            evidence.
        UsageError: a Hub that this version cannot reach, or no such run.
    """
    facts = read_output(request.model_dir)
    refuse_changed(request.model_dir, facts)
    manifest = find_manifest(tiers.manifests, facts["run_id"])
    ledger = ManifestFile(tiers.manifests / f"{manifest.run_id}.json", manifest)
    return publish_run(ledger, request.section, tiers, allow=request.allow, licence=request.licence)


def publish_run(
    ledger: ManifestFile,
    section: PublishSection,
    tiers: Tiers,
    *,
    allow: tuple[str, ...] = (),
    licence: str | None = None,
) -> Artifact[PublicationBody]:
    """Publish what a run made, from its sealed records; its manifest then says where.

    Raises:
        GateError: the run did not end well, or the gate refuses its evidence.
        UsageError: a Hub that this version cannot reach.
    """
    manifest = ledger.manifest
    spec = PublishSpec(
        repo=section.repo,
        folder=hub_root(section.hub, tiers),
        hub=LOCAL,
        licence=licence,
        model_card=section.model_card,
        merge_adapters=section.merge_adapters,
        allow=allow,
    )
    made = evidence(manifest, tiers)
    if section.private:
        emit("note", text="a folder has no private repositories: whoever may read it may read this")
    facts = _run_that_trained(manifest, tiers).model_dump(mode="json", by_alias=True)
    published, _ = run_step("publish", spec, made, store=tiers.store, effects={"manifest": facts})
    ledger.note_publication(published.body.location)
    tiers.write(ledger.to_bytes(), f"manifests/{manifest.run_id}.json")
    return published


def hub_root(hub: str, tiers: Tiers) -> Path:
    """The folder behind the Hub `local`, or a folder, which is taken from the project's.

    Raises:
        UsageError: an address on the network: not in this version.
    """
    if hub == LOCAL:
        return tiers.hub
    if "://" in hub:
        raise UsageError(
            f"this version of nexa cannot publish to {hub}",
            found="it publishes into a local folder laid out as a Hub repository",
            fix="publish with --hub local (in config.yaml: publish.hub: local)",
        )
    return (tiers.root / Path(hub).expanduser()).resolve()


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
    try:
        return {role: tiers.store.by_digest(manifest.outputs[role]) for role in EVIDENCE}
    except UnknownArtifact as error:
        raise GateError(
            f"the records of run {manifest.run_id} are not all in {tiers.store.root}",
            found=error.what,
            fix="nexa train config.yaml   makes them again",
        ) from error


def _run_that_trained(manifest: RunManifest, tiers: Tiers) -> RunManifest:
    """The run that did the work for the same evidence: the card tells of its machine and cost."""
    if "checkpoint" not in manifest.reused:
        return manifest
    made = {role: manifest.outputs[role] for role in EVIDENCE}
    for earlier in list_manifests(tiers.manifests):
        same = earlier.outputs.items() >= made.items()
        if same and earlier.status == "done" and "checkpoint" not in earlier.reused:
            return earlier
    return manifest


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
