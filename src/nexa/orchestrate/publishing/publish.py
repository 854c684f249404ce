"""`nexa publish`: from a model to a published repository, with its evidence.

What the model is, is told apart in `source.py`; one without a report is evaluated first
(`evaluate.py`); its GGUF files are made in `gguf.py`; which Hub is meant is in `orchestrate.hubs`.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nexa.core.config import load_config
from nexa.core.config_sections import PublishSection
from nexa.core.errors import (
    AccessError,
    GateError,
    IntegrityError,
    NetworkError,
    StorageError,
    UsageError,
)
from nexa.core.events import emit
from nexa.core.identity import sha256_file
from nexa.core.manifest import ManifestFile, RunManifest, list_manifests
from nexa.core.records import Artifact, PublicationBody
from nexa.core.store import UnknownArtifact
from nexa.core.tiers import Tiers
from nexa.orchestrate.hubs import LOCAL, hub_name, hub_of, is_remote, require_hub
from nexa.orchestrate.output import CARD, read_output
from nexa.orchestrate.publishing.evaluate import evaluate
from nexa.orchestrate.publishing.gguf import converted
from nexa.orchestrate.publishing.source import EVIDENCE, Source, detect
from nexa.orchestrate.runner import run_step
from nexa.publish.gate import require_evidence, require_waivers
from nexa.publish.publish import PublishSpec
from nexa.publish.records import is_adopted

CONFIG = "config.yaml"
# What is over by the time the same command is run again, or after what the error says.
PASSING = (AccessError, IntegrityError, NetworkError, StorageError)


@dataclass(frozen=True)
class Request:
    """What the user asked to publish."""

    section: PublishSection
    model_dir: Path | str
    """A folder, `checkpoint/NAME@vN`, or a run's id."""
    allow: tuple[str, ...] = ()
    licence: str | None = None
    base_model: str | None = None
    """What a model that Nexa did not train is compared with, and merged into."""
    eval_data: Path | None = None
    """Held-out rows for a model without a report."""
    command: str | None = None
    """The command line that asked, to be run again after a failure."""


def section(root: Path, flags: Mapping[str, Any]) -> PublishSection:
    """The flags of a command line over the `publish:` section of the project's config.yaml.

    A flag that is None was not given; a Hub folder that was is taken from where the user stands.

    Raises:
        UsageError: no repository, or one that is not OWNER/NAME.
        ConfigError: config.yaml has mistakes.
    """
    path = root / CONFIG
    asked = load_config(path).publish if path.exists() else None
    chosen = asked.model_dump() if asked else {}
    chosen |= {name: value for name, value in flags.items() if value not in (None, ())}
    if flags.get("format") == "safetensors" and not flags.get("quantization"):
        chosen.pop("quantization", None)  # that of config.yaml goes with its format
    hub = flags.get("hub")
    if hub is not None and hub != LOCAL and not is_remote(hub):
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
    model_dir: Path | str, here: Path, flags: Mapping[str, Any], **more: Any
) -> Artifact[PublicationBody]:
    """Publish a model of the project `here`, or of the project that the folder lies in.

    `more` are further fields of `Request`.
    """
    request, tiers = request_of(model_dir, here, flags, **more)
    return publish(request, tiers)


def request_of(
    model_dir: Path | str, here: Path, flags: Mapping[str, Any], **more: Any
) -> tuple[Request, Tiers]:
    """What a command line asks for, and the project that it is about."""
    project = project_of(model_dir, here)
    return Request(section(project, flags), model_dir, **more), Tiers.of(project)


def project_of(model_dir: Path | str, here: Path) -> Path:
    """The project whose ledger has the run that made the model; `here` for any other model.

    Raises:
        IntegrityError: the folder's card is broken, or it was not written whole.
        UsageError: neither `here` nor a folder above the model has the run.
    """
    folder = Path(model_dir).expanduser()
    if not (folder / CARD).is_file():
        return here
    run_id = read_output(folder)["run_id"]
    for project in (here, *folder.resolve().parents):
        if (Tiers.of(project).manifests / f"{run_id}.json").is_file():
            return project
    raise UsageError(
        f"{model_dir} was made by run {run_id}, which is not a run of this project",
        found=f"no such manifest in {Tiers.of(here).manifests}",
        fix="run it in the project's folder: where its runs/ and .nexa/ are",
    )


def publish(request: Request, tiers: Tiers) -> Artifact[PublicationBody]:
    """Publish a model with its evidence; one without a report is evaluated first.

    Raises:
        UsageError: no such model, or options that do not fit it.
        AccessError: no token, or one that may not write to the repository: before any work.
        GateError: the folder was changed since it was evaluated, it has no report, or the gate
            refuses its evidence.
        NetworkError: the Hub is out of reach; the error ends with the command to run again.
    """
    require_waivers(request.allow)
    source = detect(str(request.model_dir), tiers)
    refuse_misfits(source, request)
    with _told_how_to_go_on(_asked(request)):
        require_hub(request.section, tiers)
    return publish_run(
        _with_report(source, request, tiers),
        request.section,
        tiers,
        allow=request.allow,
        licence=request.licence,
        command=_asked(request),
    )


def refuse_misfits(source: Source, request: Request) -> None:
    """Options that say nothing about this model, and a model that was changed.

    Raises:
        UsageError: an option that is not for it.
        GateError: a file of a run's output is missing or has other bytes; or there is no report,
            and nothing to make one with.
    """
    if source.manifest is not None:
        given = {"--eval-data": request.eval_data, "--base-model": request.base_model}
        if needless := [flag for flag, value in given.items() if value is not None]:
            raise UsageError(
                f"{' and '.join(needless)}: {request.model_dir} has its report and its base",
                found=source.said,
                fix=f"leave {' and '.join(needless)} out",
            )
        if source.folder is not None and (source.folder / CARD).is_file():
            refuse_changed(source.folder, read_output(source.folder))
    else:
        require_rows(source, request)
    if source.kind == "full" and not request.section.merge_adapters:
        raise UsageError(
            f"{request.model_dir} is no adapter: there is nothing to leave unmerged",
            fix="leave --no-merge-adapters out",
        )


