"""One token, encrypted in memory, until it is cleared or its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from cryptography.fernet import Fernet

Clock = Callable[[], float]


def boot_s() -> float:
    """Seconds that also pass while the machine sleeps, where the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@dataclass
class _Kept:
    """A token under a key of its own; neither is shown when it is printed."""

    fernet: Fernet = field(repr=False)
    sealed: bytes = field(repr=False)
    until_s: float
    about: dict[str, Any]


class Vault:
    """Where the token lies. Fernet's key is made for each token and forgotten with it.

    Both are in the memory of the same process: this keeps the token out of what shows a piece of
    memory by accident, not from a debugger that the same user starts.
    """

    def __init__(self, clock: Clock = boot_s) -> None:
        self._clock = clock
        self._lock = RLock()  # requests come in threads of their own
        self._kept: _Kept | None = None
        self._expired = False
        self._empty_since_s = clock()

    def put(self, token: str, *, ttl_s: float, about: Mapping[str, Any]) -> None:
        """Keep a token for `ttl_s` seconds, in place of any other; `about` may be shown."""
        fernet = Fernet(Fernet.generate_key())
        kept = _Kept(fernet, fernet.encrypt(token.encode()), self._clock() + ttl_s, dict(about))
        with self._lock:
            self._kept, self._expired = kept, False

    def token(self) -> str | None:
        """The token, unless there is none or its time is over."""
        with self._lock:
            self.expire()
            return self._kept.fernet.decrypt(self._kept.sealed).decode() if self._kept else None

    def clear(self) -> bool:
        """Forget token and key; whether there was one."""
        with self._lock:
            had = self._kept is not None
            if had:
                self._kept, self._empty_since_s = None, self._clock()
            return had

    def expire(self) -> None:
        """Forget the token if its time is over."""
        with self._lock:
            if self._kept and self._clock() >= self._kept.until_s:
                self.clear()
                self._expired = True

    def empty_s(self) -> float:
        """For how many seconds there has been no token."""
        with self._lock:
            self.expire()
            return 0.0 if self._kept else self._clock() - self._empty_since_s

    def state(self) -> dict[str, Any]:
        """What may be told."""
        with self._lock:
            self.expire()
            kept = self._kept
            return {
                **(kept.about if kept else {}),
                "has_token": kept is not None,
                "expired": self._expired,
                "expires_in_s": kept.until_s - self._clock() if kept else None,
            }
