"""How likely a model finds a text: logits, and cross-entropy in nats.

T tokens   V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as token_losses

from nexa.core.errors import ModelError
from nexa.lm.decoder.generation import read
from nexa.lm.documents import Documents
from nexa.lm.fused import AnyModel, FusedModel
from nexa.lm.gguf_run import GgufRun
from nexa.lm.local import Opened

Ids = Sequence[int]

# Positions whose logits are held in float32 at once: 49,152 entries are 50 MB.
LOSS_POSITIONS = 256


def cross_entropy(loaded: Opened, ids: Ids | Sequence[Ids]) -> tuple[float, int]:
    """Negative log-likelihood of one document or several: (nats in all, tokens predicted).

    A document of n tokens predicts n - 1; the first is only read. Documents do not see each
    other. Nats a token is the first number over the second. Whoever answers reads: for a GGUF file
    under llama.cpp these are its own probabilities, not those of the dequantised weights.

    Raises:
        ModelError: no document has two tokens, or one outgrows the model's positions.
    """
    nats, tokens = 0.0, 0
    for document in _documents(ids):
        if len(document) < 2:
            continue
        tokens += len(document) - 1
        if isinstance(loaded, GgufRun):
            nats -= math.fsum(loaded.server(len(document)).token_log_probs(document))
            continue
        targets = torch.tensor(list(document[1:])).split(LOSS_POSITIONS)
        for piece_TV, wanted_T in zip(_pieces(loaded, document[:-1]), targets, strict=True):
            wanted_T = wanted_T.to(piece_TV.device)
            losses_T = token_losses(piece_TV.float(), wanted_T, reduction="none")
            nats += float(losses_T.double().sum())
    if not tokens:
        raise ModelError("there is no token to predict: every document has fewer than two")
    return nats, tokens


def logits(loaded: AnyModel, ids: Ids) -> Tensor:
    """The model's logits after each token, `[T, V]` in float32.

    Raises:
        ModelError: no tokens, or more than the model has positions for.
    """
    return torch.cat([piece_TV.float() for piece_TV in _pieces(loaded, ids)])


def _pieces(loaded: AnyModel, ids: Ids) -> Iterator[Tensor]:
    """Logits of one document, LOSS_POSITIONS at a time, as the model gives them."""
    loaded.require_current()
    room = loaded.positions
    if not ids or (room is not None and len(ids) > room):
        raise ModelError(
            "a text does not fit into the model",
            found=f"{len(ids)} tokens, {loaded.files.name} has room for 1 to {room}",
        )
    if isinstance(loaded, FusedModel):
        with torch.no_grad():
            hidden_TD = read(loaded.model, [ids], Documents((len(ids),)))
        return (loaded.model.logits(piece) for piece in hidden_TD.split(LOSS_POSITIONS))
    with torch.no_grad():
        made = loaded.model(
            input_ids=torch.tensor([list(ids)], device=loaded.model.device), use_cache=False
        )
    logits_TV: Tensor = made.logits[0]
    return iter(logits_TV.split(LOSS_POSITIONS))


def _documents(ids: Ids | Sequence[Ids]) -> list[list[int]]:
    """One document given as it is, or several, as a list of documents."""
    tokens = [item for item in ids if isinstance(item, int)]
    return [tokens] if tokens else [list(item) for item in ids if not isinstance(item, int)]
