"""Whether a published folder is what was published, from the folder alone, offline.

First the bytes: ROOT, SHA256SUMS, every file. Then the meaning: the records hang together, the
files are those that the records name, scores and report follow again from the shipped rows, the
card follows again from the records, the manifest tells the same numbers. A card that was edited
and hashed anew fails the second half.

It proves integrity, not authorship: whoever can write a whole folder can write a whole other one.
The root digest, had from the publisher by another way (`expect`), closes that gap.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.core.errors import IntegrityError
from nexa.core.identity import canonical_json, sha256_bytes, sha256_file
from nexa.core.manifest import RunManifest
from nexa.core.records import Artifact
from nexa.core.safety import summary_of_tuned
from nexa.lm.folder import MODEL_PATTERNS
from nexa.publish import layout
from nexa.publish.card import render_card
from nexa.publish.gate import evidence_problems
from nexa.publish.hub_folder import folder_files
from nexa.publish.ollama import ollama_files
from nexa.publish.records import MODEL, Records, RunFacts, gguf_roles, read_records
from nexa.publish.rederive import report_problems, scores_problems


@dataclass(frozen=True)
class Check:
    """One question about a folder; `problems` are (file, what is wrong with it)."""

    name: str
    problems: tuple[tuple[str, str], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True)
class Published:
    """A folder under verification."""

    folder: Path
    files: dict[str, Path]

    def read(self, name: str) -> bytes:
        """The bytes of one of its files; none for a file that is not there."""
        path = self.files.get(name)
        return path.read_bytes() if path is not None and path.is_file() else b""


def verify_folder(folder: Path, expect: str | None = None) -> list[Check]:
    """Check a published folder; returns the checks that passed.

    Args:
        folder: the publication, downloaded or in place.
        expect: the root digest (or its beginning, 12 characters or more) that the publisher gave.

    Raises:
        IntegrityError: names every file that is not what it should be, and why.
    """
    checks = list(inspect_folder(folder, expect))
    problems = [problem for check in checks for problem in check.problems]
    if problems:
        told = dict.fromkeys(f"{name}: {what}" for name, what in problems)
        files = sorted({name for name, _ in problems})
        raise IntegrityError(
            f"{folder} is not what was published: {', '.join(files)}",
            found="\n".join(told),
            fix="download it again, or ask the publisher for the root digest",
        )
    return checks


def absent(folder: Path) -> dict[str, str]:
    """Sealed weights that a verified folder tells of and does not hold: file -> sha256.

    With GGUF they are the merged safetensors, which the scores are of.
    """
    return layout.not_shipped(read_records((folder / layout.RECORDS).read_bytes()))


def inspect_folder(folder: Path, expect: str | None = None) -> Iterator[Check]:
    """Every check with its outcome; what hangs on a failed one is not asked any more."""
    if not (folder / layout.ROOT).is_file():
        raise IntegrityError(
            f"{folder} is not a folder that nexa published",
            found=f"it has no {layout.ROOT}",
            fix="nexa publish --repo OWNER/NAME",
        )
    published = Published(folder, _listed_files(folder))
    bytes_whole = True
    for check in _byte_checks(published, expect):
        bytes_whole &= check.passed
        yield check
    if not bytes_whole:
        return
    try:
        records = read_records(published.read(layout.RECORDS))
    except IntegrityError as error:
        yield Check("records", ((layout.RECORDS, error.found or error.what),))
        return
    yield from _meaning_checks(published, records)


# -- bytes ---------------------------------------------------------------------------------------


def _byte_checks(published: Published, expect: str | None) -> Iterator[Check]:
    links = [name for name, path in published.files.items() if not _is_plain(path)]
    yield Check("plain files", tuple((name, "is not a plain file") for name in links))
    root = layout.read_root(published.read(layout.ROOT))
    if root is None:
        yield Check("root", ((layout.ROOT, "contradicts itself"),))
        return
    yield Check("root")
    if expect is not None:
        yield Check("expected root", tuple(_expected(root[2], expect)))
    records, sums = published.files.get(layout.RECORDS), published.files.get(layout.SUMS)
    yield Check("records.jsonl", tuple(_same(layout.RECORDS, records, root[0])))
    whole = tuple(_same(layout.SUMS, sums, root[1]))
    yield Check("SHA256SUMS", whole)
    if not whole:
        digests = layout.read_sums(published.read(layout.SUMS)) or {}
        yield Check("files", tuple(_file_problems(published, digests)))


def _expected(root: str, expect: str) -> Iterator[tuple[str, str]]:
    if len(expect) < 12 or not root.startswith(expect.lower()):
        yield layout.ROOT, f"its root is {root}, expected {expect}"


def _same(name: str, path: Path | None, digest: str) -> Iterator[tuple[str, str]]:
    if path is None or not _is_plain(path):
        yield name, "is missing"
    elif sha256_file(path) != digest:
        yield name, "is not the file that ROOT names"


def _file_problems(published: Published, digests: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, digest in digests.items():
        path = published.files.get(name)
        if path is None:
            yield name, "is missing"
        elif _is_plain(path) and sha256_file(path) != digest:
            yield name, "has other bytes than SHA256SUMS names"
    for name in sorted(set(published.files) - set(digests) - {layout.SUMS, layout.ROOT}):
        yield name, "is not listed in SHA256SUMS"


def _listed_files(folder: Path) -> dict[str, Path]:
    """Every file, but what the Hub and its client leave in a folder."""
    return {
        name: path
        for name, path in folder_files(folder).items()
        if name.split("/")[0] not in layout.PASSED_OVER or path.is_symlink()
    }


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


# -- meaning -------------------------------------------------------------------------------------


def _meaning_checks(published: Published, records: Records) -> Iterator[Check]:
    yield Check("lineage", tuple(_lineage_problems(records)))
    shipped = tuple(_record_file_problems(published, records))
    yield Check("files of the records", shipped)
    if not shipped:
        yield Check("scores", tuple(scores_problems(records, published.read)))
        yield Check("report", tuple(report_problems(records, published.read)))
    yield Check("manifest", tuple(_manifest_problems(published, records)))
    yield Check("model card", tuple(_card_problems(published, records)))


def _lineage_problems(records: Records) -> Iterator[tuple[str, str]]:
    """Every input is a record that is here, or a model that a record names."""
    models = {records.role("export").body.model_digest, records.role("checkpoint").body.base.digest}
    for artifact in records.artifacts.values():
        for role, digest in artifact.inputs.items():
            known = models if role == MODEL else set(records.artifacts)
            if digest not in known:
                yield layout.RECORDS, f"{artifact.label} was made from a {role} that is not here"
    for problem in evidence_problems(records.roles()):
        yield layout.RECORDS, problem
    for artifact in records.artifacts.values():
        if artifact.kind == "export" and not _digest_follows(artifact):
            yield layout.RECORDS, f"the model of {artifact.label} is not that of its files"
    export = records.role("export")
    merge = records.artifacts.get(export.inputs.get("export", ""))
    if _origin(export) != _origin(merge):
        yield layout.RECORDS, f"{export.label} tells of other parents than were merged"


def _origin(export: Artifact[Any] | None) -> tuple[Any, Any]:
    """What an export says that it was merged from, and how."""
    return (export.body.parents, export.body.recipe) if export is not None else (None, None)


def _digest_follows(export: Artifact[Any]) -> bool:
    """Whether an export's digest, which the answers name, is that of the files it lists."""
    files = {name: sha for name, sha in export.files.items() if _makes_model(name)}
    return sha256_bytes(canonical_json(files)) == str(export.body.model_digest)


