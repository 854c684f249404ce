"""Model files -> a model that answers on the fused decoder, or the reason why it cannot.

A process has one such model: loading another lets go of the weights of the one before, so that
base and tuned need the memory of one.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from nexa.core import events
from nexa.core.errors import ModelError
from nexa.lm.decoder.generation_model import GenerationModel
from nexa.lm.decoder.shape import UnsupportedDecoder, shape_of
from nexa.lm.decoder.weights import load_decoder
from nexa.lm.load import DTYPES, LoadedModel, release_models
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer

COMPUTED_DTYPES = ("bfloat16", "float32")

_latest: weakref.ref[GenerationModel] | None = None


@dataclass(frozen=True)
class FusedModel:
    """A model on the fused decoder and the tokenizer it was trained with."""

    model: GenerationModel
    tokenizer: PreTrainedTokenizerBase
    files: ModelFiles
    dtype: str

    @property
    def positions(self) -> int | None:
        """How many tokens a text may have, where the config says so."""
        room = self.files.config.get("max_position_embeddings")
        return None if room is None else int(room)

    def require_current(self) -> None:
        """Refuse to go on with a model whose weights are gone.

        Raises:
            ModelError: `load_fused` has loaded another one since.
        """
        if not self.model.layers:
            raise ModelError(
                f"the weights of {self.files.name} are no longer in memory",
                found="another model was loaded since",
                fix="load the model again before using it",
            )


# What answers and scores: the one or the other.
AnyModel = LoadedModel | FusedModel


def load_fused(files: ModelFiles, *, dtype: str = "bfloat16") -> FusedModel:
    """Load a model for answering; `why_not` says beforehand whether it can be.

    An adapter (`files.adapter`) is not put on.

    Raises:
        UnsupportedDecoder: a model or dtype that the fused decoder does not compute.
        ModelError: broken files, or tensors that do not fit the config: named.
    """
    global _latest
    if reason := why_not(files, dtype):
        raise UnsupportedDecoder(reason, found=files.name)
    before = _latest() if _latest is not None else None
    if before is not None:
        before.release()
    release_models()  # what was loaded for another purpose would stand beside it unused
    model = GenerationModel(load_decoder(files, dtype=DTYPES[dtype]))
    _latest = weakref.ref(model)
    events.emit("model.loaded", name=files.name, digest=files.digest, dtype=dtype, engine="fused")
    return FusedModel(model, load_tokenizer(files), files, dtype)


def why_not(files: ModelFiles, dtype: str) -> str:
    """Why the fused decoder cannot answer for a model in this dtype; empty if it can.

    Told by the config alone, so a base and what was trained from it always get the same.
    """
    if "auto_map" in files.config:
        return "the model brings code of its own, and the fused decoder runs none"
    if dtype not in COMPUTED_DTYPES:
        return f"the fused decoder computes in {' or '.join(COMPUTED_DTYPES)}, not in {dtype}"
    try:
        shape_of(files.config)
    except UnsupportedDecoder as error:
        return f"{error.what}: {error.found}" if error.found else error.what
    return ""
