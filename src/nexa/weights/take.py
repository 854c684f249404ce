"""The step: a whole model that was adopted becomes an export, its files as they were found.

Nothing is written anew, so there is nothing to compare with a training. What is checked instead is
that the folder is a model that works: numbers, a vocabulary that fits, answers that end.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from nexa.core.errors import ModelError
from nexa.core.events import emit, progress
from nexa.core.identity import where
from nexa.core.records import AdoptedBody, Artifact, Draft, ExportBody
from nexa.core.store import Store, link_or_copy, require_space
from nexa.lm import folder
from nexa.lm.chat import ChatTemplate
from nexa.lm.load import LoadedModel, load
from nexa.lm.resolve import ModelFiles
from nexa.weights.checks import Check, Parity
from nexa.weights.merge_adapter import parity_files
from nexa.weights.probes import probe_texts
from nexa.weights.tensors import model_weights

# Where transformers notes the folder that a model was loaded from: a path of somebody's machine.
PLACES = {"config.json": "_name_or_path", "tokenizer_config.json": "name_or_path"}


@dataclass(frozen=True)
class TakeSpec:
    """Which model."""

    model: ModelFiles
    scratch: Path | None = where(default=None)
    """Where to make the temporary folder; it goes with the draft."""


def take(
    spec: TakeSpec,
    *,
    checkpoint: Artifact[AdoptedBody],
    export: Artifact[ExportBody] | None = None,
    store: Store,
) -> Draft[ExportBody]:
    """Take the files of a whole model as they are, but for paths of this machine, and check them.

    `export` is the sealed record of a merge of models that the model is, whose parents and recipe
    are then its own.

    Raises:
        ModelError: it is not the model that was adopted, or merged, or cannot be loaded.
        ParityError: a check that failed, by name.
        StorageError: no space.
    """
    if checkpoint.body.found != dict(spec.model.files):
        raise ModelError(
            f"{spec.model.folder} was changed since it was adopted as {checkpoint.label}",
            fix="run the same command again",
        )
    if export is not None and export.body.model_digest != spec.model.digest:
        raise ModelError(f"{spec.model.name} is not {export.label}", found=spec.model.digest[:16])
    scratch = Path(tempfile.mkdtemp(prefix="nexa-take-", dir=spec.scratch))
    try:
        draft = _take(spec.model, checkpoint, export, scratch / "model")
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    weakref.finalize(draft, shutil.rmtree, scratch, ignore_errors=True)
    return draft


def _take(
    model: ModelFiles,
    checkpoint: Artifact[AdoptedBody],
    export: Artifact[ExportBody] | None,
    out: Path,
) -> Draft[ExportBody]:
    _copy(model, out)
    taken = replace(model, folder=out, files=folder.digests(out))
    with progress("looking through the model"):
        loaded = load(taken)
        texts = probe_texts(loaded.tokenizer)
        dtype = _stored_dtype(out)
        checks = tuple(_checks(loaded, texts, checkpoint.body))
    parity = Parity(
        checks,
        {
            "dtype": dtype,
            "rounding": "none: the weights are those that were found",
            "prompts": len(texts),
            "tokens": sum(map(len, texts)),
        },
        refusal=f"{model.name} cannot be published",
        fix="mend its files; for end_of_turn: eos_token_id in generation_config.json",
    )
    parity.require()
    emit("weights.parity", passed=True, checks=len(checks))
    body = ExportBody(
        format="safetensors",
        dtype=dtype,
        base=checkpoint.body.base,
        parents=export.body.parents if export else None,
        recipe=export.body.recipe if export else None,
        model_digest=taken.digest,
        parity=parity.to_json(),
        passed=True,
    )
    return Draft("export", checkpoint.name, body, parity_files(out, parity.to_json()))


def _copy(model: ModelFiles, out: Path) -> None:
    size = sum((model.folder / name).stat().st_size for name in model.files)
    require_space(out.parent, size, "the model")
    for name in model.files:
        target = out / name
        link_or_copy((model.folder / name).resolve(), target)
        if name in PLACES and _names_a_path(target, PLACES[name]):
            config = folder.read_json(target)
            del config[PLACES[name]]
            target.unlink()  # it may be a link to the user's own file
            target.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
            emit("note", text=f"{name} is published without {PLACES[name]}: a path of this machine")


def _names_a_path(config: Path, key: str) -> bool:
    told = folder.read_json(config).get(key)
    return isinstance(told, str) and told.startswith(("/", ".", "~", "\\"))


def _stored_dtype(out: Path) -> str:
    weights = model_weights(out)
    return str(weights.stored(weights.names[0]).dtype).removeprefix("torch.")


def _checks(loaded: LoadedModel, texts: list[list[int]], adopted: AdoptedBody) -> Iterator[Check]:
    """Every check is made, also after one has failed: the list of failures is the diagnosis."""
    weights = model_weights(loaded.files.folder)
    wrong = [name for name in weights.names if not torch.isfinite(weights.stored(name)).all()]
    yield Check("weights_are_numbers", not wrong, wrong[:3] or "all", "all")
    embedding: Any = loaded.model.get_input_embeddings()
    rows = int(embedding.weight.shape[0])
    ids = max(loaded.tokenizer.get_vocab().values()) + 1
    yield Check("vocabulary", ids <= rows, ids, rows)
    same = loaded.files.digest == adopted.base.digest
    yield Check("unlike_base", not same, "equal" if same else "another model", "another model")
    template = ChatTemplate(loaded.tokenizer)
    generation = loaded.model.generation_config
    eos = generation.eos_token_id if generation is not None else None
    stops = eos if isinstance(eos, list) else [eos]
    yield Check("end_of_turn", template.end_of_turn[-1] in stops, stops, adopted.end_of_turn)
    finite = ids <= rows and _finite_logits(loaded, texts)
    yield Check("logits_are_numbers", finite, "all" if finite else "not all", "all")


def _finite_logits(loaded: LoadedModel, texts: list[list[int]]) -> bool:
    padded = pad_sequence([torch.tensor(ids) for ids in texts], batch_first=True)
    with torch.inference_mode():
        logits = loaded.model(padded.to(loaded.model.device), use_cache=False).logits
    return bool(torch.isfinite(logits).all())
