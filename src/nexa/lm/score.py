"""How likely a model finds a text: logits, and cross-entropy in nats.

T tokens   V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as token_losses

from nexa.core.errors import ModelError
from nexa.lm.load import LoadedModel

Ids = Sequence[int]

# Positions whose logits are held in float32 at once: 49,152 entries are 50 MB.
LOSS_POSITIONS = 256


def cross_entropy(loaded: LoadedModel, ids: Ids | Sequence[Ids]) -> tuple[float, int]:
    """Negative log-likelihood of one document or several: (nats in all, tokens predicted).

    A document of n tokens predicts n - 1; the first is only read. Documents do not see each
    other. Nats a token is the first number over the second.

    Raises:
        ModelError: no document has two tokens, or one outgrows the model's positions.
    """
    nats, tokens = 0.0, 0
    for document in _documents(ids):
        if len(document) < 2:
            continue
        targets = torch.tensor(list(document[1:]), device=loaded.model.device)
        for piece_TV, wanted_T in zip(
            _logits(loaded, document[:-1]).split(LOSS_POSITIONS),
            targets.split(LOSS_POSITIONS),
            strict=True,
        ):
            losses_T = token_losses(piece_TV.float(), wanted_T, reduction="none")
            nats += float(losses_T.double().sum())
        tokens += len(document) - 1
    if not tokens:
        raise ModelError("there is no token to predict: every document has fewer than two")
    return nats, tokens


def logits(loaded: LoadedModel, ids: Ids) -> Tensor:
    """The model's logits after each token, `[T, V]` in float32.

    Raises:
        ModelError: no tokens, or more than the model has positions for.
    """
    return _logits(loaded, ids).float()


def _logits(loaded: LoadedModel, ids: Ids) -> Tensor:
    loaded.require_current()
    room = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if not ids or (room is not None and len(ids) > room):
        raise ModelError(
            "a text does not fit into the model",
            found=f"{len(ids)} tokens, {loaded.files.name} has room for 1 to {room}",
        )
    with torch.no_grad():
        made = loaded.model(
            input_ids=torch.tensor([list(ids)], device=loaded.model.device), use_cache=False
        )
    logits_TV: Tensor = made.logits[0]
    return logits_TV


def _documents(ids: Ids | Sequence[Ids]) -> list[list[int]]:
    """One document given as it is, or several, as a list of documents."""
    tokens = [item for item in ids if isinstance(item, int)]
    return [tokens] if tokens else [list(item) for item in ids if not isinstance(item, int)]
