"""Texts with what a filter is to say of them; each set was written before its filter.

A set is split by the digest of its texts: filters are tuned on one half, and the other, the
sealed half, is only ever counted. Credentials are made up, and stored with a mark inside, so that
no scanner takes them for real ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nexa.core.identity import sha256_bytes

FOLDER = Path(__file__).parent
MARK = "¦"

Half = Literal["tuning", "sealed"]


@dataclass(frozen=True)
class Labelled:
    """A text with its label: `positive` and `negative`, or the code of its language."""

    text: str
    label: str
    kind: str
    prompt: str


@dataclass(frozen=True)
class Counted:
    """How a filter did."""

    found: int
    false: int
    missed: int

    @property
    def precision(self) -> float:
        return self.found / (self.found + self.false)

    @property
    def recall(self) -> float:
        return self.found / (self.found + self.missed)


def read(name: str, half: Half | None = None) -> list[Labelled]:
    """The rows of a set, or of one half of it."""
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines if line]
    return [
        Labelled(
            row["text"].replace(MARK, ""), row["label"], row["kind"], row.get("prompt", "Well?")
        )
        for row in rows
        if half is None or half_of(row["text"]) == half
    ]


def half_of(text: str) -> Half:
    """By the first digit of the digest of a text as it is stored."""
    return "sealed" if int(sha256_bytes(text.encode())[0], 16) % 2 else "tuning"


def count(
    rows: Sequence[Labelled], found: Sequence[bool], wanted: Callable[[Labelled], bool]
) -> Counted:
    """What was found against what was to be found."""
    pairs = [(hit, wanted(row)) for row, hit in zip(rows, found, strict=True)]
    return Counted(
        pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True))
    )
