"""What a model makes of some short texts: its logits, and how likely it finds them.

T tokens of all texts   N texts   V vocabulary
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nexa.core.errors import ModelError
from nexa.core.events import emit
from nexa.lm.decoder.shape import UnsupportedDecoder, shape_of
from nexa.lm.resolve import ModelFiles
from nexa.weights.logits import Model, fits, logits_of
from nexa.weights.tensors import model_weights
from nexa.weights.threads import threads_kept

_whole = threading.Lock()  # one model at a time that is in memory as a whole


@dataclass(frozen=True)
class Reading:
    """Mean cross-entropy in nats a token, the logits `[N, V]` after each text, and a verdict."""

    nats: float
    last_NV: Tensor
    finite: bool


def read_models(
    asked: Sequence[tuple[ModelFiles, Tensor | None]], texts: Sequence[Sequence[int]]
) -> list[Future[Reading]]:
    """`read_texts` of several models with their rows, side by side; all are done on return.

    Each has its share of the cores, the same for all: models with equal weights give equal logits.
    """
    cores = torch.get_num_threads()
    count = min(cores, len(asked))
    share = max(1, cores // count)
    with (
        threads_kept(),
        ThreadPoolExecutor(count, "readings", torch.set_num_threads, (share,)) as pool,
    ):
        return [
            pool.submit(copy_context().run, partial(read_texts, model, texts, rows=rows))
            for model, rows in asked
        ]


def read_texts(
    files: ModelFiles, texts: Sequence[Sequence[int]], *, rows: Tensor | None = None
) -> Reading:
    """Read each text by itself, in float32 and with a layer in memory at a time.

    `rows` are the model's own numbers of the tokens that the texts and the result go by.

    Raises:
        ModelError: broken files, or tensors that do not fit the config.
    """
    own = [[int(rows[token]) for token in text] for text in texts] if rows is not None else texts
    logits_TV = _logits(files, own)
    if rows is not None:
        logits_TV = logits_TV[:, rows]
    each = logits_TV.split([len(text) for text in texts])
    nats = sum(
        float(cross_entropy(piece[:-1], torch.tensor(text[1:]), reduction="sum"))
        for text, piece in zip(texts, each, strict=True)
    )
    return Reading(
        nats / (len(logits_TV) - len(texts)),
        torch.stack([piece[-1] for piece in each]),
        bool(torch.isfinite(logits_TV).all()),
    )


def _logits(files: ModelFiles, texts: Sequence[Sequence[int]]) -> Tensor:
    """`[T, V]`; by transformers where the model is one that only transformers knows."""
    try:
        shape = shape_of(files.config)
    except UnsupportedDecoder as error:
        emit("note", text=f"{files.name} is read by transformers, as a whole: {error.what}")
        return _by_transformers(files, texts)
    weights = model_weights(files.folder)
    unfit = fits(shape, {name: weights.shape(name) for name in weights.names})
    if unfit:
        raise ModelError(
            f"the weights of {files.name} do not fit its config.json", found=", ".join(unfit[:5])
        )
    [logits_TV] = logits_of([Model(shape, 0)], texts, lambda name: [weights.tensor(name)])
    return logits_TV


def _by_transformers(files: ModelFiles, texts: Sequence[Sequence[int]]) -> Tensor:
    # Only here: it brings the model library.
    from nexa.lm.load import load, release_models

    with _whole:
        loaded = load(files, dtype="float32")
        with torch.inference_mode():
            found = [loaded.model(torch.tensor([list(text)])).logits[0] for text in texts]
        del loaded
        release_models()
    return torch.cat(found)
