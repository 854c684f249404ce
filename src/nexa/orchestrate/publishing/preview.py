"""`nexa publish --dry-run`: what would go where, and what stands in its way; nothing is written."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nexa.core.errors import AccessError, GateError, NetworkError
from nexa.core.manifest import RunManifest
from nexa.core.records import Artifact
from nexa.core.scoring import NOT_CHECKED
from nexa.core.tiers import Tiers
from nexa.lm.folder import ADAPTER_FILES, MODEL_PATTERNS
from nexa.orchestrate.hubs import hub_name, hub_of, require_hub
from nexa.orchestrate.publishing.publish import (
    Request,
    evidence,
    publish_spec,
    refuse_misfits,
    run_that_trained,
)
from nexa.orchestrate.publishing.source import Source, detect
from nexa.publish.gate import evidence_problems, require_waivers, verdict_findings
from nexa.publish.publish import publication_records, published_files
from nexa.publish.records import is_adopted
from nexa.publish.scan import refuse_secrets


@dataclass(frozen=True)
class Preview:
    """What a publication would be."""

    kind: str
    """What the model is, in words."""
    repo: str
    hub: str
    location: str
    private: bool
    files: Mapping[str, int]
    """Name -> bytes of what is there by now."""
    findings: tuple[str, ...]
    """What would stop it."""
    notes: tuple[str, ...]
    """What would be said of it all the same."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "would_publish": not self.findings}


def preview(request: Request, tiers: Tiers) -> Preview:
    """Look at everything that `publish` looks at, as far as that is there already.

    Raises:
        UsageError: no such model, or options that do not fit it.
    """
    require_waivers(request.allow)
    source = detect(str(request.model_dir), tiers)
    section = request.section
    found = Preview(
        kind=source.said,
        repo=section.repo,
        hub=hub_name(section.hub),
        location=hub_of(section.hub, tiers).location(section.repo),
        private=section.private,
        files={},
        findings=tuple(_in_the_way(source, request, tiers)),
        notes=(),
    )
    if source.manifest is None:
        return _not_evaluated(found, source, request)
    return _evaluated(found, source.manifest, request, tiers)


def _in_the_way(source: Source, request: Request, tiers: Tiers) -> Iterator[str]:
    """What is wrong before any evidence is looked at."""
    try:
        refuse_misfits(source, request)
    except GateError as error:
        yield _line(error)
    try:
        require_hub(request.section, tiers)
    except (AccessError, NetworkError) as error:
        yield _line(error)


def _evaluated(found: Preview, manifest: RunManifest, request: Request, tiers: Tiers) -> Preview:
    try:
        roles = evidence(manifest, tiers)
    except GateError as error:
        return replace(found, findings=(*found.findings, _line(error)))
    judged = verdict_findings(roles["report"])
    refused = [text for name, text in judged.items() if name not in request.allow]
    notes = [f"{text} (allowed: {n})" for n, text in judged.items() if n in request.allow]
    if is_adopted(roles["checkpoint"]):
        notes.append(NOT_CHECKED)
    shipped = _files(roles, run_that_trained(manifest, tiers), request, tiers)
    secrets = list(_secrets(shipped))
    return replace(
        found,
        files={name: _size(content) for name, content in sorted(shipped.items())},
        findings=(*found.findings, *evidence_problems(roles), *refused, *secrets),
        notes=tuple(notes),
    )


def _not_evaluated(found: Preview, source: Source, request: Request) -> Preview:
    """The model's own files; merged weights and evidence are only made by the evaluation."""
    folder = source.folder
    inside = sorted(folder.iterdir()) if folder is not None else []
    own = ADAPTER_FILES if source.kind == "adapter" else MODEL_PATTERNS
    files = {
        path.name: path.stat().st_size
        for path in inside
        if path.is_file() and any(fnmatch.fnmatchcase(path.name, pattern) for pattern in own)
    }
    others = [path.name for path in inside if path.name not in files]
    notes = [f"left out: {', '.join(others)}"] if others else []
    if request.eval_data is not None:
        merged = "merged and " if source.kind != "full" else ""
        notes.insert(0, f"{merged}evaluated on {request.eval_data} first, against its base")
    if source.checkpoint is None:
        notes.append(NOT_CHECKED)
    secrets = _secrets({name: folder / name for name in files} if folder is not None else {})
    return replace(found, files=files, findings=(*found.findings, *secrets), notes=tuple(notes))


def _files(
    roles: Mapping[str, Artifact[Any]], manifest: RunManifest, request: Request, tiers: Tiers
) -> dict[str, bytes | Path]:
    spec = publish_spec(request.section, tiers, allow=request.allow, licence=request.licence)
    records = publication_records(spec, roles, manifest, tiers.store)
    return published_files(records, manifest, tiers.store)


def _secrets(files: Mapping[str, bytes | Path]) -> Iterator[str]:
    try:
        refuse_secrets(files)
    except GateError as error:
        yield _line(error)


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _line(error: GateError | AccessError | NetworkError) -> str:
    """An error as a finding: what and why."""
    return f"{error.what} ({error.found})" if error.found else error.what
