"""Answers that teach nothing, or what nobody wants taught.

On unless told otherwise is only what is wrong in any kind of row: an answer without a word or a
sign, one that is its prompt, one that goes round in a loop, one that a wrong encoding has broken.
Short answers, numbers, code, JSON, tables and other scripts are answers like any other. Limits
for letters and words, refusals, and Gopher's limits for prose are there on request.

Source of the limits for repetition: Rae et al. 2021 (Gopher), arXiv:2112.11446, table A1.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

from nexa.core.config_filters import QualitySection
from nexa.core.overlap import normalise
from nexa.data.filters.base import Verdict
from nexa.data.rows import Row

EMPTY = "empty answer"
ECHO = "the answer is the prompt"
LOOP = "loop"
BROKEN = "broken characters"
REPETITIVE = "repetitive"
FEW_LETTERS = "few letters"
FEW_WORDS = "few words"
MANY_WORDS = "many words"
REFUSAL = "refusal"

# A greeting comes back as a greeting: an echo has as many words at least.
ECHO_WORDS = 3
# A loop goes round so often, over so many words, and is made of so many of them at most.
LOOP_TURNS = 6
LOOP_WORDS = 24
LONGEST_LOOP = 12

SAID = re.compile(r"[^\W_]")
WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
# UTF-8 that was read as Windows-1252 or Latin-1: what begins a sequence, and what goes on with it.
_NEXT = (
    r"[\x80-\xbf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
    + (r"\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]")
)
MOJIBAKE = re.compile(
    rf"\ufffd|[\xc3-\xdf]{_NEXT}|\xc2[\x80-\xbf]|[\xe0-\xef]{_NEXT}{{2}}|\xf0\u0178{_NEXT}{{2}}"
)

# Table A1: share of the characters in repeated lines; in the most frequent 2-, 3- and 4-gram;
# in all n-grams of 5 to 10 words that occur more than once.
GOPHER_LINES = 0.2
GOPHER_TOP = {2: 0.20, 3: 0.18, 4: 0.16}
GOPHER_ALL = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

_MODEL = r"(?:an?\s+|the\s+)?(?:AI|artificial intelligence|(?:large )?language model)\b"
_DO = (
    r"(?:assist|help|fulfil|provide|comply|answer|continue|generate|create|do that|discuss|engage)"
)
REFUSALS = re.compile(
    rf"\bas {_MODEL}|\bals (?:ein(?:e)? )?KI\b|\bals (?:gro(?:ß|ss)es )?sprachmodell\b"
    rf"|\ben tant qu['e ]+(?:IA|modèle de langage)\b|\bcomo (?:un )?modelo de lenguaje\b"
    rf"|^\W*(?:i['\u2019]?m |i am |we are )?(?:very |so )?(?:sorry|afraid)\b[^.\n]{{0,40}}\bi\s?"
    rf"(?:can(?:['\u2019]t|not| not)|won['\u2019]t|am unable|am not able)\b[^.\n]{{0,20}}\b{_DO}"
    rf"|^\W*i (?:apologi[sz]e|regret)\b[^.\n]{{0,40}}\bi\s?"
    rf"(?:can(?:['\u2019]t|not| not)|am unable)\b"
    rf"|^\W*i(?:['\u2019]m| am) (?:unable|not able|not allowed) to {_DO}\b"
    rf"|^\W*i can(?:['\u2019]t|not| not) {_DO}\b[^.\n]{{0,60}}\b(?:request|that|this)\b",
    re.IGNORECASE,
)


def make(options: QualitySection) -> Quality:
    """The filter."""
    return Quality(options)


class Quality:
    """The first thing that is wrong with each row's answer."""

    def __init__(self, options: QualitySection) -> None:
        self._options = options

    def __call__(self, rows: Sequence[Row]) -> list[Verdict | None]:
        """A verdict for each row that is left out."""
        return [next(self._wrong(row), None) for row in rows]

    def _wrong(self, row: Row) -> Iterator[Verdict]:
        asked, answer = self._options, row.content.messages[-1]["content"]
        if _is_empty(answer):
            yield Verdict(EMPTY, f"{len(answer):,} characters, none of them a word or a sign")
        if asked.echo and _is_echo(row):
            yield Verdict(ECHO, "but for case, blanks and punctuation")
        yield from self._broken(answer)
        words = answer.split()
        yield from self._loop(words)
        if asked.gopher:
            yield from _gopher(answer, words)
        yield from self._amounts(answer)
        if asked.refusals and (found := REFUSALS.search(answer)):
            yield Verdict(REFUSAL, f"at character {found.start() + 1}")

    def _broken(self, answer: str) -> Iterator[Verdict]:
        if answer.isascii():
            return
        broken = sum(len(match[0]) for match in MOJIBAKE.finditer(answer))
        share = broken / len(answer)
        if share > self._options.max_broken:
            yield Verdict(BROKEN, f"{share:.0%} of {len(answer):,} characters")

    def _loop(self, words: Sequence[str]) -> Iterator[Verdict]:
        # More different words than a loop and what it leaves could have: the quick way out.
        if len(set(words)) > (1 - self._options.max_loop) * len(words) + LONGEST_LOOP:
            return
        share, length = longest_loop(words)
        if share > self._options.max_loop:
            yield Verdict(LOOP, f"{share:.0%} of {len(words):,} words are {length} over and over")

    def _amounts(self, answer: str) -> Iterator[Verdict]:
        asked = self._options
        if asked.min_letters:
            signs = [character for character in answer if not character.isspace()]
            share = sum(map(str.isalpha, signs)) / max(len(signs), 1)
            if share < asked.min_letters:
                yield Verdict(FEW_LETTERS, f"{share:.0%} of {len(signs):,} characters")
        if asked.min_words or asked.max_words is not None:
            words = len(answer.split())
            if words < asked.min_words:
                yield Verdict(FEW_WORDS, f"{words:,}, at least {asked.min_words:,}")
            if asked.max_words is not None and words > asked.max_words:
                yield Verdict(MANY_WORDS, f"{words:,}, at most {asked.max_words:,}")


