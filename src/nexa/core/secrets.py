"""Secrets: a type that cannot be printed, the places they are read from, and one redactor.

Nexa writes no secret anywhere. What a user keeps in the environment, in the session's memory or
in the Hub's own token file is read, and the source is named; the value never is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from nexa.core import session_socket
from nexa.core.errors import AccessError, StorageError

MASK = "[redacted]"
HUB = "https://huggingface.co"


class Credential(NamedTuple):
    """A well-known form of credential: who issues it, and how it looks."""

    issuer: str
    pattern: str


# The public prefixes of well-known credentials, each with the length its issuer gives it.
# `sk-` keys hold a digit: `sk-learn-is-not-a-key` is none.
CREDENTIALS = (
    Credential("Hugging Face", r"hf_[A-Za-z0-9]{20,}"),
    Credential("Hugging Face organisations", r"api_org_[A-Za-z0-9]{30,}"),
    Credential("OpenAI, Anthropic and others", r"sk-(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,}"),
    Credential("GitHub", r"gh[pousr]_[A-Za-z0-9]{30,}"),
    Credential("GitHub, fine-grained", r"github_pat_[A-Za-z0-9_]{40,}"),
    Credential("GitLab", r"glpat-[A-Za-z0-9_-]{20,}"),
    Credential("Amazon Web Services", r"AKIA[0-9A-Z]{16}"),
    Credential("Google Cloud", r"AIza[A-Za-z0-9_-]{35}"),
    Credential("Tailscale", r"tskey-[a-z]+-[A-Za-z0-9-]{10,}"),
    Credential("Slack", r"xox[abprs]-[A-Za-z0-9-]{10,}"),
    # The key itself too, where its lines stand in the same text.
    Credential(
        "private keys (PEM)",
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:[^-]*-----END (?:[A-Z]+ )*PRIVATE KEY-----)?",
    ),
)
# A key begins a word: `risk-assessment-and-mitigation` holds none.
PATTERNS = re.compile(
    "(?<![A-Za-z0-9])(?:" + "|".join(credential.pattern for credential in CREDENTIALS) + ")"
)
HUB_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SESSION = "the session (nexa login)"
# Where `hub_token` looks, in this order, for people: (source, who puts it there).
TOKEN_SOURCES = (
    ("what was typed in the guided flow and is not kept yet", "`nexa`"),
    ("the environment: " + ", ".join(f"`{name}`" for name in HUB_VARIABLES), "the user"),
    ("the session server's memory, over its socket", "`nexa login`"),
    ("the Hub client's own token file (`HF_TOKEN_PATH`, else `HF_HOME`)", "the Hub's own tool"),
)
# A variable holds a secret if its name ends in one of these words, or in KEY (or KEY_ID) after one
# of those; TOKENIZERS_PARALLELISM and HF_TOKEN_PATH do not.
SECRET_WORDS = ("TOKEN", "PAT", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIALS")
KEY_WORDS = ("API", "AUTH", "ACCESS", "SECRET", "PRIVATE", "SIGNING", "ENCRYPTION")
SECRET_NAME = re.compile(
    rf"(?:^|_)(?:{'|'.join(SECRET_WORDS)}|(?:{'|'.join(KEY_WORDS)})_?KEY(?:_ID)?)$", re.IGNORECASE
)

_held: ContextVar[Secret | None] = ContextVar("nexa_held_token", default=None)


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
    """The Hub token from the first of `TOKEN_SOURCES` that has one; or None.

    The redactor knows it from then on.

    Raises:
        AccessError: the session server is there and does not answer.
        StorageError: the Hub client's token file cannot be read.
    """
    found = (
        _held.get()
        or _from_environment(environment)
        or _from_session(environment)
        or _from_file(environment)
    )
    redact.learn(found)
    return found


@contextlib.contextmanager
def holding(token: Secret | None) -> Iterator[None]:
    """Let `hub_token` find a token that was typed but is kept nowhere yet, for a block."""
    before = _held.set(token)
    try:
        yield
    finally:
        _held.reset(before)


def hub_endpoint(environment: Mapping[str, str] = os.environ) -> str:
    """The Hub's address: HF_ENDPOINT, else the public one; without a slash at the end."""
    return environment.get("HF_ENDPOINT", "").strip().rstrip("/") or HUB


def masked(secret: Secret) -> str:
    """Enough of a token to recognise it by: `hf_ab...wxyz`; of a short one nothing."""
    value = secret.reveal()
    return f"{value[:5]}...{value[-4:]}" if len(value) >= 20 else "..."


def token_from(text: str, source: str) -> Secret:
    """The token that a person typed or piped; blanks and line ends around it are not part of it.

    Raises:
        AccessError: it is empty, or holds what no token holds; says where, never what.
    """
    value = text.strip()
    fix = "nexa login, with a token from your settings page on the Hub"
    if not value:
        raise AccessError("that is no token: it is empty", fix=fix)
    for index, letter in enumerate(value, 1):
        if not "!" <= letter <= "~":
            kind = "a blank" if letter.isspace() else "a character that no token has"
            raise AccessError(
                f"that is no token: {kind} at position {index} of {len(value)}", fix=fix
            )
    secret = Secret(value, source)
    redact.learn(secret)
    return secret


# -- the sources -----------------------------------------------------------------------------


def _from_environment(environment: Mapping[str, str]) -> Secret | None:
    for name in HUB_VARIABLES:
        if value := environment.get(name, "").strip():
            return Secret(value, f"the environment ({name})")
    return None


def _from_session(environment: Mapping[str, str]) -> Secret | None:
    answer = session_socket.ask("GET", "/token", environment=environment)
    value = answer.get("token") if answer else None
    return Secret(value, SESSION) if value else None


def _from_file(environment: Mapping[str, str]) -> Secret | None:
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


# -- child processes -------------------------------------------------------------------------


def child_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a child process: without a variable that holds a credential.

    By name (`SECRET_NAME`) and by what the value looks like. A child that needs the Hub token
    asks the session's socket.
    """
    return {
        name: value
        for name, value in environment.items()
        if not SECRET_NAME.search(name) and not PATTERNS.search(value)
    }


# -- what is shown ---------------------------------------------------------------------------


class Redactor:
    """Takes secrets out of text: those it was told of, and whatever looks like one."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def learn(self, secret: Secret | None) -> None:
        """Redact this value from now on, wherever it appears."""
        if secret is not None and len(value := secret.reveal()) >= 8:
            # Also as it looks inside a JSON string, which is how logs and --json show it, and
            # inside an address, which is how a failed request may show it.
            self._known |= {value, json.dumps(value)[1:-1], quote(value), quote(value, safe="")}

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
