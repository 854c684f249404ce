"""Secrets: a type that cannot be printed, the places they are read from, and one redactor.

Nexa writes no secret anywhere. What a user keeps in the environment or in the Hub's own token
file is read, and the source is named; the value never is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nexa.core.errors import StorageError

MASK = "[redacted]"

# The public prefixes of well-known credentials, each with the length its issuer gives it. A key
# begins a word and `sk-` keys hold a digit: `risk-assessment-and-mitigation` is none.
PATTERNS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{20,}"
    r"|sk-(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}"
    r"|github_pat_[A-Za-z0-9_]{40,}"
    r"|AKIA[0-9A-Z]{16}"
    r"|tskey-[a-z]+-[A-Za-z0-9-]{10,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}"
    r")"
)
HUB_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class Secret:
    """A value that prints as nothing. `reveal()` is the one way to it; `source` may be told."""

    # No dataclass: its fields would be open to asdict(), and through it to JSON and logs.
    __slots__ = ("__value", "source")

    def __init__(self, value: str, source: str) -> None:
        self.__value = value
        self.source = source

    def reveal(self) -> str:
        """The value itself, for the call that needs it."""
        return self.__value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK}, source={self.source!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is never pickled")


def hub_token(environment: Mapping[str, str] = os.environ) -> Secret | None:
    """The Hub token: environment first, then the file the Hub's own client keeps; or None."""
    for name in HUB_VARIABLES:
        if value := environment.get(name, "").strip():
            return Secret(value, f"the environment ({name})")
    path = _token_path(environment)
    try:
        value = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"cannot read the Hub client's token file {path}: {type(error).__name__}",
            fix="make it readable, or set HF_TOKEN",
        ) from error
    return Secret(value, f"the Hub client's token file ({path})") if value else None


def _token_path(environment: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps its token: the same variables, in the same order."""
    if path := environment.get("HF_TOKEN_PATH"):
        return Path(path).expanduser()
    caches = Path(environment.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(environment.get("HF_HOME") or caches / "huggingface")
    return home.expanduser() / "token"


class Redactor:
    """Takes secrets out of text: those it was told of, and whatever looks like one."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def learn(self, secret: Secret | None) -> None:
        """Redact this value from now on, wherever it appears."""
        if secret is not None and len(secret.reveal()) >= 8:
            # Also as it looks inside a JSON string, which is how logs and --json show it.
            self._known |= {secret.reveal(), json.dumps(secret.reveal())[1:-1]}

    def __call__(self, text: str) -> str:
        """`text` without secrets."""
        # The longest first: one may hold another.
        for value in sorted(self._known, key=len, reverse=True):
            text = text.replace(value, MASK)
        return PATTERNS.sub(MASK, text)


redact = Redactor()


def find_secrets(text: str) -> list[int]:
    """The 1-based lines of `text` that hold what looks like a credential."""
    return [n for n, line in enumerate(text.splitlines(), 1) if PATTERNS.search(line)]
