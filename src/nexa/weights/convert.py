"""The step: a whole model in another form (safetensors in another type, GGUF), with its proof."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from nexa.core.allocator import keep_pages
from nexa.core.errors import ModelError, UsageError, nearest
from nexa.core.events import emit, progress
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import Artifact, Draft, ExportBody
from nexa.core.store import Store, require_space
from nexa.lm.folder import digest, digests
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import read_tokenizer
from nexa.weights.agreement import LIMITS
from nexa.weights.checks import Parity
from nexa.weights.copy_proof import CopiedWeights, prove_copy
from nexa.weights.folder import (
    SHARD_BYTES,
    copy_tokenizer,
    write_config,
    write_generation_config,
    write_weights,
)
from nexa.weights.merge_adapter import parity_files
from nexa.weights.text_checks import template_ends


@dataclass(frozen=True)
class ConvertSpec:
    """Which model, and into what."""

    model: ModelFiles
    format: Literal["safetensors", "gguf"]
    dtype: str
    """Of safetensors: bfloat16, float16, float32. Of GGUF: its quantisation, as `q4_k_m`."""
    shard_bytes: int = SHARD_BYTES
    name: str = where(default="exported")
    scratch: Path | None = where(default=None)


def convert(
    spec: ConvertSpec, *, export: Artifact[ExportBody] | None, store: Store
) -> Draft[ExportBody]:
    """Write the model in another form and prove that it is the same model.

    `export` is the sealed record of `spec.model`, where it has one. The draft's files are a model
    folder, or `NAME-QUANTISATION.gguf` and a `Modelfile`; and `parity.json`.

    Raises:
        UsageError: no such type or quantisation.
        ModelError: a model that the format cannot hold, or one with an adapter beside it.
        WeightsError: weights that are not numbers.
        MissingExtra: a K-quant without the extra `gguf`.
        ParityError: a check that failed, by name.
        StorageError: no space.
    """
    if spec.model.adapter is not None:
        raise ModelError(
            f"{spec.model.name} is an adapter beside its base, not one model",
            fix="merge it first: nexa merge",
        )
    keep_pages()  # one tensor after the other, of the same few sizes
    scratch = Path(tempfile.mkdtemp(prefix="nexa-convert-", dir=spec.scratch))
    try:
        draft = _convert(spec, export, scratch / "model")
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    weakref.finalize(draft, shutil.rmtree, scratch, ignore_errors=True)
    return draft


def _convert(
    spec: ConvertSpec, export: Artifact[ExportBody] | None, out: Path
) -> Draft[ExportBody]:
    out.mkdir()
    parity = _gguf(spec, out) if spec.format == "gguf" else _safetensors(spec, out)
    parity.require()
    emit("weights.parity", passed=True, checks=len(parity.checks))
    files = _files(spec, out)
    body = ExportBody(
        format=spec.format,
        dtype=spec.dtype,
        base=spec.model.ref if export is None else export.body.base,
        model_digest=sha256_bytes(canonical_json(files)),
        parity=parity.to_json(),
        passed=parity.passed,
    )
    proved = parity_files(out, parity.to_json())
    return Draft("export", spec.name, body, proved, own=out, digests=files)


def _safetensors(spec: ConvertSpec, out: Path) -> Parity:
    """A model folder in another type, or in other shards."""
    source, dtype = spec.model.folder, spec.dtype
    if dtype not in LIMITS:
        near = nearest(dtype, LIMITS)
        raise UsageError(
            f"there is no type {dtype!r} for safetensors",
            found="known: " + ", ".join(LIMITS),
            fix=f"--dtype {near}" if near else None,
        )
    weights = CopiedWeights(source)
    item = torch.empty(0, dtype=getattr(torch, dtype)).element_size()
    size = item * sum(torch.Size(weights.shape(name)).numel() for name in weights.names)
    require_space(out, size, "the converted model")
    with progress("converting", 2, "parts") as bar:
        write_weights(weights, out, dtype=dtype, limit_bytes=spec.shard_bytes)
        write_config(spec.model.config, out, dtype=dtype, tie=weights.tie)
        copy_tokenizer(source, spec.model.files, out)
        write_generation_config(source, out, stop_ids=template_ends(read_tokenizer(source)))
        bar.advance()
        parity = prove_copy(out, source, dtype=dtype)
        bar.advance()
    return parity


def _gguf(spec: ConvertSpec, out: Path) -> Parity:
    """One GGUF file and a Modelfile; the file's size is looked after where it is known."""
    # Only here: not everybody who converts needs them.
    from nexa.weights.gguf.modelfile import write_modelfile
    from nexa.weights.gguf.proof import prove_gguf
    from nexa.weights.gguf.runtime import begun
    from nexa.weights.gguf.write import write_gguf

    name = spec.name.removesuffix(f"-{spec.dtype}")
    path = out / f"{name}-{spec.dtype}.gguf"
    with begun() as child:
        written = write_gguf(spec.model.folder, path, quantization=spec.dtype, name=name)
        with progress("reading the file back"), ThreadPoolExecutor(1) as hashing:
            hashing.submit(digest, path)  # for `_files` to find
            parity = prove_gguf(path, spec.model.folder, written, child=child)
    write_modelfile(spec.model.folder, path)
    return parity


def _files(spec: ConvertSpec, out: Path) -> Mapping[str, Any]:
    """The files that make the model, as its digest has them."""
    if spec.format == "safetensors":
        return digests(out)
    return {path.name: digest(path) for path in out.glob("*.gguf")}
