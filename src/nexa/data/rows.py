"""A row on its way from a line of a file to a line of a dataset, or to the rejects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nexa.core.identity import sha256_bytes
from nexa.core.overlap import Example, digest, example


@dataclass(frozen=True)
class Line:
    """A row of a source: its data, or why it has none. `origin` is `file:line`.

    `number` is the line at which it begins, in Parquet the row; both count from 1. `element` is
    0, but for the second and later rows that begin on one line of a JSON file.
    """

    file: str
    number: int
    sha256: str
    data: dict[str, Any] | None
    problem: str = ""
    element: int = 0

    @property
    def origin(self) -> str:
        """Where the line stands, as users write it."""
        return f"{self.file}:{self.number}" + (f"[{self.element}]" if self.element else "")

    @staticmethod
    def at(origin: str, sha256: str) -> Line:
        """A line that was read before, by its origin."""
        file, _, place = origin.rpartition(":")
        number, _, element = place.rstrip("]").partition("[")
        return Line(file, int(number), sha256, None, element=int(element or 0))


@dataclass(frozen=True)
class Content:
    """What a shape makes of a line: a conversation that ends with an answer, and its labels."""

    messages: tuple[dict[str, str], ...]
    domain: str | None = None
    source: str | None = None
    quality_score: float | None = None
    group: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Row:
    """A row that can be trained on."""

    line: Line
    content: Content

    @cached_property
    def digest(self) -> str:
        """sha256 of who says what: the row itself, wherever it stands."""
        said = [[m["role"], m["content"]] for m in self.content.messages]
        return sha256_bytes(json.dumps(said, ensure_ascii=False).encode())

    @cached_property
    def duplicate_key(self) -> str:
        """Equal for rows that are the same but for blanks and Unicode composition."""
        return "\n".join(f"{m['role']}:{digest(m['content'])}" for m in self.content.messages)

    @cached_property
    def example(self) -> Example:
        """What it asks and answers, for comparing."""
        return example(self.content.messages)

    @property
    def row_id(self) -> str:
        """The row's own id, or the beginning of its digest."""
        return self.content.id or self.digest[:16]

    @property
    def group(self) -> str:
        """What it belongs to: rows of a group stay in one split."""
        return self.content.group or self.row_id


@dataclass(frozen=True)
class Reject:
    """A row that was left out: the reason it is counted under, and what exactly was wrong."""

    line: Line
    reason: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        """A line of rejects.jsonl."""
        return {
            "file": self.line.file,
            "line": self.line.number,
            **({"element": self.line.element} if self.line.element else {}),
            "reason": self.reason,
            "detail": self.detail,
            "sha256": self.line.sha256,
        }
