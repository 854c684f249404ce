"""What an engine hands back for a prompt, and how far it is with many of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from nexa.core.errors import ModelError
from nexa.core.events import Progress

# Tokens a row between two reports.
REPORT_EVERY_STEPS = 8


@dataclass(frozen=True)
class Generation:
    """One answer: its token ids without the stop token, and whether there was one.

    `latency_s` runs from the start of the row's batch to its last token: what a caller who sends
    the whole batch waits for it, not what the row would take alone.
    """

    ids: list[int]
    stopped: bool
    latency_s: float

    @property
    def new_tokens(self) -> int:
        """Tokens that the model made, the stop token among them."""
        return len(self.ids) + self.stopped


class Pace:
    """How far a generation is: rows that ended, and the part of the others that is there."""

    def __init__(self, bar: Progress, max_new_tokens: int) -> None:
        self.max_new_tokens = max_new_tokens
        self._bar = bar
        self._start = time.perf_counter()
        self._rows = 0
        self._tokens = 0
        self._steps = 0

    def ended(self, answer: Generation) -> None:
        """A row has its answer."""
        self._rows += 1
        self._tokens += answer.new_tokens
        if self._rows == self._bar.total:
            self._tell(self._rows, self._tokens)

    def stepped(self, running: Sequence[Sequence[int]]) -> None:
        """The rows that still run have one token more."""
        self._steps += 1
        if self._steps % REPORT_EVERY_STEPS == 0:
            tokens = sum(len(ids) for ids in running)
            self._tell(self._rows + tokens / self.max_new_tokens, self._tokens + tokens)

    def _tell(self, rows: float, tokens: int) -> None:
        tokens_per_s = tokens / (time.perf_counter() - self._start)
        self._bar.advance(rows - self._bar.done, tokens_per_s=round(tokens_per_s, 1))


def require_room(
    name: str, room: int | None, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> None:
    """Refuse prompts that a model cannot answer; `room` is how many tokens a text may have.

    Raises:
        ModelError: an empty prompt, no token to make, or a prompt that with its answer outgrows
            the room.
    """
    if max_new_tokens < 1:
        raise ModelError("an answer needs room for at least one token", found=str(max_new_tokens))
    if empty := [row for row, prompt in enumerate(prompts) if not prompt]:
        raise ModelError(f"prompt {empty[0]} has no tokens: there is nothing to answer")
    longest = max((len(prompt) for prompt in prompts), default=0)
    if room is not None and longest + max_new_tokens > room:
        raise ModelError(
            "a prompt and its answer do not fit into the model",
            found=f"{longest} + {max_new_tokens} tokens, {name} has room for {room}",
            fix="shorten the prompt, or ask for fewer new tokens",
        )
