"""Models that answer requests, wherever they run: the protocol, what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nexa.core.errors import NetworkError
from nexa.core.identity import canonical_json, sha256_bytes

# For estimates without the model's own tokenizer: English has about four bytes to a token, code
# and other languages fewer.
TOKEN_BYTES = 3
# Around each message: its role and the marks that a chat template puts there.
MESSAGE_TOKENS = 8


@dataclass(frozen=True)
class Request:
    """One question to a model. Equal requests (but for `id`) to one model have one answer."""

    id: str
    """The caller's own, unique among the requests that are sent together."""
    messages: tuple[Mapping[str, str], ...]
    max_new_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    json_schema: Mapping[str, Any] | None = None
    """What the answer shall be an instance of, for models that can be held to one."""


@dataclass(frozen=True)
class Completion:
    """A model's answer to a request, as it came."""

    text: str
    finish: str
    """stop | length | refused"""
    model: str
    """What the server says that it ran."""
    input_tokens: int
    output_tokens: int
    latency_s: float
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens, and who says so."""

    input_usd: float
    output_usd: float
    source: str

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float:
        """What so many tokens cost."""
        return (input_tokens * self.input_usd + output_tokens * self.output_usd) / 1e6


class RequestFailed(NetworkError):
    """A request without an answer. `retry_after_s` is what the server asked for, if it did.

    `temporary`: the same request may be answered later. `billed`: an answer may have been paid for
    (the connection was lost after the request had gone out).
    """

    def __init__(
        self,
        what: str,
        *,
        found: str | None = None,
        fix: str | None = None,
        temporary: bool,
        retry_after_s: float | None = None,
        billed: bool = False,
    ) -> None:
        super().__init__(what, found=found, fix=fix)
        self.temporary, self.retry_after_s, self.billed = temporary, retry_after_s, billed


class TooLong(RequestFailed):
    """A request that does not fit into the model: a matter of that row alone."""

    def __init__(self, found: str) -> None:
        super().__init__(
            "the request and its answer do not fit into the model", found=found, temporary=False
        )


def request_key(identity: Mapping[str, Any], request: Request) -> str:
    """What an answer is kept under: the digest of the model's identity and of all but the `id`.

    Raises:
        Unstable: text that UTF-8 cannot hold, or a schema that is no JSON.
    """
    asked = {
        "messages": [dict(message) for message in request.messages],
        "max_new_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "json_schema": None if request.json_schema is None else dict(request.json_schema),
    }
    return sha256_bytes(canonical_json({"model": dict(identity), "request": asked}))


def prompt_digest(request: Request) -> str:
    """The digest of the messages alone."""
    return sha256_bytes(canonical_json([dict(message) for message in request.messages]))


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, rounded up: a third of its bytes."""
    return -(-len(text.encode(errors="replace")) // TOKEN_BYTES)


def estimated_input(request: Request) -> int:
    """About how many tokens a request has, rounded up."""
    texts = _texts(request)
    return sum(map(estimated_tokens, texts)) + MESSAGE_TOKENS * (len(request.messages) + 1)


def most_input(request: Request) -> int:
    """What a request has at most: a tokenizer of bytes makes no more tokens than there are bytes.

    Source: byte-level BPE merges bytes and never splits one.
    """
    size = sum(len(text.encode(errors="replace")) for text in _texts(request))
    return size + 2 * MESSAGE_TOKENS * (len(request.messages) + 1)


def _texts(request: Request) -> list[str]:
    texts = [text for message in request.messages for text in message.values()]
    if request.json_schema is not None:
        texts.append(canonical_json(dict(request.json_schema)).decode())
    return texts


class ChatModel(Protocol):
    """A model that can be asked. `identity` is part of the key that answers are cached under."""

    @property
    def name(self) -> str:
        """As the user calls it."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells its answers from another's: provider, endpoint, model id or digest."""

    @property
    def price(self) -> Price | None:
        """None: not known. A local model costs 0, and says so."""

    @property
    def concurrency(self) -> int:
        """Requests that may be under way at once: 1 for a model in this process."""

    def count_tokens(self, request: Request) -> int:
        """Tokens of a request, for estimates: exact of a local model, rounded up of others."""

    async def complete(self, request: Request, *, timeout_s: float) -> Completion:
        """Ask once, without trying again.

        Raises:
            RequestFailed: there is no answer.
        """

    async def close(self) -> None:
        """Give connections and child processes back; it may be asked again, and opens them anew."""
