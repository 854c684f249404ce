"""Versioned prompts for models: text files of a folder, their digests, and how data goes in.

A template is `NAME-vN.txt` (a system part and a user part with `$placeholders`) and `NAME-vN.json`
(what the answer shall be an instance of). A version that was used is never edited: the next one is
a new file, so a digest in a record always finds its text.

Data goes in as JSON between two fences. JSON has no raw line end, so no text can make a line of
its own; the fence is a digest of what lies inside, so no text can hold it; and what chat formats
take for control (`<|im_start|>`, `[INST]`) is escaped. A row can therefore say "ignore the above"
and remain a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from nexa.core.identity import sha256_bytes

NEWEST = 1  # of every template until one has a second version
FENCE_DIGITS = 12
# The first character of what tokenizers of chat models read as a token of control.
CONTROL = re.compile(
    r"<(?=[|\uff5c]|<?/?SYS>|/?s>|/?(?:start|end)_of_turn>|/?(?:bos|eos|pad|unk|think)>)"
    r"|\[(?=/?INST\])"
)
_PART = re.compile(r"^=== (system|user)\n", re.MULTILINE)


@dataclass(frozen=True)
class PromptTemplate:
    """One version of a prompt. `sha256` is over its text and its schema."""

    name: str
    system: str
    user: str
    schema: Mapping[str, Any]
    sha256: str

    def messages(
        self, data: Mapping[str, Any], plain: Mapping[str, str] | None = None
    ) -> tuple[dict[str, str], ...]:
        """Both turns. `data` (placeholder -> JSON value) is fenced, `plain` is Nexa's own text."""
        texts = {name: inert_json(value) for name, value in data.items()}
        known = {**texts, **(plain or {}), "fence": _fence(self.sha256, texts)}
        return (
            {"role": "system", "content": Template(self.system).substitute(known)},
            {"role": "user", "content": Template(self.user).substitute(known)},
        )


@cache
def read_template(folder: Path, name: str, version: int = NEWEST) -> PromptTemplate:
    """A template out of a package's folder by its name, e.g. `self_instruct`."""
    label = f"{name}-v{version}"
    text = (folder / f"{label}.txt").read_bytes()
    schema = (folder / f"{label}.json").read_bytes()
    _, _, system, _, user = _PART.split(text.decode())
    return PromptTemplate(
        label, system.strip(), user.strip(), json.loads(schema), sha256_bytes(text + b"\0" + schema)
    )


def inert_json(value: Any) -> str:
    """JSON that says the same and holds no token of control."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _fence(salt: str, texts: Mapping[str, str]) -> str:
    """A word that is in none of the texts, the same for the same texts."""
    inside = "\0".join(texts.values())
    word = salt
    while True:
        word = sha256_bytes(f"{word}\0{inside}".encode(errors="surrogatepass"))
        if word[:FENCE_DIGITS] not in inside:
            return f"data-{word[:FENCE_DIGITS]}"
