"""Write a model folder as one GGUF file, tensor by tensor."""

from __future__ import annotations

import os
import struct
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from gguf import GGUFValueType, GGUFWriter

from nexa.core import events
from nexa.core.errors import ModelError
from nexa.core.store import require_space, storage_error, sync_folder
from nexa.lm import gguf_rope
from nexa.lm.gguf_names import halves_to_pairs, rotated_heads, to_gguf
from nexa.lm.tokenizer import read_tokenizer
from nexa.weights.gguf import blocks, k_quants, mixes, vocabulary
from nexa.weights.gguf.architecture import (
    BIASES,
    NORMS,
    QUANTIZATION_VERSION,
    Architecture,
    Metadata,
    Value,
    describe,
    token_config,
)
from nexa.weights.tensors import StoredWeights, model_weights
from nexa.weights.threads import half_of_the_cores

ALIGNMENT = 32
AHEAD = 8  # pieces that wait to be written: some 2 MB each
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
BUFFERS = (".rotary_emb.inv_freq",)  # older checkpoints keep what is computed from the config
LENGTH = struct.Struct("<Q")
FIRST = ("token_embd.weight", "output_norm.weight", "output.weight", gguf_rope.TENSOR)


@dataclass(frozen=True)
class Written:
    """What was written: the type of each tensor, by GGUF's names, and where it is not the asked."""

    types: Mapping[str, str]
    fallbacks: Mapping[str, str]
    """Tensor -> why it has another type than the mix names."""
    size_bytes: int


@dataclass(frozen=True)
class Planned:
    """A tensor that is to be written: from which of the model's, and as what."""

    name: str
    source: str | None
    """transformers' name; None for what is computed."""
    shape: tuple[int, ...]
    chosen: mixes.Chosen

    @property
    def size_bytes(self) -> int:
        """Its bytes in the file, without padding."""
        return blocks.size_bytes(self.shape, self.chosen.kind)


@dataclass(frozen=True)
class Source:
    """What a file is written from."""

    architecture: Architecture
    weights: StoredWeights
    plan: tuple[Planned, ...]
    metadata: Metadata

    def values(self, planned: Planned) -> npt.NDArray[np.float32]:
        """A tensor in float32, its rows in llama.cpp's order."""
        if planned.source is None:
            return np.asarray(self.architecture.rope_divisors)
        values: npt.NDArray[np.float32] = self.weights.tensor(planned.source).numpy()
        heads = rotated_heads(
            planned.source,
            self.architecture.model_type,
            heads=self.architecture.heads,
            key_heads=self.architecture.key_heads,
        )
        return values if heads is None else halves_to_pairs(values, heads)


def write_gguf(folder: Path, out: Path, *, quantization: str, name: str) -> Written:
    """Write `out` from a model folder (config, safetensors, tokenizer, chat template).

    `quantization` is a name of `mixes.MIXES`: f32, f16, bf16, q8_0, ..., q4_k_m. `name` becomes
    general.name. Equal folders give equal bytes.

    Raises:
        UsageError: no such quantisation.
        ModelError: a family, a tokenizer or a tensor that GGUF cannot hold; named.
        WeightsError: weights that are not numbers.
        MissingExtra: a K-quant without the extra `gguf`.
        StorageError: no space or no permission; what stood at `out` is untouched.
    """
    mix = mixes.mix(quantization)
    architecture = describe(folder, name=name)
    weights = model_weights(folder)
    plan = _plan(weights, architecture, mix)
    if any(planned.chosen.kind in mixes.FALLBACKS for planned in plan):
        k_quants.function()  # told now, not after the first gigabyte
    metadata = architecture.metadata | {
        "general.file_type": int(mix.file_type),
        "general.quantization_version": QUANTIZATION_VERSION,
        **_vocabulary(folder, architecture),
    }
    size = sum(planned.size_bytes + ALIGNMENT for planned in plan)
    require_space(out.parent, size, out.name)
    _write_aside(out, Source(architecture, weights, plan, metadata))
    return Written(
        types={planned.name: planned.chosen.kind.name for planned in plan},
        fallbacks={
            planned.name: planned.chosen.fallback
            for planned in plan
            if planned.chosen.fallback is not None
        },
        size_bytes=out.stat().st_size,
    )


