"""The step: gate, gather the records, render the card, look for secrets, place, verify."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nexa.core.errors import GateError, IntegrityError
from nexa.core.events import emit, progress
from nexa.core.identity import sha256_bytes, sha256_file, where
from nexa.core.manifest import RunManifest
from nexa.core.records import (
    AdoptedBody,
    AnswersBody,
    Artifact,
    CheckpointBody,
    DatasetBody,
    Draft,
    ExportBody,
    PublicationBody,
    ReportBody,
    ScoresBody,
    SuiteBody,
)
from nexa.core.store import Store
from nexa.publish import layout
from nexa.publish.card import ADOPTED_CARD, CARD_VERSION, render_card
from nexa.publish.gate import FOREIGN_FILES, check_gate
from nexa.publish.hub import Hub
from nexa.publish.hub_folder import folder_files
from nexa.publish.ollama import ollama_files
from nexa.publish.records import (
    Records,
    RunFacts,
    gather,
    gguf_roles,
    is_adopted,
    read_records,
)
from nexa.publish.scan import refuse_secrets
from nexa.publish.verify import verify_folder


@dataclass(frozen=True)
class PublishSpec:
    """What to publish and where."""

    repo: str
    """OWNER/NAME."""
    target: Hub = where()
    """The Hub itself: a folder, or one on the network."""
    hub: str = "local"
    """What the hub is called in the record: local, or its address."""
    private: bool = where(default=False)
    """Whether a repository that is made now is private."""
    scratch: Path | None = where(default=None)
    """Where what was uploaded is downloaded again, to be verified; it goes with the draft."""
    licence: str | None = None
    """The SPDX name of the licence, in lower case as the Hub writes it; None leaves it out."""
    model_card: bool = True
    """Write README.md."""
    merge_adapters: bool = True
    """Publish merged weights at the root; without them only the adapter is published."""
    format: Literal["safetensors", "gguf"] = "safetensors"
    """Of the weights at the root; GGUF files are handed in, and stand for the merged weights."""
    allow: tuple[str, ...] = ()
    """Findings that are published all the same: see `gate.WAIVERS`."""


def publish(
    spec: PublishSpec,
    *,
    export: Artifact[ExportBody],
    checkpoint: Artifact[CheckpointBody] | Artifact[AdoptedBody],
    report: Artifact[ReportBody],
    base_scores: Artifact[ScoresBody],
    tuned_scores: Artifact[ScoresBody],
    base_answers: Artifact[AnswersBody],
    tuned_answers: Artifact[AnswersBody],
    suite: Artifact[SuiteBody],
    dataset: Artifact[DatasetBody] | None = None,
    manifest: Mapping[str, Any],
    store: Store,
    **ggufs: Artifact[ExportBody],
) -> Draft[PublicationBody]:
    """Publish a model with its evidence, and read it back from where it was published.

    What stands there already with the same evidence is left as it is.

    Args:
        spec: what and where.
        export: the merged weights with their parity proof.
        checkpoint: what was trained, or adopted.
        report: base against tuned; there is no publishing without it.
        base_scores: the base's scores; their rows are shipped.
        tuned_scores: the tuned model's.
        base_answers: the base's answers.
        tuned_answers: the tuned model's.
        suite: the frozen prompts.
        dataset: the rows that were trained on; only its record is shipped, never the rows.
            None for an adopted model.
        manifest: the run's manifest; what names the machine is left out.
        store: where the records and their bytes are.
        ggufs: gguf1, gguf2 and so on: `export` as GGUF files, each with its proof.

    Raises:
        UsageError: the repository is not OWNER/NAME, or an unknown waiver.
        GateError: evidence is missing or bad, a file holds a secret, or the repository is not ours.
        AccessError: the Hub's token is missing, wrong, or may not write there.
        NetworkError: the Hub is out of reach.
        IntegrityError: what was downloaded again is not what was published.
        StorageError: no space; what was published before is untouched.
    """
    roles: dict[str, Artifact[Any]] = {
        "suite": suite,
        **({} if dataset is None else {"dataset": dataset}),
        "checkpoint": checkpoint,
        "export": export,
        "base_answers": base_answers,
        "tuned_answers": tuned_answers,
        "base_scores": base_scores,
        "tuned_scores": tuned_scores,
        "report": report,
        **ggufs,
    }
    check_gate(roles, allow=spec.allow)
    ledger = RunManifest.model_validate(manifest)
    location = spec.target.location(spec.repo)
    records = publication_records(spec, roles, ledger, store)
    scratch = Path(tempfile.mkdtemp(prefix="nexa-published-", dir=spec.scratch))
    try:
        there = _place(spec, records, ledger, store, scratch)
        body = PublicationBody(
            repo=spec.repo, hub=spec.hub, location=location, root=read_root_digest(there)
        )
        emit("published", repo=spec.repo, location=location, root=body.root)
        draft = Draft("publication", spec.repo, body, publication_files(there))
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    weakref.finalize(draft, shutil.rmtree, scratch, ignore_errors=True)
    return draft


def _place(
    spec: PublishSpec, records: Records, manifest: RunManifest, store: Store, scratch: Path
) -> Path:
    """Publish what is not published yet; returns a folder with what stands on the Hub, verified."""
    there = spec.target.fetch(spec.repo, scratch / "before")
    if there is not None and published_already(there, records):
        emit("note", text=f"already published, nothing to do: {spec.target.location(spec.repo)}")
        return there
    files = published_files(records, manifest, store)
    refuse_secrets(files)
    with progress(f"publishing {spec.repo}"):
        placed = spec.target.publish(
            spec.repo,
            files,
            private=spec.private,
            allow_foreign=FOREIGN_FILES in spec.allow,
        )
        there = spec.target.fetch(spec.repo, scratch / "after")
        if there is None:
            raise IntegrityError(f"{placed.location} is not there after it was published")
        verify_folder(there)
    return there


def publication_files(folder: Path) -> dict[str, Path]:
    """The files of a published folder, without what the Hub and its client leave there."""
    return {
        name: path
        for name, path in folder_files(folder).items()
        if name.split("/")[0] not in layout.PASSED_OVER
    }


def publication_records(
    spec: PublishSpec,
    roles: Mapping[str, Artifact[Any]],
    manifest: RunManifest,
    store: Store,
) -> Records:
    """The content of records.jsonl, as a reader of the file will see it."""
    if not spec.merge_adapters and roles["checkpoint"].body.method != "lora":
        raise GateError(
            "cannot publish without merged weights: there is no adapter",
            found="a whole model",
            fix="leave out --no-merge-adapters; in config.yaml: publish.merge_adapters: true",
        )
    if (spec.format == "gguf") != bool(gguf_roles(roles)):
        raise GateError(
            f"cannot publish {roles['export'].label} as {spec.format}",
            found=f"{len(gguf_roles(roles))} GGUF files",
            fix="nexa publish --format gguf   makes them",
        )
    gathered = gather(
        roles,
        store,
        card_version=ADOPTED_CARD if is_adopted(roles["checkpoint"]) else CARD_VERSION,
        repo=spec.repo,
        licence=spec.licence,
        model_card=spec.model_card,
        merge_adapters=spec.merge_adapters,
        format=spec.format,
        run=RunFacts.of(manifest),
    )
    # Once through its bytes: the card must be rendered from what a reader will have (1.0 is 1).
    return read_records(gathered.to_bytes())


def published_files(
    records: Records, manifest: RunManifest, store: Store
) -> dict[str, bytes | Path]:
    """Every file of a publication: path -> bytes, or where they are. Writes nothing."""
    files: dict[str, bytes | Path] = {
        place: store.path(artifact, name)
        for place, (artifact, name) in layout.placed_files(records).items()
    }
    if layout.MODELFILE in files:
        artifact, name = layout.placed_files(records)[layout.MODELFILE]
        files |= ollama_files(store.path(artifact, name).read_bytes())
    files[layout.RECORDS] = records.to_bytes()
    public = json.dumps(manifest.public(), indent=2, ensure_ascii=False)
    files[layout.MANIFEST] = f"{public}\n".encode()
    if records.header.model_card:
        files[layout.CARD] = render_card(records).encode()
    digests = {
        path: sha256_bytes(content) if isinstance(content, bytes) else sha256_file(content)
        for path, content in files.items()
    }
    sums = layout.sums_text(digests)
    root = layout.root_text(records.to_bytes(), sums)
    return files | {layout.SUMS: sums, layout.ROOT: root}


def published_already(location: Path, records: Records) -> bool:
    """Whether the same evidence stands there, whole.

    The run is not compared: a later run that made nothing anew has nothing to publish, and the
    card should go on telling of the run that did the work.
    """
    try:
        verify_folder(location)
    except IntegrityError:
        return False
    there = read_records((location / layout.RECORDS).read_bytes())
    return _without_run(there) == _without_run(records)


def read_root_digest(location: Path) -> str:
    """The root digest of a published folder."""
    parsed = layout.read_root((location / layout.ROOT).read_bytes())
    if parsed is None:
        raise IntegrityError(f"{location / layout.ROOT} contradicts itself")
    return parsed[2]


def _without_run(records: Records) -> tuple[dict[str, Any], set[str]]:
    return records.header.model_dump(exclude={"run"}), set(records.artifacts)
