"""Which of the Hub's refusals pass by waiting, how long to wait, and trying again.

huggingface_hub tries its uploads of bytes again by itself, but not the requests around them: the
question who one is, a repository's listing, a commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from huggingface_hub import errors as hub_errors
from huggingface_hub import get_session

from nexa.core.events import emit

Result = TypeVar("Result")

# huggingface_hub itself would wait for ever on a connection that a network has forgotten. It is
# about silence, not about duration; the Hub takes up to a minute over a large commit.
SILENCE_S = 180.0
# Behind all errors of huggingface_hub's HTTP library, and behind its own for an answered refusal.
TransportError: type[Exception] = hub_errors.HTTPError  # type: ignore[attr-defined]
TOO_MANY = 429
# What huggingface_hub raises from such an error: its upload threads, and its look into the cache.
WRAPPED = (TransportError, RuntimeError, hub_errors.LocalEntryNotFoundError)
PASSING_STATUS = (408, TOO_MANY, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How often something is tried and how long the pauses are; `sleep` is the clock."""

    tries: int = 5
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    """A pause that the Hub asks for is kept up to here; the Hub's longest window is minutes."""
    sleep: Callable[[float], None] = time.sleep
    silence_s: float = SILENCE_S
    """After so long without a byte a connection counts as lost."""

    def call(self, action: Callable[[], Result], doing: str) -> Result:
        """What `action` returns, after as many tries as it takes and are allowed; tells each."""
        for attempt in range(1, self.tries):
            bound_silence(self.silence_s)
            try:
                return action()
            except WRAPPED as error:
                passing = passing_error(error)
                if passing is None:
                    raise
                wait_s = self.wait_s(passing, attempt)
                emit(
                    "note",
                    text=f"{doing}: {reason(passing)}; trying again in {wait_s:.0f} s "
                    f"({attempt} of {self.tries})",
                )
                self.sleep(wait_s)
        return action()

    def wait_s(self, error: Exception, attempt: int) -> float:
        """The pause after the given attempt: what the Hub asks for, or twice the last one."""
        asked = _asked_wait_s(error)
        backoff = self.first_wait_s * 2.0 ** (attempt - 1)
        return min(self.longest_wait_s, backoff if asked is None else max(asked, backoff))


def bound_silence(silence_s: float = SILENCE_S) -> None:
    """Let huggingface_hub's requests give up after so long without a byte."""
    get_session().timeout = silence_s


def passing_error(error: BaseException) -> Exception | None:
    """The error in a chain of causes that may pass by itself: an overload or a lost connection."""
    for link in chain(error):
        if isinstance(link, hub_errors.HfHubHTTPError):
            return link if link.response.status_code in PASSING_STATUS else None
        if isinstance(link, TransportError):
            return link
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from: huggingface_hub's threads wrap what they meet."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def reason(error: BaseException) -> str:
    """A Hub error in one line: its status and the Hub's own words."""
    if isinstance(error, hub_errors.HfHubHTTPError):
        # `whoami` raises a second error without the words from the one that has them.
        said = next(
            filter(None, (getattr(link, "server_message", "") for link in chain(error))), ""
        )
        status = f"status {error.response.status_code}"
        return f"{status}: {said.splitlines()[0]}" if said else status
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _asked_wait_s(error: Exception) -> float | None:
    if not isinstance(error, hub_errors.HfHubHTTPError):
        return None
    asked = error.response.headers.get("Retry-After", "").strip()
    return float(asked) if asked.isdigit() else None