def _vocabulary(folder: Path, architecture: Architecture) -> Metadata:
    try:
        tokenizer = read_tokenizer(folder)
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise ModelError(f"cannot read the tokenizer of {folder}", found=str(error)) from error
    return vocabulary.describe(tokenizer, rows=architecture.rows, config=token_config(folder))


def _plan(
    weights: StoredWeights, architecture: Architecture, mix: mixes.Mix
) -> tuple[Planned, ...]:
    """Every tensor in the file's order: the outer ones, then layer by layer."""
    _require_tied(weights, architecture)
    model = mixes.Model(
        architecture.layers, architecture.heads, architecture.key_heads, architecture.tied
    )
    found: dict[str, Planned] = {}
    unknown: list[str] = []
    for source in weights.names:
        if source.endswith(BUFFERS) or (architecture.tied and source == HEAD):
            continue
        name = to_gguf(source)
        if name is None or not _has_place(name, architecture):
            unknown.append(source)
            continue
        shape = weights.shape(source)
        found[name] = Planned(name, source, shape, mixes.choose(mix, name, shape, model))
    _require_whole(unknown, found, architecture)
    if architecture.rope_divisors is not None:
        kept = mixes.Chosen(mixes.Kind.F32)
        found[gguf_rope.TENSOR] = Planned(
            gguf_rope.TENSOR, None, architecture.rope_divisors.shape, kept
        )
    return tuple(sorted(found.values(), key=_place))


def _place(planned: Planned) -> tuple[int, int, str]:
    if planned.name in FIRST:
        return (0, FIRST.index(planned.name), "")
    return (1, int(planned.name.split(".")[1]), planned.name)


def _has_place(name: str, architecture: Architecture) -> bool:
    """Whether llama.cpp looks for this tensor in this family."""
    parts = name.split(".")
    if parts[0] == "blk" and int(parts[1]) >= architecture.layers:
        return False
    if parts[-1] == "bias":
        return parts[-2] in BIASES[architecture.model_type]
    return parts[-2] not in NORMS or architecture.model_type == "qwen3"


def _require_tied(weights: StoredWeights, architecture: Architecture) -> None:
    """An output matrix where the config wants one, and no other where it is the embedding."""
    stored = HEAD in weights.names
    if not architecture.tied and not stored:
        raise ModelError(
            "the model has no output matrix, and its config does not tie it to the embedding",
            found=f"tie_word_embeddings: false, no {HEAD}",
        )
    if architecture.tied and stored:
        same = np.array_equal(weights.tensor(HEAD).numpy(), weights.tensor(EMBEDDING).numpy())
        if not same:
            raise ModelError(
                "the model has an output matrix of its own, which its config ties to the embedding",
                found=f"tie_word_embeddings: true, and {HEAD} is not {EMBEDDING}",
                fix="set tie_word_embeddings to false in config.json, or remove that tensor",
            )


def _require_whole(
    unknown: list[str], found: Mapping[str, Planned], architecture: Architecture
) -> None:
    family = architecture.family.gguf_architecture
    if unknown:
        raise ModelError(
            f"GGUF's {family} has no place for tensors of this model",
            found=f"{', '.join(unknown[:5])}"
            + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""),
            fix="nexa export --format safetensors",
        )
    rows = found["token_embd.weight"].shape[0] if "token_embd.weight" in found else 0
    if rows != architecture.rows:
        raise ModelError(
            "the embedding is not what config.json says",
            found=f"{rows} rows, vocab_size: {architecture.rows}",
        )
    layers = {name.split(".")[1] for name in found if name.startswith("blk.")}
    if len(layers) != architecture.layers:
        raise ModelError(
            "the model has not all of its layers", found=f"{len(layers)} of {architecture.layers}"
        )
    missing = sorted(architecture.names - found.keys())
    if missing:
        raise ModelError("the model is not whole", found=", ".join(missing[:5]))


