"""What fine-tuning must not cost: how well a model still predicts general English.

`tasks/general.txt` is prose on unlike subjects (a journey, baking, a council, ice, a letter,
chess, medicine, accounts, a concert), written for this purpose and published nowhere else. A
tuned model that predicts it worse than its base has lost something that no task score shows.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from nexa.core.identity import sha256_bytes
from nexa.lm.local import Opened
from nexa.lm.score import cross_entropy

# Tokens that are scored in one context: the whole text for a vocabulary of usual size.
CONTEXT_TOKENS = 1024


@cache
def general_text() -> bytes:
    """The text, as it is in the package."""
    return files("nexa.eval.tasks").joinpath("general.txt").read_bytes()


def general_text_sha256() -> str:
    """Its digest: numbers on another text are not comparable, and the seal holds this."""
    return sha256_bytes(general_text())


def general_cross_entropy(loaded: Opened) -> float:
    """Mean nats a token on the general text, as plain text without a chat template."""
    ids: list[int] = loaded.tokenizer(general_text().decode("utf-8"), verbose=False)["input_ids"]
    context = min(CONTEXT_TOKENS, loaded.positions or CONTEXT_TOKENS)
    pieces = [ids[start : start + context] for start in range(0, len(ids), context)]
    nats, tokens = cross_entropy(loaded, pieces)
    return nats / tokens