def require_rows(source: Source, request: Request) -> Path:
    """The held-out rows for a model without a report.

    Raises:
        GateError: none were given; names the command that does.
    """
    if request.eval_data is None:
        knows_base = request.base_model or (source.export and source.export.body.parents)
        base = "" if source.kind != "full" or knows_base else " --base-model MODEL"
        raise GateError(
            f"{request.model_dir} has no report: nothing shows what it is worth",
            found=source.said,
            fix=f"{_asked(request)} --eval-data FILE{base}",
        )
    return request.eval_data


def _with_report(source: Source, request: Request, tiers: Tiers) -> ManifestFile:
    """The manifest of the run that has all the evidence; that run is now, if there is none."""
    if source.manifest is not None:
        path = tiers.manifests / f"{source.manifest.run_id}.json"
        return ManifestFile(path, source.manifest)
    return evaluate(source, require_rows(source, request), request.base_model, tiers)


def publish_run(
    ledger: ManifestFile,
    section: PublishSection,
    tiers: Tiers,
    *,
    allow: tuple[str, ...] = (),
    licence: str | None = None,
    command: str | None = None,
) -> Artifact[PublicationBody]:
    """Publish what a run made, from its sealed records; its manifest then says where.

    Its GGUF files, where they are asked for, are made first. Whatever goes wrong, the run stays as
    done as it is.

    Raises:
        GateError: the run did not end well, or the gate refuses its evidence.
        ModelError, MissingExtra, ParityError: the model cannot be GGUF, or did not become it.
        AccessError, NetworkError, IntegrityError, StorageError: it was not published, or could not
            be verified after; ends with the command to run again.
    """
    manifest = ledger.manifest
    with _told_how_to_go_on(command or _command(manifest.run_id, section)):
        require_hub(section, tiers)
        made = evidence(manifest, tiers)
        if section.quantizations:
            require_evidence(made, allow=allow)  # what is refused need not be converted
        scratch = tiers.new_scratch("publish")
        try:
            made |= converted(section, made["export"], tiers, scratch)
            spec = publish_spec(section, tiers, allow=allow, licence=licence, scratch=scratch)
            facts = run_that_trained(manifest, tiers).model_dump(mode="json", by_alias=True)
            effects = {"manifest": facts}
            published, _ = run_step("publish", spec, made, store=tiers.store, effects=effects)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    ledger.note_publication(published.body.location)
    tiers.write(ledger.to_bytes(), f"manifests/{manifest.run_id}.json")
    return published


def publish_spec(
    section: PublishSection,
    tiers: Tiers,
    *,
    allow: tuple[str, ...] = (),
    licence: str | None = None,
    scratch: Path | None = None,
) -> PublishSpec:
    """The step's recipe."""
    return PublishSpec(
        repo=section.repo,
        target=hub_of(section.hub, tiers),
        hub=hub_name(section.hub),
        private=section.private,
        scratch=scratch,
        licence=licence,
        model_card=section.model_card,
        merge_adapters=section.merge_adapters,
        format=section.format,
        allow=allow,
    )


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
    if missing not in ([], ["dataset"]):
        raise GateError(f"run {manifest.run_id} made no {', '.join(missing)}")
    try:
        made = {role: tiers.store.by_digest(digest) for role, digest in _roles(manifest).items()}
    except UnknownArtifact as error:
        raise GateError(
            f"the records of run {manifest.run_id} are not all in {tiers.store.root}",
            found=error.what,
            fix="nexa train config.yaml   makes them again",
        ) from error
    if missing and not is_adopted(made["checkpoint"]):
        raise GateError(f"run {manifest.run_id} made no dataset")
    return made


def run_that_trained(manifest: RunManifest, tiers: Tiers) -> RunManifest:
    """The run that did the work for the same evidence: the card tells of its machine and cost."""
    if "checkpoint" not in manifest.reused:
        return manifest
    for earlier in list_manifests(tiers.manifests):
        same = earlier.outputs.items() >= _roles(manifest).items()
        if same and earlier.status == "done" and "checkpoint" not in earlier.reused:
            return earlier
    return manifest


def _roles(manifest: RunManifest) -> dict[str, str]:
    return {role: manifest.outputs[role] for role in EVIDENCE if role in manifest.outputs}


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


# -- the command to run again --------------------------------------------------------------------


@contextlib.contextmanager
def _told_how_to_go_on(command: str) -> Iterator[None]:
    """A failure that is not the model's ends with the line that goes on from it."""
    try:
        yield
    except PASSING as error:
        error.fix = f"{error.fix}\n{command}" if error.fix else command
        raise
    except KeyboardInterrupt:
        emit("note", text=f"not published; to go on: {command}")
        raise


def _command(reference: str, section: PublishSection) -> str:
    """The command that publishes the same, for a caller that has none."""
    words = ["nexa", "publish", reference, "--repo", section.repo, "--hub", section.hub]
    switches = {
        "--private": section.private,
        "--no-model-card": not section.model_card,
        "--no-merge-adapters": not section.merge_adapters,
    }
    if section.format != "safetensors":
        words += ["--format", section.format, "--quantization", ",".join(section.quantizations)]
    return shlex.join([*words, *(flag for flag, given in switches.items() if given)])


def _asked(request: Request) -> str:
    return request.command or _command(str(request.model_dir), request.section)