def _makes_model(name: str) -> bool:
    """Whether a file of an export is part of the model, as `lm.folder.digests` has it."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in (*MODEL_PATTERNS, "*.gguf"))


def _record_file_problems(published: Published, records: Records) -> Iterator[tuple[str, str]]:
    placed = layout.placed_files(records)
    for place, (artifact, file) in placed.items():
        path = published.files.get(place)
        if path is None:
            yield place, f"is missing: it is {file} of {artifact.label}"
        elif file not in artifact.files or sha256_file(path) != artifact.files[file]:
            yield place, f"is not {file} of {artifact.label}"
    derived = ollama_files(published.read(layout.MODELFILE))
    for name, content in derived.items():
        if published.read(name) != content:
            yield name, f"does not follow from {layout.MODELFILE}"
    own = {layout.RECORDS, layout.MANIFEST, layout.SUMS, layout.ROOT, *derived}
    if records.header.model_card:
        own.add(layout.CARD)
    for name in sorted(set(published.files) - set(placed) - own):
        yield name, "belongs to no record"
    proofs = {"nexa/parity.json": records.role("export")}
    proofs |= {layout.parity_place(gguf): gguf for gguf in records.ggufs}
    for place, export in proofs.items():
        if json.loads(published.read(place) or b"{}") != export.body.parity:
            yield place, "tells other numbers than the export's record"


def _manifest_problems(published: Published, records: Records) -> Iterator[tuple[str, str]]:
    """The manifest's facts are those of the header and of the records."""
    try:
        manifest = RunManifest.model_validate_json(published.read(layout.MANIFEST))
    except ValueError:
        yield layout.MANIFEST, "is not a run manifest"
        return
    if RunFacts.of(manifest) != records.header.run:
        yield layout.MANIFEST, "tells of another run than records.jsonl"
    for name, (told, sealed) in _paired_facts(manifest, records).items():
        if told not in (None, sealed):
            yield layout.MANIFEST, f"{name} is {told}, the records say {sealed}"
    # Which GGUF files are published is the publication's choice; a run may have made others.
    chosen = gguf_roles(records.header.roles)
    for role in set(manifest.outputs) & set(records.header.roles) - set(chosen):
        if manifest.outputs[role] != records.header.roles[role]:
            yield layout.MANIFEST, f"its {role} is another record"


