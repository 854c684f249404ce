"""What lies where in a published folder, and the two files that hold it together.

    config.json model*.safetensors tokenizer...   the merged model, as plain transformers loads it
    *.gguf Modelfile template params              in their place, where GGUF is published
    adapter/         the adapter, as plain PEFT loads it
    README.md        the model card, rendered from nexa/records.jsonl and nothing else
    nexa/            records.jsonl manifest.json scores_*.jsonl answers_*.jsonl prompts.jsonl
                     parity.json parity_<quantisation>.json SHA256SUMS ROOT

With GGUF the merged safetensors, which were evaluated, are not shipped: `not_shipped` names them.
`SHA256SUMS` lists every file but itself and `ROOT` (`sha256sum -c nexa/SHA256SUMS` reads it).
`ROOT` holds the digests of records.jsonl and SHA256SUMS and the digest of both lines, so each of
the three can be told apart when one was changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from nexa.core.identity import sha256_bytes
from nexa.core.records import Artifact
from nexa.lm.folder import is_weight
from nexa.publish.records import Records

CARD = "README.md"
RECORDS = "nexa/records.jsonl"
MANIFEST = "nexa/manifest.json"
SUMS = "nexa/SHA256SUMS"
ROOT = "nexa/ROOT"
PARITY = "parity.json"  # in an export
MODELFILE = "Modelfile"
# Written by the Hub and by its client into every folder they touch.
PASSED_OVER = (".gitattributes", ".cache")

SUMS_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
ROOT_TEXT = re.compile(
    r"nexa-root/1\nrecords ([0-9a-f]{64})\nsums    ([0-9a-f]{64})\nroot    ([0-9a-f]{64})\n"
)
# role, the file in its record, its place in the published folder
EVIDENCE = (
    ("suite", "prompts.jsonl", "nexa/prompts.jsonl"),
    ("base_answers", "answers.jsonl", "nexa/answers_base.jsonl"),
    ("tuned_answers", "answers.jsonl", "nexa/answers_tuned.jsonl"),
    ("base_scores", "scores.jsonl", "nexa/scores_base.jsonl"),
    ("tuned_scores", "scores.jsonl", "nexa/scores_tuned.jsonl"),
    ("export", PARITY, "nexa/parity.json"),
)


def placed_files(records: Records) -> dict[str, tuple[Artifact[Any], str]]:
    """Place in the published folder -> the record and the name of the file that goes there."""
    placed = {place: (records.role(role), file) for role, file, place in EVIDENCE}
    export, checkpoint = records.role("export"), records.role("checkpoint")
    if records.header.merge_adapters:
        left = {PARITY, CARD, *not_shipped(records)}
        placed |= {file: (export, file) for file in export.files if file not in left}
    for gguf in records.ggufs:
        placed |= _gguf_files(gguf, modelfile_place(records, gguf))
    for file in checkpoint.files:
        if PurePosixPath(file).name.startswith("adapter_"):
            placed[f"adapter/{file}"] = (checkpoint, file)
    return placed


def _gguf_files(gguf: Artifact[Any], modelfile: str) -> dict[str, tuple[Artifact[Any], str]]:
    """The weights at the root by their own name, and what goes with them."""
    places = {MODELFILE: modelfile, PARITY: parity_place(gguf)}
    placed = {place: (gguf, file) for file, place in places.items() if file in gguf.files}
    return placed | {file: (gguf, file) for file in gguf.files if file.endswith(".gguf")}


def modelfile_place(records: Records, gguf: Artifact[Any]) -> str:
    """Where a GGUF file's Modelfile lies: it names its file, so each has one of its own."""
    first = gguf.digest == records.ggufs[0].digest
    return MODELFILE if first else f"{MODELFILE}.{gguf.body.dtype}"


def parity_place(gguf: Artifact[Any]) -> str:
    """Where the proof of a GGUF file lies."""
    return f"nexa/parity_{gguf.body.dtype}.json"


def not_shipped(records: Records) -> dict[str, str]:
    """File -> sha256 of the merged weights that the scores are of, where GGUF stands for them."""
    if records.header.format != "gguf":
        return {}
    export = records.role("export")
    return {file: sha for file, sha in sorted(export.files.items()) if is_weight(file)}


def sums_text(digests: Mapping[str, str]) -> bytes:
    """SHA256SUMS, in the form that coreutils' sha256sum reads."""
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests)).encode()


def read_sums(data: bytes) -> dict[str, str] | None:
    """Path -> sha256, or None when this is not the text that `sums_text` writes."""
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        return None
    matches = [SUMS_LINE.fullmatch(line) for line in lines]
    digests = {match[2]: match[1] for match in matches if match}
    return digests if sums_text(digests) == data else None


def root_text(records: bytes, sums: bytes) -> bytes:
    """The ROOT file of these two files."""
    head = f"records {sha256_bytes(records)}\nsums    {sha256_bytes(sums)}\n"
    return f"nexa-root/1\n{head}root    {sha256_bytes(head.encode())}\n".encode()


def read_root(data: bytes) -> tuple[str, str, str] | None:
    """(digest of records.jsonl, digest of SHA256SUMS, root); None when ROOT contradicts itself."""
    match = ROOT_TEXT.fullmatch(data.decode(errors="replace"))
    if match is None:
        return None
    head = f"records {match[1]}\nsums    {match[2]}\n"
    return (match[1], match[2], match[3]) if sha256_bytes(head.encode()) == match[3] else None
