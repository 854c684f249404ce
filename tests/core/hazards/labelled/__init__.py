"""Texts that were labelled before the rules that tell them apart.

Of each set only the half of an even first digit of the text's digest was looked at while the
rules were written; the other half is sealed: it is counted, and no rule follows from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nexa.core.identity import sha256_bytes

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Labelled:
    text: str
    label: Literal["flag", "ok"]
    kind: str
    note: str

    @property
    def half(self) -> str:
        return "sealed" if int(sha256_bytes(self.text.encode())[0], 16) % 2 else "tuning"


@dataclass(frozen=True)
class Counted:
    precision: float
    recall: float


def read(name: str) -> list[Labelled]:
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Labelled(**json.loads(line)) for line in lines]


def count(name: str, half: str, flagged: Callable[[str], bool]) -> Counted:
    rows = [row for row in read(name) if row.half == half]
    found = [flagged(row.text) for row in rows]
    right = sum(hit and row.label == "flag" for hit, row in zip(found, rows, strict=True))
    return Counted(right / sum(found), right / sum(row.label == "flag" for row in rows))
