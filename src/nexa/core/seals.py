"""Which scores may stand side by side: the same ruler, and of local models the same engine.

A seal is the digest of all that made a number: the ruler (task, metrics, parser, how long an answer
may become, that it is the likeliest one) and how this machine answered (engine, dtype, batch,
template). A model of an API has no such second half: what its provider runs is not told. So it
meets every local model under its ruler, while two local models meet under equal seals only.
"""

from __future__ import annotations

from nexa.core.records import ModelRef, ScoresBody

REMOTE = "api:"


def is_remote(model: ModelRef) -> bool:
    """Whether a model answers behind an API, so that nobody here knows how."""
    return model.origin.startswith(REMOTE)


def meet(first: ScoresBody, second: ScoresBody) -> bool:
    """Whether two scores were taken alike, as far as both can be known.

    Not transitive: two local models with unlike seals both meet the same API model, and never each
    other. A board is therefore one local seal, with the API models of its ruler.
    """
    if first.seal == second.seal:
        return True
    same_ruler = first.ruler is not None and first.ruler == second.ruler
    return same_ruler and (is_remote(first.model) or is_remote(second.model))
