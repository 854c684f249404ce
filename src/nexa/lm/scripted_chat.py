"""A model that answers from a table or a function: for tests and for trying a pipeline out.

Its answers are nobody's: the name it records says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from nexa.core.errors import ModelError, nearest
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.lm.client import (
    Completion,
    Price,
    Request,
    RequestFailed,
    estimated_input,
    estimated_tokens,
)

PREFIX = "scripted:"
ANYTHING = "*"
FREE = Price(0.0, 0.0, source="scripted: nothing is asked")


class ScriptedChat:
    """Answers by the last message: from a table, whose `*` is for all others, or by a function."""

    concurrency = 8

    def __init__(
        self,
        answers: Mapping[str, str] | Callable[[Request], str],
        *,
        name: str = "scripted",
        price: Price | None = FREE,
    ) -> None:
        self.name, self.price = name, price
        self._answer = answers if callable(answers) else partial(_look_up, answers)
        table = "" if callable(answers) else sha256_bytes(canonical_json(dict(answers)))
        self.identity = {"provider": "scripted", "model": name, "table": table}

    @classmethod
    def read(cls, path: Path, *, price: Price | None = None) -> ScriptedChat:
        """A table from a JSON object of prompts and answers.

        Raises:
            ModelError: there is none.
        """
        try:
            told = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ModelError(
                f"cannot read the scripted answers {path}",
                found=str(error),
                fix='a JSON object: {"prompt": "answer", "*": "answer to all others"}',
            ) from error
        if not isinstance(told, dict) or not all(isinstance(v, str) for v in told.values()):
            raise ModelError(f"{path} is not a JSON object of prompts and answers")
        return cls(told, name=f"{PREFIX}{path.name}", price=price or FREE)

    def count_tokens(self, request: Request) -> int:
        """An estimate, as of an API."""
        return estimated_input(request)

    async def complete(self, request: Request, *, timeout_s: float) -> Completion:
        """The answer that is written down.

        Raises:
            RequestFailed: there is none.
        """
        text = self._answer(request)
        return Completion(
            text=text,
            finish="stop",
            model=self.name,
            input_tokens=self.count_tokens(request),
            output_tokens=estimated_tokens(text),
            latency_s=0.0,
            extra={"tokens": "estimated"},
        )

    async def close(self) -> None:
        """There is nothing to give back."""


def _look_up(table: Mapping[str, str], request: Request) -> str:
    prompt = request.messages[-1]["content"]
    found = table.get(prompt, table.get(ANYTHING))
    if found is None:
        raise RequestFailed(
            "the table of scripted answers has none for a prompt",
            found=f"the nearest is {nearest(prompt, table)!r}",
            temporary=False,
        )
    return found