def _paired_facts(manifest: RunManifest, records: Records) -> dict[str, tuple[Any, Any]]:
    """Manifest field -> (what it tells, what the record holds)."""
    checkpoint, report = records.role("checkpoint").body, records.role("report").body
    return {
        "student_model": (manifest.student_model, checkpoint.base.name),
        "template_sha256": (manifest.template_sha256, checkpoint.template_sha256),
        "verdict": (manifest.verdict, report.verdict),
        "eval_summary": (manifest.eval_summary or None, summary_of_tuned(report)),
        **_paired_training(manifest, records),
    }


def _paired_training(manifest: RunManifest, records: Records) -> dict[str, tuple[Any, Any]]:
    """The facts of the training: of one that Nexa did not do, a manifest can tell nothing."""
    if records.adopted:
        dataset_id = dataset_hash = seed = mask = None
        trained = labels = 0
    else:
        dataset, body = records.role("dataset"), records.role("checkpoint").body
        dataset_id, dataset_hash = f"{dataset.name}@{dataset.version}", dataset.digest
        seed, mask, trained = body.seed, body.mask_sha256, body.tokens_trained
        labels = body.label_tokens
    return {
        "dataset_id": (manifest.dataset_id, dataset_id),
        "dataset_hash": (manifest.dataset_hash, dataset_hash),
        "tokens_trained": (manifest.tokens_trained, trained),
        "label_tokens": (manifest.label_tokens, labels),
        "seed": (manifest.seed, seed),
        "mask_sha256": (manifest.mask_sha256, mask),
        "cost.tokens": (manifest.cost and manifest.cost.tokens, trained),
    }


def _card_problems(published: Published, records: Records) -> Iterator[tuple[str, str]]:
    if not records.header.model_card:
        return
    try:
        card = render_card(records)
    except (KeyError, TypeError, ValueError) as error:  # the records are a stranger's
        reason = f"{type(error).__name__}: {error}"
        yield layout.CARD, f"cannot be rendered from nexa/records.jsonl: {reason}"
        return
    if published.read(layout.CARD) != card.encode():
        yield layout.CARD, "does not follow from nexa/records.jsonl: it was edited"
