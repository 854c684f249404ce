"""What filters that look for something in texts share: a fast first look, places, and redaction.

The first look goes over all texts of a batch at once (RE2, through pyarrow) and must let nothing
pass that the close look would find; only texts that it hits are looked at closely.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from nexa.data.filters.base import Verdict
from nexa.data.rows import Content, Row


@dataclass(frozen=True, order=True)
class Find:
    """Something that was found in a text: `text[start:end]` is of a kind."""

    start: int
    end: int
    kind: str


CloseLook = Callable[[str], Sequence[Find]]


@dataclass(frozen=True)
class Search:
    """A filter that redacts what is found, or drops its row.

    `first` is the RE2 pattern of the first look, `close` what is run on the texts that it hits;
    `what` is the word that rows are counted under, `placeholder` what a find becomes.
    """

    first: str
    close: CloseLook
    what: str
    action: Literal["redact", "drop"]
    placeholder: Callable[[str], str]

    def __call__(self, rows: Sequence[Row]) -> list[Verdict | None]:
        """A verdict for each row; what was found is told by kind and place, never itself."""
        found: dict[int, dict[int, Sequence[Find]]] = {}
        places = [(r, m) for r, row in enumerate(rows) for m in range(len(row.content.messages))]
        texts = [rows[r].content.messages[m]["content"] for r, m in places]
        for hit in hits(texts, self.first):
            row, message = places[hit]
            if finds := self.close(texts[hit]):
                found.setdefault(row, {})[message] = finds
        return [
            self._verdict(row.content, found[index]) if index in found else None
            for index, row in enumerate(rows)
        ]

    def _verdict(self, content: Content, found: Mapping[int, Sequence[Find]]) -> Verdict:
        kinds = Counter(find.kind for finds in found.values() for find in finds)
        named = ", ".join(sorted(kinds))
        detail = "; ".join(_told(finds, m, len(content.messages)) for m, finds in found.items())
        if self.action == "drop":
            return Verdict(f"{self.what} ({named})", detail)
        mended = {m: self._redacted(content.messages[m]["content"], found[m]) for m in found}
        return Verdict(f"{self.what} redacted ({named})", detail, with_texts(content, mended))

    def _redacted(self, text: str, finds: Sequence[Find]) -> str:
        """The text with placeholders; where it was JSON, it still is."""
        in_json = text.lstrip()[:1] in ("{", "[") and _is_json(text)
        parts, last = [], 0
        for find in finds:
            mark = self.placeholder(find.kind)
            # A bare number of JSON becomes a string.
            bare = in_json and _is_json(text[find.start : find.end]) and _alone(text, find)
            parts += [text[last : find.start], json.dumps(mark) if bare else mark]
            last = find.end
        return "".join([*parts, text[last:]])


def hits(texts: Sequence[str], pattern: str) -> list[int]:
    """The indices of the texts in which an RE2 pattern matches."""
    mask = pc.match_substring_regex(pa.array(texts, pa.string()), pattern)
    return [int(index) for index in pc.indices_nonzero(mask).to_pylist()]


def apart(finds: Iterable[Find]) -> list[Find]:
    """Finds that do not overlap, in order of their places: of two, the one that came first."""
    kept: list[Find] = []
    for find in finds:
        if all(find.end <= other.start or other.end <= find.start for other in kept):
            kept.append(find)
    return sorted(kept)


def with_texts(content: Content, texts: Mapping[int, str]) -> Content:
    """The same conversation with other texts in some of its messages."""
    messages = tuple(
        {**message, "content": texts[index]} if index in texts else message
        for index, message in enumerate(content.messages)
    )
    return replace(content, messages=messages)


def _told(finds: Sequence[Find], message: int, of: int) -> str:
    kinds = Counter(find.kind for find in finds)
    named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    at = ", ".join(str(find.start + 1) for find in finds[:5])
    more = " and later" if len(finds) > 5 else ""
    return f"{named} in message {message + 1} of {of}, at character {at}{more}"


def _alone(text: str, find: Find) -> bool:
    """Whether it is all that stands between two marks of JSON."""
    before, after = text[: find.start].rstrip()[-1:], text[find.end :].lstrip()[:1]
    return before in (":", ",", "[") and after in (",", "]", "}")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
