"""Whether a value beside a secret's name can be one: drawn at random, or made up as a password."""

from __future__ import annotations

import math
import re
from collections import Counter

# Bits a character, from which detect-secrets takes a string for a random one: 3 in hexadecimal;
# in base64 it asks for 4.5, which a string of less than 23 different characters cannot reach.
HEX_BITS = 3.0
MOST_OF_POSSIBLE = 0.8  # of the bits that a random string of this length would have
SHORTEST_KEY = 16
SHORTEST_PASSWORD = 6

PLACEHOLDER = re.compile(
    r"your|example|placeholder|changeme|change_me|dummy|redacted|xxxx|\*\*\*|\.\.\.|<.*|.*>"
    r"|[$%]\{?\w.*|\{\{.*|.*\}\}|\[\w+\]|null|none|true|false|undefined|password|passwd|secret|token",
    re.IGNORECASE,
)
CODE = re.compile(r".*\(.*|\w+(?:\.[A-Za-z_]\w*)+[\[(,;]?.*|[A-Za-z_]\w*\[.*|[!=<>].*|--?[a-z].*")
NO_SECRET = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # a UUID
    r"|(?:md5|sha\d+)[-:].*"
    r"|[A-Z]{14}-[A-Z]{10}-[A-Z]|InChI=.*"
    r"|[ACGTUNacgtun]+|[ACDEFGHIKLMNPQRSTVWY]+"  # bases, amino acids
    r"|[0-9.,:/eE+-]+"  # numbers, dates
    r"|(?:https?|file|data):.*|ssh-\w+|ecdsa-.*|AAAA[BCE]3.*|[~./].*",
)
RUNS = "abcdefghijklmnopqrstuvwxyz", "0123456789"


def looks_like_a_key(value: str) -> bool:
    """Whether a string of 16 or more characters was drawn at random: letters with digits among."""
    if len(value) < SHORTEST_KEY or not re.search(r"\d", value) or not re.search("[A-Za-z]", value):
        return False
    if _is_known(value) or _is_readable(value) or _runs(value):
        return False
    return _bits(value) >= min(HEX_BITS, MOST_OF_POSSIBLE * math.log2(len(value)))


def looks_like_a_password(value: str) -> bool:
    """Whether a person or a program made this up to be hard to guess: kinds of characters mixed."""
    if len(value) < SHORTEST_PASSWORD or _is_known(value):
        return False
    kinds = [r"[a-z]", r"[A-Z]", r"\d", r"[^A-Za-z0-9]"]
    mixed = sum(re.search(kind, value) is not None for kind in kinds)
    return mixed >= 2 and re.search(r"\d|[^\w.:-]", value) is not None


def _is_known(value: str) -> bool:
    """Whether it is a placeholder, code, or an identifier of another kind."""
    return (
        PLACEHOLDER.fullmatch(value) is not None
        or re.match(r"(?:your|my|the|example|test|dummy|fake|insert)[_-]", value, re.I) is not None
        or re.search(r"x{4}|X{4}|\*{3}|\.{3}", value) is not None
        or CODE.fullmatch(value) is not None
        or NO_SECRET.fullmatch(value) is not None
    )


def _is_readable(value: str) -> bool:
    """Whether it is words, with numbers between them at most: `user:profile:42:settings`."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", value) if part]
    words = [p for p in parts if re.fullmatch(r"[A-Z]?[a-z]+|[A-Z]+|\d{1,4}", p)]
    return len(parts) > 1 and len(words) == len(parts)


def _runs(value: str) -> bool:
    """Whether the alphabet or the digits stand in it in their order."""
    lower = value.lower()
    return any(run[i : i + 8] in lower for run in RUNS for i in range(len(run) - 7))


def _bits(value: str) -> float:
    """Shannon's entropy, in bits a character."""
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
