"""Text that is no conversation: one turn of the role `text`, which no chat template writes.

Trained, all of it bears loss: the tokenizer's beginning-of-text token where it puts one before
plain text, the text as it stands, then the end-of-text token, each once. Asked (held-out texts
are), its beginning is the prompt and its last words are what is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLE = "text"
WANTED_SHARE = 1 / 3
MOST_WANTED = 300  # characters: a continuation drifts, and the first words say enough


def as_messages(text: str) -> tuple[dict[str, str], ...]:
    """A text in the form in which rows carry conversations."""
    return ({"role": ROLE, "content": text},)


def is_text(messages: Sequence[Mapping[str, str]]) -> bool:
    """Whether these are no conversation but a text."""
    return len(messages) == 1 and messages[0].get("role") == ROLE


def wrapped(text: str, tokenizer: PreTrainedTokenizerBase, *, end: bool = True) -> str:
    """The text between the tokens that begin and end one; what it has of them is not doubled."""
    adds_bos = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    begin = str(tokenizer.bos_token) if adds_bos and tokenizer.bos_token else ""
    close = str(tokenizer.eos_token) if end and tokenizer.eos_token else ""
    head = "" if text.startswith(begin) else begin
    return head + text + ("" if text.rstrip().endswith(close) else close)


def question_of(text: str) -> tuple[str, str]:
    """(the beginning, its continuation): the last third, 300 characters at most, whole words.

    A text of one word has no continuation: ("", text).
    """
    stripped = text.strip()
    wanted = min(round(len(stripped) * WANTED_SHARE), MOST_WANTED)
    blanks = [i for i, c in enumerate(stripped) if c.isspace()]
    if not blanks:
        at = len(stripped) - wanted if len(stripped) > 2 * len("word") else 0
        return stripped[:at], stripped[at:]
    at = min(blanks, key=lambda i: (abs(len(stripped) - wanted - i), i))
    return stripped[:at].rstrip(), stripped[at:].lstrip()