def _write_aside(out: Path, source: Source) -> None:
    """The file, under another name until it is whole and on the disk."""
    aside: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
        os.close(handle)
        aside = Path(made)
        _write(aside, source, f"writing {out.name}")
        aside.chmod(0o644)
        aside.replace(out)
        sync_folder(out.parent)
    except OSError as error:
        # Every error of Nexa's own that is an OSError already says what to do.
        raise error if hasattr(error, "exit_code") else storage_error(out, error) from error
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def _write(path: Path, source: Source, task: str) -> None:
    writer = _Writer(path, source.architecture.family.gguf_architecture)
    for key, value in source.metadata.items():
        _add(writer, key, value)
    for planned in source.plan:
        kind = planned.chosen.kind
        # The element type counts only where no block type is given.
        writer.add_tensor_info(
            planned.name, planned.shape, np.dtype(np.float32), planned.size_bytes, raw_dtype=kind
        )
    total = sum(planned.size_bytes for planned in source.plan)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        file = cast("list[BufferedWriter]", writer.fout)[0]
        writer.write_padding(file, file.tell())
        with half_of_the_cores(), events.progress(task, total / 1e6, "MB") as bar:
            for size_bytes in _put(file, _pieces(source)):
                bar.advance(size_bytes / 1e6)
        file.flush()
        os.fsync(file.fileno())
    finally:
        writer.close()


class _Writer(GGUFWriter):
    """gguf's, but for lists: it packs each item by itself, a third of a second a vocabulary."""

    def _pack_val(
        self,
        val: Any,
        vtype: GGUFValueType,
        add_vtype: bool,
        sub_type: GGUFValueType | None = None,
    ) -> bytes:
        packed = LISTS.get(sub_type) if vtype == GGUFValueType.ARRAY and sub_type else None
        if packed is None:
            return bytes(super()._pack_val(val, vtype, add_vtype, sub_type))
        kind = struct.pack("<I", vtype) if add_vtype else b""
        return kind + struct.pack("<IQ", sub_type, len(val)) + packed(val)


def _packed_texts(texts: Sequence[str]) -> bytes:
    encoded = [text.encode("utf-8") for text in texts]
    return b"".join(part for each in encoded for part in (LENGTH.pack(len(each)), each))


def _packed_numbers(layout: str) -> Callable[[Sequence[int | float]], bytes]:
    return lambda numbers: np.array(numbers, layout).tobytes()


# What the lists of a vocabulary are made of.
LISTS: Mapping[GGUFValueType, Callable[[Any], bytes]] = {
    GGUFValueType.STRING: _packed_texts,
    GGUFValueType.INT32: _packed_numbers("<i4"),
    GGUFValueType.FLOAT32: _packed_numbers("<f4"),
}


def _pieces(source: Source) -> Iterator[memoryview]:
    """The bytes of every tensor in the plan's order, each filled up to the alignment."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for planned in source.plan:
            values, kind = source.values(planned), planned.chosen.kind
            for piece in blocks.encode(values, kind, name=planned.name, pool=pool):
                yield piece.reshape(-1).data
            yield memoryview(bytes(-planned.size_bytes % ALIGNMENT))


def _put(file: BufferedWriter, pieces: Iterator[memoryview]) -> Iterator[int]:
    """Write them in order, in a thread while the next ones are made; tells how much was written."""
    under_way: deque[Future[int]] = deque()
    with ThreadPoolExecutor(1) as disk:
        for piece in pieces:
            under_way.append(disk.submit(file.write, piece))
            if len(under_way) > AHEAD:
                yield under_way.popleft().result()
        for writing in under_way:
            yield writing.result()


def _add(writer: GGUFWriter, key: str, value: Value) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            # Told the type of its items, gguf does not look at each of them for it.
            kind = GGUFValueType.get_type(value[0])
            writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=kind)
