"""The step: a checkpoint becomes a model folder that plain transformers loads, with its proof."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nexa.core.errors import ModelError
from nexa.core.events import emit, progress
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import AdoptedBody, Artifact, CheckpointBody, Draft, ExportBody
from nexa.core.store import Store, require_space
from nexa.lm import adapters
from nexa.lm.chat import ChatTemplate
from nexa.lm.folder import digests
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import read_tokenizer
from nexa.weights.folder import (
    SHARD_BYTES,
    copy_tokenizer,
    tied_names,
    write_config,
    write_generation_config,
    write_weights,
)
from nexa.weights.merging import MergedWeights, TrainedWeights, Tuned, read_changes
from nexa.weights.parity import prove
from nexa.weights.quantised import trained_base
from nexa.weights.tensors import StoredWeights, model_weights

PARITY = "parity.json"
TEMPLATE = "chat_template.jinja"  # transformers takes it before any other


@dataclass(frozen=True)
class MergeSpec:
    """Which base, and in what type the merged weights are stored."""

    model: ModelFiles
    """The base that the checkpoint was trained from."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """What the float32 result is rounded to, once."""
    shard_bytes: int = SHARD_BYTES
    """The largest weight file; one file up to it."""
    name: str | None = where(default=None)
    """What the export is called; None: as the checkpoint is."""
    scratch: Path | None = where(default=None)
    """Where to make the temporary folder; it goes with the draft."""


def merge_adapter(
    spec: MergeSpec, *, checkpoint: Artifact[CheckpointBody | AdoptedBody], store: Store
) -> Draft[ExportBody]:
    """Merge an adapter into its base in float32 (or take fully trained weights), and prove it.

    The draft's files are a whole model folder (weights, config, generation config that stops at
    the chat template's end of turn, tokenizer) and `parity.json`.

    Raises:
        ModelError: the base is not the one that the checkpoint names.
        ParityError: an adapter tensor that fits nothing, or a check that failed, by name.
        StorageError: no space.
    """
    _require_base(spec.model, checkpoint.body)
    scratch = Path(tempfile.mkdtemp(prefix="nexa-merge-", dir=spec.scratch))
    try:
        draft = _merge(spec, checkpoint, store, scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    weakref.finalize(draft, shutil.rmtree, scratch, ignore_errors=True)
    return draft


def _merge(
    spec: MergeSpec,
    checkpoint: Artifact[CheckpointBody | AdoptedBody],
    store: Store,
    scratch: Path,
) -> Draft[ExportBody]:
    trained = store.checkout(checkpoint, scratch / "checkpoint")
    out = scratch / "model"
    out.mkdir(parents=True)
    size = sum(path.stat().st_size for path in spec.model.folder.glob("*.safetensors"))
    require_space(out, size, "the merged model")
    with progress("merging", 2, "parts") as bar:
        tuned = tuned_weights(spec.model.folder, trained, checkpoint.body)
        write_model(spec, tuned, out)
        bar.advance()
        parity = prove(
            out,
            tuned,
            base_folder=spec.model.folder,
            checkpoint=checkpoint.body,
            adapter=trained if checkpoint.body.method == "lora" else None,
            dtype=spec.dtype,
        )
        bar.advance()
    parity.require()
    emit("weights.parity", passed=True, checks=len(parity.checks))
    files = digests(out)
    body = ExportBody(
        format="safetensors",
        dtype=spec.dtype,
        base=spec.model.ref,
        model_digest=sha256_bytes(canonical_json(files)),
        parity=parity.to_json(),
        passed=parity.passed,
    )
    proved = parity_files(out, parity.to_json())
    return Draft("export", spec.name or checkpoint.name, body, proved, own=out, digests=files)


def tuned_weights(base: Path, trained: Path, checkpoint: CheckpointBody | AdoptedBody) -> Tuned:
    """What the weights of the tuned model are, in float32, read from base and checkpoint."""
    weights, tied = model_weights(base), tied_names(base)
    if checkpoint.method == "full":
        return TrainedWeights(StoredWeights([trained / "model.safetensors"]), weights, tied=tied)
    spec, tensors = adapters.read(trained)
    trained_on = trained_base(base, weights, checkpoint)
    return MergedWeights(trained_on, read_changes(tensors, spec), tied=tied)


def write_model(spec: MergeSpec, tuned: Tuned, out: Path) -> None:
    """Write the whole model folder; nothing in it is taken from the checkpoint but weights."""
    base = spec.model.folder
    write_weights(tuned, out, dtype=spec.dtype, limit_bytes=spec.shard_bytes)
    write_config(spec.model.config, out, dtype=spec.dtype, tie=tuned.tie)
    copy_tokenizer(base, spec.model.files, out)
    template = ChatTemplate(read_tokenizer(out))
    if not template.as_given:
        # Else every server would ask the model in another form than it was trained in.
        (out / TEMPLATE).write_text(template.text, encoding="utf-8")
    write_generation_config(base, out, stop_ids=template.stop_ids)


def parity_files(out: Path, parity: Mapping[str, Any]) -> Mapping[str, bytes | Path]:
    """The files of an export: a model folder's, and parity.json."""
    proof = (json.dumps(parity, indent=2, ensure_ascii=False) + "\n").encode()
    return {PARITY: proof, **{path.name: path for path in sorted(out.iterdir())}}


def _require_base(model: ModelFiles, checkpoint: CheckpointBody | AdoptedBody) -> None:
    if model.digest != checkpoint.base.digest:
        raise ModelError(
            f"the checkpoint was not trained on {model.name}",
            found=f"{model.digest[:16]}, trained on {checkpoint.base.name} "
            f"({checkpoint.base.digest[:16]})",
            fix=f"give the base it names: {checkpoint.base.name}",
        )
