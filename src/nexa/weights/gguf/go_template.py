"""Chat templates in Go's syntax, as Ollama has them: written from parts, and rendered to be proved.

Only a few words of the language are written, so only those are rendered: a range over messages,
comparisons of the role, the contents, and whether there is a system text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nexa.lm.chat import Messages

WORD = re.compile(r"\{\{ (.*?) \}\}", re.DOTALL)
ROLE = re.compile(r'if eq \.Role "(\w+)"')
RANGE, CONTENT, END, NO_SYSTEM = "range .Messages", ".Content", "end", "if not .System"


@dataclass(frozen=True)
class Parts:
    """What a regular template writes around each role's texts, and before an answer."""

    around: dict[str, tuple[str, str]]
    """Role -> before its text, after it."""
    answer: str
    """What a prompt ends with, for the model to go on from."""
    start: str = ""
    """What begins every conversation."""
    no_system: str = ""
    """What follows it in one without a system text."""

    @property
    def texts(self) -> list[str]:
        """Every piece of fixed text."""
        around = [text for pair in self.around.values() for text in pair]
        return [self.answer, self.start, self.no_system, *around]


def write(parts: Parts) -> str | None:
    """The template; None when a piece of text would be read as part of the language."""
    if any(mark in text for text in parts.texts for mark in ("{{", "}}", '"""')):
        return None
    turns = "".join(
        f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}{{{{ end }}}}'
        for role, (before, after) in parts.around.items()
    )
    begin = f"{{{{ {NO_SYSTEM} }}}}{parts.no_system}{{{{ end }}}}" if parts.no_system else ""
    return f"{parts.start}{begin}{{{{ {RANGE} }}}}{turns}{{{{ end }}}}{parts.answer}"


def render(template: str, messages: Messages) -> str:
    """What Ollama makes of a conversation that waits for an answer."""
    # Text and words take turns, beginning with text.
    text, _ = _block(WORD.split(template), 0, messages, {})
    return text


def _block(
    pieces: Sequence[str], at: int, messages: Messages, message: dict[str, str]
) -> tuple[str, int]:
    """What stands from piece `at` to the end of its block, and the piece after that."""
    made = pieces[at]
    while at + 1 < len(pieces):
        word, at = pieces[at + 1], at + 2
        if word == END:
            return made, at
        if word == CONTENT:
            made += message["content"]
        else:
            inner, at = _under(word, pieces, at, messages, message)
            made += inner
        made += pieces[at]
    return made, at


def _under(
    word: str, pieces: Sequence[str], at: int, messages: Messages, message: dict[str, str]
) -> tuple[str, int]:
    """What a range or a condition makes of the block that begins at piece `at`."""
    if word == RANGE:
        made = [_block(pieces, at, messages, dict(each)) for each in messages]
        return "".join(text for text, _ in made), made[0][1]
    text, after = _block(pieces, at, messages, message)
    if word == NO_SYSTEM:
        holds = not any(each["role"] == "system" for each in messages)
    else:
        role = ROLE.fullmatch(word)
        holds = role is not None and message["role"] == role[1]
    return (text if holds else ""), after
