"""Rows by the language they are written in.

What is told is the language of what people and models wrote: code, tables, numbers, formulas and
addresses have none, nor has a text that is too short to tell. The classifier is py3langid
(Lui and Baldwin 2012, ACL demos: naive Bayes over byte n-grams), which is small, works offline
and loads no pickles; a row's answer and prompt are told together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from nexa.core.config_filters import LanguageSection
from nexa.core.errors import DataError
from nexa.data.filters.base import Verdict
from nexa.data.rows import Row

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

OTHER = "another language"
UNKNOWN = "unknown language"

MOST_CHARACTERS = 2000  # a language is told from the beginning of a text as well as from all of it
# Letters that a text must have to be told: of an alphabet, or of a script of syllables or words.
FEWEST_LETTERS = 12
FEWEST_SIGNS = 5
FEWEST_WORDS = 3
PROSE_SHARE = 0.5  # of the words of a text; below, it is code, a table, formulas

# Scripts without blanks between words: Chinese, Japanese, Korean, Thai, Lao, Burmese, Khmer.
SIGN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff]"
)
FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
ADDRESS = re.compile(r"\S+(?:://|@)\S+")
# A word of prose: letters, and the marks that scripts add to them, between punctuation at most.
_LETTER = r"(?:[^\W\d_]|[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff])"
WORD = re.compile(rf"[\"'(\[¿¡«„“]*{_LETTER}+(?:['\u2019-]{_LETTER}+)*[\"')\].,;:!?…»”“؟।]*")
CODE = re.compile(
    r"[=;{}<>|\\]|\w\(|\w\.\w+\(|^\s*(?:def|class|import|return|SELECT)\b", re.MULTILINE
)


def make(options: LanguageSection) -> Language:
    """The filter.

    Raises:
        DataError: a code that the classifier does not have.
    """
    known = classifier().labels
    for code in options.keep:
        if code not in known:
            raise DataError(
                f"the filter language knows no language {code!r}",
                found=f"known: {', '.join(sorted(known))}",
            )
    return Language(options)


class Language:
    """A verdict for each row in a language that is not kept."""

    def __init__(self, options: LanguageSection) -> None:
        self._options = options

    def __call__(self, rows: Sequence[Row]) -> list[Verdict | None]:
        """A verdict for each row; None for those that are kept."""
        return [self._verdict(row) for row in rows]

    def _verdict(self, row: Row) -> Verdict | None:
        said = [m["content"] for m in row.content.messages if m["role"] != "system"]
        code, confidence = language_of("\n".join(reversed(said)), self._options.min_confidence)
        if code is None:
            unknown = Verdict(UNKNOWN, "too short, code, or nothing is likely enough")
            return unknown if self._options.unknown == "drop" else None
        if code in self._options.keep:
            return None
        return Verdict(OTHER, f"{code} ({confidence:.2f})")


def language_of(text: str, min_confidence: float = 0.5) -> tuple[str | None, float]:
    """The ISO 639 code of a text's language and how likely it is; None where it cannot be told."""
    prose = _prose(text[:MOST_CHARACTERS])
    if not prose:
        return None, 0.0
    code, confidence = classifier().classify(prose)
    return (code if confidence >= min_confidence else None), confidence


@cache
def classifier() -> LanguageIdentifier:
    """The classifier with its model, read once a process."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _prose(text: str) -> str:
    """The lines of a text that are prose, or nothing if they are too short to tell."""
    lines = [line for line in FENCE.sub(" ", text).split("\n") if _is_prose(line)]
    prose = ADDRESS.sub(" ", " ".join(lines)).strip()
    if len(SIGN.findall(prose)) >= FEWEST_SIGNS:
        return prose
    letters = sum(map(str.isalpha, prose))
    enough = letters >= FEWEST_LETTERS and len(prose.split()) >= FEWEST_WORDS
    return prose if enough else ""


def _is_prose(line: str) -> bool:
    if SIGN.search(line):
        return True
    words = ADDRESS.sub(" ", line).split()
    plain = sum(WORD.fullmatch(word) is not None for word in words)
    marks = len(CODE.findall(line))
    return bool(words) and plain >= PROSE_SHARE * len(words) and marks * 4 <= len(words)
