"""What a teacher is never shown: a suite's rows, not even thirteen words of one.

Thirteen words that several groups of a suite have in common are nobody's own: the instruction that
every row of a task ends with. Thirteen words that one group has for itself are told to nobody.

Source: Brown et al. 2020, arXiv:2005.14165, appendix C (13-grams as a sign of contamination).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nexa.core.overlap import Example, leaks
from nexa.core.shingles import words
from nexa.feedback.items import Item

GRAM_WORDS = 13
# As the data layer calls it, where rows of a dataset do so.
LEAK = "leaks a held-out row"
Gram = tuple[str, ...]


class Closed:
    """A suite's rows, and whether a text gives one of them away."""

    def __init__(self, suite: Sequence[Item]) -> None:
        self._suite = [Example(item.asked, item.answer) for item in suite]
        owners: dict[Gram, str | None] = {}
        for item in suite:
            for gram in {g for text in (item.asked, item.answer) for g in grams(text)}:
                owner = owners.setdefault(gram, item.group)
                owners[gram] = item.group if owner == item.group else None
        self._own = {gram for gram, owner in owners.items() if owner is not None}

    def given_away(self, rows: Sequence[tuple[str, str]]) -> set[int]:
        """Places of the rows (question, answer) that a suite's row can be read off."""
        examples = [Example(asked, answer) for asked, answer in rows]
        found = {hit.train_index for hit in leaks(examples, self._suite)}
        for at, texts in enumerate(rows):
            if any(gram in self._own for text in texts for gram in grams(text)):
                found.add(at)
        return found


def grams(text: str) -> Iterator[Gram]:
    """Every thirteen words in a row of a text, without case and punctuation."""
    told = words(text)
    for at in range(len(told) - GRAM_WORDS + 1):
        yield tuple(told[at : at + GRAM_WORDS])
