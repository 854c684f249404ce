"""`nexa publish --dry-run`: what would go where, and what stands in its way; nothing is written."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nexa.core.config_sections import PublishSection
from nexa.core.errors import AccessError, GateError, NetworkError
from nexa.core.manifest import RunManifest
from nexa.core.records import Artifact
from nexa.core.scoring import NOT_CHECKED
from nexa.core.tiers import Tiers
from nexa.lm.folder import ADAPTER_FILES, MODEL_PATTERNS, is_weight
from nexa.orchestrate.export import bits_a_weight
from nexa.orchestrate.hubs import hub_name, hub_of, require_hub
from nexa.orchestrate.publishing.gguf import file_name, made_before, roles_of
from nexa.orchestrate.publishing.publish import (
    Request,
    evidence,
    publish_spec,
    refuse_misfits,
    run_that_trained,
)
from nexa.orchestrate.publishing.source import Source, detect
from nexa.publish import layout
from nexa.publish.gate import evidence_problems, require_waivers, verdict_findings
from nexa.publish.layout import PARITY
from nexa.publish.publish import publication_records, published_files
from nexa.publish.records import gguf_roles, is_adopted
from nexa.publish.scan import refuse_secrets

# What tells of every file, so that its own size is known when all are made.
WITH_EVERY_FILE = (layout.CARD, layout.RECORDS, layout.SUMS)


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
    """Name -> bytes of what is there by now, or will be."""
    estimated: tuple[str, ...]
    """Those of the files that are made when it is published, with about so many bytes."""
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
        estimated=(),
        findings=tuple(_in_the_way(source, request, tiers)),
        notes=(),
    )
    if source.manifest is None:
        return _not_evaluated(found, source, request, tiers)
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
    ggufs = made_before(request.section, roles["export"], tiers)
    unmade = [q for role, q in roles_of(request.section).items() if role not in ggufs]
    if unmade:
        notes.append(f"converted to GGUF first: {', '.join(unmade)}")
    else:
        roles |= ggufs
    shipped = _files(roles, run_that_trained(manifest, tiers), request, tiers)
    secrets = list(_secrets(shipped))
    sizes = {name: _size(content) for name, content in shipped.items()}
    estimates = _estimates(request.section, roles["export"], sizes) if unmade else {}
    kept = {name: size for name, size in sizes.items() if not (unmade and is_weight(name))}
    return replace(
        found,
        files=dict(sorted({**kept, **estimates}.items())),
        estimated=tuple(sorted(estimates)),
        findings=(*found.findings, *evidence_problems(roles), *refused, *secrets),
        notes=tuple(notes),
    )


def _estimates(
    section: PublishSection, export: Artifact[Any], sizes: Mapping[str, int]
) -> dict[str, int]:
    """About how large the GGUF files will be, and what tells of them: name -> bytes.

    By the merged weights' size, and the bits that a number takes there and in the file.
    """
    weights = sum(size for name, size in sizes.items() if is_weight(name))
    numbers = 8 * weights / bits_a_weight(export.body.dtype)
    files = {
        file_name(export, quantization): round(numbers * bits_a_weight(quantization) / 8)
        for quantization in section.quantizations
    }
    return files | {name: sizes[name] for name in WITH_EVERY_FILE if name in sizes}


def _not_evaluated(found: Preview, source: Source, request: Request, tiers: Tiers) -> Preview:
    """The model's own files; merged weights and evidence are only made by the evaluation."""
    inside = _inside(source, tiers)
    own = ADAPTER_FILES if source.kind == "adapter" else MODEL_PATTERNS
    shown = {
        name: path
        for name, path in inside.items()
        if path.is_file() and any(fnmatch.fnmatchcase(name, pattern) for pattern in own)
    }
    others = [name for name in inside if name not in shown]
    notes = [f"left out: {', '.join(others)}"] if others else []
    if request.eval_data is not None:
        merged = "merged and " if source.kind != "full" else ""
        notes.insert(0, f"{merged}evaluated on {request.eval_data} first, against its base")
    if request.section.quantizations:
        names = ", ".join(request.section.quantizations)
        notes.append(f"then converted to GGUF ({names}), which is published without safetensors")
    if source.checkpoint is None:
        notes.append(NOT_CHECKED)
    return replace(
        found,
        files={name: path.stat().st_size for name, path in shown.items()},
        findings=(*found.findings, *_secrets(shown)),
        notes=tuple(notes),
    )


def _inside(source: Source, tiers: Tiers) -> dict[str, Path]:
    """The files of what is to be published: those of a sealed record, or of the folder."""
    if source.export is not None:
        return {
            name: tiers.store.path(source.export, name)
            for name in source.export.files
            if name != PARITY
        }
    inside = sorted(source.folder.iterdir()) if source.folder is not None else []
    return {path.name: path for path in inside}


def _files(
    roles: Mapping[str, Artifact[Any]], manifest: RunManifest, request: Request, tiers: Tiers
) -> dict[str, bytes | Path]:
    """What is published; with no GGUF file made yet, what safetensors would be."""
    form = "gguf" if gguf_roles(roles) else "safetensors"
    section = request.section.model_copy(update={"format": form})
    spec = publish_spec(section, tiers, allow=request.allow, licence=request.licence)
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