def longest_loop(words: Sequence[str]) -> tuple[float, int]:
    """The share of the words that stand in the longest loop, and how many words it goes round.

    A loop is a run of words in which each is the one `n` places before, n from 1 to 12, that
    goes round six times or more. Words without a letter make no loop: zeros in a row are data.
    """
    best = (0, 0)
    if len(words) >= LOOP_WORDS:
        for length in range(1, LONGEST_LOOP + 1):
            for start, end in _runs(words, length):
                said = words[start : start + length]
                turns = (end - start) / length
                if turns >= LOOP_TURNS and end - start > best[0] and _spoken(said):
                    best = (end - start, length)
    return best[0] / max(len(words), 1), best[1]


def _runs(words: Sequence[str], length: int) -> Iterator[tuple[int, int]]:
    """Where each word is the one `length` places before; the first round belongs to the run."""
    start = 0
    for index in range(length, len(words) + 1):
        if index == len(words) or words[index] != words[index - length]:
            if index - start > length:
                yield start, index
            start = index - length + 1


def _spoken(words: Sequence[str]) -> bool:
    """Whether most words are of letters alone, as prose has them; code and tables are not."""
    said = [word.strip(".,;:!?…\"'()") for word in words]
    return sum(WORD.fullmatch(word) is not None for word in said) * 2 > len(said)


def _is_empty(answer: str) -> bool:
    """No letter, digit or sign; of punctuation, one mark or brackets of data are an answer."""
    if SAID.search(answer):
        return False
    signs = [c for c in answer if not c.isspace() and unicodedata.category(c) not in ("Cf", "Cc")]
    if any(unicodedata.category(character)[0] in "LNS" and character != "`" for character in signs):
        return False
    marks = "".join(signs)
    return marks not in ("!", "?", "[]", "{}", "()")


def _is_echo(row: Row) -> bool:
    messages = row.content.messages
    if len(messages) != 2 or messages[0]["role"] != "user":
        return False  # with a system turn the prompt may be a text that needs no change
    said, answer = (message["content"] for message in messages)
    if _beginning(said) != _beginning(answer):
        return False
    said, answer = _plain(said), _plain(answer)
    return said == answer and len(answer.split()) >= ECHO_WORDS


def _beginning(text: str) -> list[str]:
    return text.lstrip()[:100].casefold().split(None, ECHO_WORDS - 1)[: ECHO_WORDS - 1]


def _plain(text: str) -> str:
    return normalise(text).casefold().rstrip(".!?… ")


def _gopher(answer: str, words: Sequence[str]) -> Iterator[Verdict]:
    lines = [line for line in answer.split("\n") if line.strip()]
    repeated = sum(len(line) * (n - 1) for line, n in Counter(lines).items())
    total = sum(map(len, lines))
    if repeated > GOPHER_LINES * total:
        yield Verdict(REPETITIVE, f"{repeated / total:.0%} of the characters in repeated lines")
    letters = sum(map(len, words))
    for n, limit in GOPHER_TOP.items():
        share = _top_share(words, n) / max(letters, 1)
        if share > limit:
            yield Verdict(REPETITIVE, f"{share:.0%} of the characters in one phrase of {n} words")
    for n, limit in GOPHER_ALL.items():
        share = _all_share(words, n) / max(letters, 1)
        if share > limit:
            yield Verdict(REPETITIVE, f"{share:.0%} of the characters in phrases of {n} words")


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _top_share(words: Sequence[str], n: int) -> int:
    """Characters in the n-gram that occurs most often; none if each occurs once."""
    counts = Counter(_grams(words, n))
    return max((sum(map(len, gram)) * c for gram, c in counts.items() if c > 1), default=0)


def _all_share(words: Sequence[str], n: int) -> int:
    """Characters of words inside n-grams that occurred before; each word counts once."""
    seen: set[tuple[str, ...]] = set()
    inside: set[int] = set()
    for start, gram in enumerate(_grams(words, n)):
        if gram in seen:
            inside.update(range(start, start + n))
        seen.add(gram)
    return sum(len(words[index]) for index in inside)
