"""What the APIs have in common: whither a key may go, and what a refusal means."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import math
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from nexa.core.errors import AccessError, ModelError, NexaError, UsageError
from nexa.core.secrets import Secret, redact
from nexa.lm.client import RequestFailed, TooLong

# Answers that were not given, and so not billed: it was never said that they would be.
PASSING_STATUS = frozenset({408, 409, 425, 429})
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
TOO_LONG = (
    "context_length_exceeded",
    "context length",
    "context window",
    "prompt is too long",
    "too many tokens",
)
UNSUPPORTED = ("support", "permitted", "unknown", "unrecognized", "unexpected", "invalid schema")
NO_CREDIT = ("insufficient_quota", "billing_error", "credit balance")
SHOWN_CHARS = 300
KEPT_OPEN = 64


@dataclass(frozen=True)
class Place:
    """Where a model is asked, and the variable that its key is read from."""

    base_url: str
    variable: str
    key: Secret | None

    def __post_init__(self) -> None:
        if self.key is not None:
            redact.learn(self.key)  # a server may tell it in an error

    @property
    def bearer(self) -> str:
        """The key as it is sent; the libraries want one where the server wants none."""
        return self.key.reveal() if self.key else "none"

    @property
    def host(self) -> str:
        """As errors name it."""
        return urlsplit(self.base_url).netloc


def checked_url(url: str, *, allow_http: bool) -> str:
    """A base URL that a key may be sent to, without a slash at its end.

    Raises:
        UsageError: no URL, one that holds a user's name, a password or a query, or plain http to
            another machine.
    """
    parts = urlsplit(url.strip())
    plain = f"{parts.scheme}://{parts.hostname}" if parts.hostname else url
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("that is no address of a server", found=redact(url), fix="https://HOST/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "an address holds no credentials and no query",
            found=plain,
            fix="put the key into the environment: OPENAI_API_KEY",
        )
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
        raise UsageError(
            "the key and the rows would go over the network in clear text",
            found=plain,
            fix="take https, or say that plain http is meant",
        )
    return url.strip().rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether this names the machine itself."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def http_client(base_url: str) -> httpx2.AsyncClient:
    """Connections that follow no redirect, so that a key goes to that host alone.

    Proxies of the environment are used, but not to this machine: a key to a server on loopback
    goes in clear text.
    """
    return httpx2.AsyncClient(
        follow_redirects=False,
        trust_env=not is_loopback(urlsplit(base_url).hostname or ""),
        # As many as are asked for: a request that waits for one counts as sent.
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT_OPEN),
    )


@contextlib.asynccontextmanager
async def patience(timeout_s: float) -> AsyncIterator[None]:
    """A request's whole time, however slowly its answer drips in.

    Raises:
        RequestFailed: it is over; the answer may have been worked out and billed.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise RequestFailed(
            "no answer in time",
            found=f"after {timeout_s:g} s",
            fix="allow more time",
            temporary=True,
            billed=True,
        ) from None


def lost(error: BaseException, place: Place) -> RequestFailed:
    """A connection that was not made, or that broke."""
    cause = error.__cause__ or error
    said = redact(str(cause).strip() or type(cause).__name__)
    if isinstance(cause, UNSENT):
        return RequestFailed(f"cannot connect to {place.host}", found=said, temporary=True)
    return RequestFailed(
        f"the connection to {place.host} was lost", found=said, temporary=True, billed=True
    )


def garbled(place: Place, found: str) -> RequestFailed:
    """An answer that cannot be read; it has been worked out, and so perhaps billed."""
    return RequestFailed(
        f"{place.host} sent an answer that cannot be read",
        found=redact(found),
        temporary=True,
        billed=True,
    )


def parsed(content: bytes, place: Place) -> dict[str, Any]:
    """The JSON object in an answer.

    Raises:
        RequestFailed: there is none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise garbled(place, f"{len(content)} bytes, no JSON: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise garbled(place, f"a JSON {type(found).__name__}, no object")
    return found


@dataclass(frozen=True)
class Refusal:
    """A status that is not 200, with what the server says."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, response: httpx2.Response) -> Refusal:
        """Read one; the forms of OpenAI, Anthropic and FastAPI are known."""
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            body = response.text
        told = body.get("error", body.get("detail", body)) if isinstance(body, dict) else body
        if isinstance(told, dict):
            code = str(told.get("code") or told.get("type") or "")
            message = str(told.get("message") or "")
        else:
            code, message = "", str(told)
        return cls(response.status_code, code, message, response.headers)

    def names(self, option: str) -> bool:
        """Whether it is that option of the request which the server does not take."""
        said = self.message.lower()
        return (
            self.status in (400, 422)
            and option in said
            and any(word in said for word in UNSUPPORTED)
        )

    def error(self, place: Place, model: str) -> NexaError:
        """What it means for the row, or for all of them."""
        said = redact(" ".join(self.message.split()))[:SHOWN_CHARS]
        found = f"status {self.status}" + (f": {said}" if said else "")
        lower = f"{self.code} {said}".lower()
        if self.status in (401, 402, 403) or any(word in lower for word in NO_CREDIT):
            return self._access(place, found)
        if self.status < 400:
            return ModelError(
                f"{place.host} sends requests elsewhere, and the key goes nowhere else",
                found=f"status {self.status}",
                fix="name the address that it sends them to as the base URL, if you trust it",
            )
        if self.status == 404:
            return ModelError(f"{place.host} has no model {model!r}", found=found)
        if self.status == 413 or any(word in lower for word in TOO_LONG):
            return TooLong(found)
        temporary = self.status in PASSING_STATUS or self.status >= 500
        named = f" ({self.code})" if self.code else ""
        return RequestFailed(
            f"{place.host} answered with status {self.status}{named}",
            found=said or None,
            temporary=temporary,
            retry_after_s=retry_after_s(self.headers),
        )

    def _access(self, place: Place, found: str) -> AccessError:
        if place.key is None:
            what = f"{place.host} asks for a key, and {place.variable} is not set"
        else:
            what = f"{place.host} refuses the key from {place.key.source}"
        return AccessError(what, found=found, fix=f"export {place.variable}=... with a valid key")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a server asks to wait: `retry-after-ms`, or Retry-After in seconds or as a date.

    A date is read by the server's own clock, where it tells that.

    Source: RFC 9110, section 10.2.3.
    """
    with contextlib.suppress(ValueError):
        return _positive(float(headers.get("retry-after-ms", "")) / 1000)
    told = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        return _positive(float(told))
    until = _moment(told)
    if until is None:
        return None
    now = _moment(headers.get("date", "")) or time.time()
    return _positive(until - now)


def _positive(wait_s: float) -> float | None:
    return max(0.0, wait_s) if math.isfinite(wait_s) else None


def _moment(told: str) -> float | None:
    try:
        found: datetime = parsedate_to_datetime(told)
    except (ValueError, TypeError):
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found.timestamp()
