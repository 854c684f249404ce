"""Digests, fingerprints, run ids and names: what makes two things the same.

A digest is the sha256 of bytes. A fingerprint is the digest of a step's whole recipe: its name
and version, its spec, and the digests of its inputs. Contents enter it, places never do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import rfc8785

from nexa.core.errors import NexaError

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,94}[a-z0-9])?")
CHUNK_BYTES = 1 << 20


class Unstable(NexaError, TypeError):
    """A value with no stable form cannot enter a fingerprint."""


def sha256_bytes(data: bytes) -> str:
    """Lower-case hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Lower-case hex sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value (RFC 8785: sorted keys, shortest numbers, UTF-8).

    Raises:
        Unstable: NaN, an infinity, an integer beyond 2**53, half a surrogate pair, no JSON at all.
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise Unstable("a value has no canonical JSON form", found=str(error)) from error


def where(**options: Any) -> Any:
    """A dataclass field that says where or how fast, never what: left out of fingerprints."""
    return dataclasses.field(metadata={"where": True}, **options)


def stable(value: Any, name: str = "spec") -> Any:
    """`value` as plain JSON data, without its `where()` fields.

    Raises:
        Unstable: a set, a path, NaN, a function, an object: named by its place in the spec.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # Half a surrogate pair: how Python reads a file name that is not UTF-8.
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise Unstable(f"{name} is {value!r}: not text that UTF-8 can hold")
        return value
    if isinstance(value, int):
        # RFC 8785 numbers are doubles; a larger integer would lose digits in silence.
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unstable(f"{name} is {value}: not a number that can be fingerprinted")
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = (f for f in dataclasses.fields(value) if not f.metadata.get("where"))
        return {f.name: stable(getattr(value, f.name), f"{name}.{f.name}") for f in kept}
    if isinstance(value, Mapping):
        bad = next((key for key in value if not isinstance(key, str)), None)
        if bad is not None:
            raise Unstable(f"{name} has the key {bad!r}: keys must be text")
        return {key: stable(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [stable(item, f"{name}[{i}]") for i, item in enumerate(value)]
    raise Unstable(f"{name} is a {type(value).__name__}: it has no stable form for a fingerprint")


def fingerprint(step: str, version: int, spec: Any, inputs: Mapping[str, str]) -> str:
    """The digest of a step's recipe: equal recipes make equal artifacts, wherever they run."""
    recipe = {
        "step": step,
        "version": version,
        "spec": stable(spec),
        "inputs": stable(dict(inputs), "inputs"),
    }
    return sha256_bytes(canonical_json(recipe))


def new_run_id(now: datetime, token: bytes) -> str:
    """`YYYY-MM-DD-HHMMSS-xxxx`: sorts by time, is a DNS label, unique in a sweep.

    `token` is at least two random bytes; `now` is in UTC.
    """
    return f"{now:%Y-%m-%d-%H%M%S}-{token[:2].hex()}"


def slug(text: str) -> str:
    """`text` as an artifact name: lower case, letters, digits, dot, dash, underscore."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:96].rstrip("-._")
    return cleaned or "unnamed"
