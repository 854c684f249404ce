"""A model's safetensors -> a decoder: tensor by tensor, each into its place.

A file is mapped, not read: what is in memory beside the decoder is the tensor under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.lm.decoder.model import EMBEDDING, HEAD, Decoder
from nexa.lm.decoder.shape import shape_of
from nexa.lm.folder import weight_files
from nexa.lm.resolve import ModelFiles

# Frequencies of the rotation, which old files bring: they follow from the config.
DERIVED = "rotary_emb.inv_freq"
TOLD = 5  # names of each kind in an error


def load_decoder(
    files: ModelFiles,
    *,
    dtype: torch.dtype,
    device: torch.device | None = None,
    ranks: Mapping[str, int] | None = None,
) -> Decoder:
    """The decoder of a model, its products in `dtype`, with room for adapters of these ranks.

    Raises:
        UnsupportedDecoder: another architecture; says what.
        ModelError: a broken file, or tensors that are missing, not the model's or of another
            shape: named.
    """
    decoder = Decoder(shape_of(files.config), dtype=dtype, device=device, ranks=ranks)
    fill(decoder, tensors(files), files.name)
    return decoder


def tensors(files: ModelFiles) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a model's files by name, on the CPU, as it was saved.

    Raises:
        ModelError: a file cannot be read.
    """
    for name in weight_files(files.files):
        path = files.folder / name
        try:
            with safe_open(path, framework="pt") as file:
                for tensor in file.keys():  # noqa: SIM118  # it is no dictionary
                    yield tensor, file.get_tensor(tensor)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {path}", found=str(error)) from error


@torch.no_grad()
def fill(decoder: Decoder, named: Iterable[tuple[str, Tensor]], model: str) -> None:
    """Copy every tensor into its place; `model` is its name in errors.

    Raises:
        ModelError: tensors that are missing, not the model's or of another shape; or a head
            beside an embedding that is tied to it, and not equal to it.
    """
    places = dict(decoder.places())
    strange, misshapen = [], []
    seen: set[str] = set()
    head: Tensor | None = None
    for name, tensor in named:
        place = places.get(name)
        if place is None and name == HEAD:
            head = tensor
        elif place is None and not name.endswith(DERIVED):
            strange.append(name)
        elif place is not None:
            seen.add(name)
            if place.shape == tensor.shape:
                place.copy_(tensor)
            else:
                misshapen.append(name)
    _require_whole(model, [name for name in places if name not in seen], strange, misshapen)
    if head is not None and not torch.equal(head.to(decoder.embedding), decoder.embedding):
        raise ModelError(
            f"{model} says its head and embeddings are tied, and brings two that differ",
            found=f"{HEAD}, {EMBEDDING}",
            fix="set tie_word_embeddings: false in its config.json, or save it without the head",
        )


def _require_whole(
    model: str, missing: list[str], strange: list[str], misshapen: list[str]
) -> None:
    """Every tensor of the model must come from the files, and every tensor of the files go in."""
    problems = {"missing": missing, "not the model's": strange, "of another shape": misshapen}
    told = [f"{kind}: {_some(sorted(names))}" for kind, names in problems.items() if names]
    if told:
        raise ModelError(
            f"the weights of {model} do not fit its config.json", found="\n".join(told)
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more
