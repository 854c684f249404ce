"""Rows for tests, made without a file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from nexa.core.identity import sha256_bytes
from nexa.core.records import Draft
from nexa.data.rows import Content, Line, Row

WORDS = [a + b for a in ("ba", "ce", "di", "fo", "gu", "ly") for b in ("ron", "sta", "mel", "kin")]


def pair(seed: int, words: int = 20) -> tuple[str, str]:
    """A question and an answer that no other seed's resemble."""
    draw = random.Random(seed)
    said = [f"{draw.choice(WORDS)}{draw.randrange(1000)}" for _ in range(words)]
    return " ".join(said), f"answer {seed} {draw.randrange(10**6)}"


def record(seed: int, **labels: Any) -> dict[str, Any]:
    """A row in the lab's own shape."""
    asked, said = pair(seed)
    return {"context": asked, "prompt": "Which?", "target_answer": {"n": said}, **labels}


def row(asked: str, said: str, number: int = 1, **labels: Any) -> Row:
    """A row as prepare has it after reading."""
    line = Line("rows.jsonl", number, sha256_bytes(f"{number}".encode()), {})
    messages = ({"role": "user", "content": asked}, {"role": "assistant", "content": said})
    return Row(line, Content(messages=messages, **labels))


def content(draft: Draft[Any], name: str) -> bytes:
    """The bytes of one of a draft's files."""
    found = draft.files[name]
    return found.read_bytes() if isinstance(found, Path) else found


def contents(draft: Draft[Any]) -> dict[str, bytes]:
    """The bytes of all of a draft's files."""
    return {name: content(draft, name) for name in sorted(draft.files)}
