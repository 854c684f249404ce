"""How alike texts are: exact digests, near-duplicate clusters, and leaks of held-out rows.

Two texts are compared as sets of shingles (three words in a row), each shingle weighing
log2(1 + N / n), where n of the N texts have it. So an instruction or a note style that half the
rows share counts for little, and what a row says of its own counts: records made from one
template are not duplicates, copies are. Candidates come from MinHash (rensa) or from an index of
rare shingles; every one is then measured exactly, so no estimate decides anything.

The data layer deduplicates, splits and decontaminates with this; the evaluation and the training
guard look for leaks with the same `leaks`.

Sources: Broder 1997 (shingles, MinHash); Bayardo et al. 2007 (rare shingles first).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nexa.core.shingles import HASH, Hashes, digest_64, shingle
from nexa.core.sketches import BANDS, ROWS, Sketches, sketch

# Weighted Jaccard from which two rows stay on one side of a split, and one is a leak of the other.
# Measured on 7,473 word problems and 524 structured notes of 94 subjects: different rows reach at
# most 0.54 (two notes on one subject; 0.22 on different ones), a copy with one word or number
# changed has 0.79 or more (5th percentile, notes of 25 words).
NEAR_DUPLICATE = 0.7
# From which a later row adds nothing and is left out, if `copies` finds the rest the same, too: two
# neighbouring words in eighty. Different rows of the same measurement reach 0.54.
SAME_ROW = 0.85
# Of the answers alone, where they are long: one context with two questions is two rows.
SAME_ANSWER = 0.5
# A shorter answer (in words) is a label, a name, a value: the same only if every character is.
SHORT_ANSWER = 14
# Share of a held-out text's weight that lies inside a longer training text: the row is quoted.
# The same edits leave 0.88 of a note (5th percentile); 0.9 asks for a quotation, not a likeness.
CONTAINED = 0.9
# A text of fewer shingles is inside another by chance; it is compared whole.
MIN_CONTAINED_SHINGLES = 12

ROUNDING = 1e-9  # sums of some hundred weights in another order differ by less

_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
# Numbers, and the signs that make another formula of the same words; a minus before a digit.
_FIGURE = re.compile(
    r"[0-9]+(?:[.,][0-9]+)*|[+*/^%=<>|~\u00ac\u00b1\u00d7\u00f7\u2200-\u22ff]|-(?=[0-9])"
)
_NO_FIGURE = bytes(set(range(128)) - set(b"0123456789+*/^%=<>|~"))

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """What a row asks and what it answers, as plain text."""

    prompt: str
    answer: str

    @property
    def text(self) -> str:
        """Both, as they are compared."""
        return f"{self.prompt}\n{self.answer}"


@dataclass(frozen=True)
class Hit:
    """A training row that gives a held-out row away."""

    train_index: int
    eval_index: int
    score: float
    reason: Literal["same prompt", "near-duplicate", "contained"]


def normalise(text: str) -> str:
    """The text whose equality is exact duplication: composed Unicode, single blanks, no ends."""
    composed = text if text.isascii() else unicodedata.normalize("NFC", text)
    return " ".join(composed.split())


def digest(text: str) -> str:
    """sha256 of the normalised text."""
    return hashlib.sha256(normalise(text).encode("utf-8", "surrogatepass")).hexdigest()


def numbers(text: str) -> tuple[str, ...]:
    """The numbers of a text, sorted: rows that differ in one are different records."""
    return tuple(sorted(_NUMBER.findall(text)))


def example(messages: Sequence[Mapping[str, str]]) -> Example:
    """A conversation as prompt and answer: the last turn answers all others.

    System turns are left out: they say how to answer, and every row has the same.
    """
    said = [message["content"] for message in messages[:-1] if message["role"] != "system"]
    return Example("\n".join(said), messages[-1]["content"])


def clusters(texts: Sequence[str], threshold: float = NEAR_DUPLICATE) -> list[int]:
    """For each text the index of the first text of its near-duplicate cluster.

    A cluster is what pairs of weighted Jaccard >= `threshold` join, directly or in a chain.
    """
    first = list(range(len(texts)))
    for row, heads in enumerate(memberships(texts, threshold)):
        for head in heads:
            _join(first, head, row)
    return [_root(first, row) for row in range(len(texts))]


def memberships(texts: Sequence[str], threshold: float = NEAR_DUPLICATE) -> list[tuple[int, ...]]:
    """For each text the clusters it is alike to, each by the index of its first text.

    Texts join in their order: one that is like no earlier text begins a cluster of its own, one
    that is like members of several belongs to the first and names the others. So a later text
    never changes what an earlier one belongs to, which `clusters`, joining all, cannot promise.
    """
    corpus = _Corpus(("", text) for text in texts)
    buckets: list[dict[int, dict[int, list[int]]]] = [{} for _ in range(BANDS)]
    found: list[tuple[int, ...]] = []
    for row, keys in enumerate(_bands(corpus)):
        shared = [(bucket, key) for bucket, key in zip(buckets, keys, strict=True) if key >= 0]
        heads: set[int] = set()
        measured: set[int] = set()
        for bucket, key in shared:
            for head, members in bucket.get(key, {}).items():
                if head not in heads and _any_alike(corpus, row, members, measured, threshold):
                    heads.add(head)
        found.append(tuple(sorted(heads)) or (row,))
        for bucket, key in shared:
            bucket.setdefault(key, {}).setdefault(found[row][0], []).append(row)
    return found


def copies(rows: Sequence[Example], *, settled: int = 0) -> list[int]:
    """For each row the first row before it that it is a copy of; itself if it is none and stays.

    A copy has a weighted Jaccard >= SAME_ROW with a row that stays, the same `row_key` (numbers,
    signs, and the answer if that is short), and an answer that is like the other's: a weighted
    Jaccard >= SAME_ANSWER. The first `settled` rows stay. A text without a word has no copies.
    """
    corpus = _Corpus((row.prompt, row.answer) for row in rows)
    keys = [row_key(row, said) for row, said in zip(rows, corpus.answer_words, strict=True)]
    buckets: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    found: list[int] = []
    for i, bands in enumerate(_bands(corpus)):
        places = [(band, key, keys[i]) for band, key in enumerate(bands) if key >= 0]
        earlier = sorted({j for place in places for j in buckets[place]} if i >= settled else ())
        found.append(next((j for j in earlier if _is_copy(corpus, j, i)), i))
        if found[i] == i and len(corpus.shingles(i)):
            for place in places:
                buckets[place].append(i)
    return found


def row_key(row: Example, answer_words: int) -> int:
    """What two copies must have in common to the letter, as a number of 64 bits."""
    kept = sorted(_figures(row.text))
    if answer_words < SHORT_ANSWER:
        kept.append(f"answer {normalise(row.answer)}")
    return digest_64("\n".join(kept))


def _figures(text: str) -> list[str]:
    if text.isascii() and not text.encode().translate(None, _NO_FIGURE):
        return []
    return _FIGURE.findall(text)


def _is_copy(corpus: _Corpus, a: int, b: int) -> bool:
    return reaches(corpus.jaccard(a, b), SAME_ROW) and reaches(
        corpus.answer_jaccard(a, b), SAME_ANSWER
    )


def reaches(score: float, threshold: float) -> bool:
    """Whether a score is the threshold or more; equal sums of other order count as equal."""
    return score >= threshold - ROUNDING


def _any_alike(
    corpus: _Corpus, row: int, members: list[int], measured: set[int], threshold: float
) -> bool:
    """Whether a row is like one of the members, none of which is measured twice."""
    for member in members:
        if member not in measured:
            measured.add(member)
            if reaches(corpus.jaccard(member, row), threshold):
                return True
    return False


def leaks(train: Sequence[Example], held_out: Sequence[Example]) -> list[Hit]:
    """Training rows that give a held-out row away, best score first for each training row.

    A leak is the same prompt, or a text of weighted Jaccard >= NEAR_DUPLICATE, or a training text
    that holds CONTAINED of a held-out one. Rows that merely share a template, a style or an
    instruction are none of these.
    """
    prompts: dict[str, list[int]] = defaultdict(list)
    for j, row in enumerate(held_out):
        if row.prompt.strip():  # a plain text, or an answer to nothing but a system turn
            prompts[digest(row.prompt)].append(j)
    hits = {
        (i, j): Hit(i, j, 1.0, "same prompt")
        for i, row in enumerate(train)
        for j in prompts.get(digest(row.prompt), ())
    }
    for hit in overlapping([row.text for row in train], [row.text for row in held_out]):
        hits.setdefault((hit.train_index, hit.eval_index), hit)
    return sorted(hits.values(), key=lambda hit: (hit.train_index, -hit.score, hit.eval_index))


def overlapping(
    train_texts: Sequence[str],
    eval_texts: Sequence[str],
    threshold: float = NEAR_DUPLICATE,
    contained: float = CONTAINED,
) -> list[Hit]:
    """Pairs of a training and a held-out text that are near-duplicates, or one inside the other.

    Exact, without sketches: a pair that reaches either threshold shares one of the held-out
    text's rarest shingles, so only pairs that do are measured.
    """
    corpus = _Corpus(("", text) for text in [*train_texts, *eval_texts])
    index: dict[int, list[int]] = defaultdict(list)
    for j in range(len(train_texts), len(train_texts) + len(eval_texts)):
        for rare in corpus.rarest(j, 1 - min(threshold, contained)):
            index[rare].append(j)
    hits = []
    for i in range(len(train_texts)):
        candidates = {j for s in corpus.shingles(i).tolist() if s in index for j in index[s]}
        for j in sorted(candidates):
            hit = _judge(corpus, i, j, threshold, contained)
            if hit is not None:
                score, reason = hit
                hits.append(Hit(i, j - len(train_texts), round(score, 6), reason))
    return hits


def _judge(
    corpus: _Corpus, i: int, j: int, threshold: float, contained: float
) -> tuple[float, Literal["near-duplicate", "contained"]] | None:
    jaccard = corpus.jaccard(i, j)
    if reaches(jaccard, threshold):
        return jaccard, "near-duplicate"
    share = corpus.containment(j, i)
    if reaches(share, contained) and len(corpus.shingles(j)) >= MIN_CONTAINED_SHINGLES:
        return share, "contained"
    return None


class _Corpus:
    """Texts as sorted shingle hashes with weights, all rows in one flat array."""

    def __init__(self, rows: Iterable[tuple[str, str]]) -> None:
        shingled, self.answer_words = shingle(rows)
        self.offsets, self.hashes = shingled.offsets, shingled.hashes & HASH
        self.in_answer = (shingled.hashes & ~HASH).astype(bool)
        _, place, count = np.unique(self.hashes, return_inverse=True, return_counts=True)
        self.rarity: Weights = (len(self) / np.maximum(count, 1))[place]
        self.weights: Weights = np.log2(1 + self.rarity)
        sums = np.concatenate([[0.0], np.cumsum(self.weights)])
        self.totals: Weights = sums[self.offsets[1:]] - sums[self.offsets[:-1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def shingles(self, row: int) -> Hashes:
        return self.hashes[self.offsets[row] : self.offsets[row + 1]]

    def _row_weights(self, row: int) -> Weights:
        return self.weights[self.offsets[row] : self.offsets[row + 1]]

    def shared(self, a: int, b: int) -> float:
        """Weight of the shingles that two rows have in common."""
        x, y = self.shingles(a), self.shingles(b)
        if not len(x) or not len(y):
            return 0.0
        place = np.minimum(np.searchsorted(y, x), len(y) - 1)
        return float(self._row_weights(a)[y[place] == x].sum())

    def jaccard(self, a: int, b: int) -> float:
        """Weighted Jaccard; two texts without a word are alike only if both are."""
        shared = self.shared(a, b)
        union = float(self.totals[a] + self.totals[b]) - shared
        return shared / union if union > ROUNDING else 1.0

    def answer_jaccard(self, a: int, b: int) -> float:
        """As `jaccard`, of the shingles that begin in the rows' answers."""
        (x, of_x), (y, of_y) = self._answer(a), self._answer(b)
        shared = float(of_x[np.isin(x, y)].sum())
        union = float(of_x.sum() + of_y.sum()) - shared
        return shared / union if union > ROUNDING else 1.0

    def _answer(self, row: int) -> tuple[Hashes, Weights]:
        chosen = self.in_answer[self.offsets[row] : self.offsets[row + 1]]
        return self.shingles(row)[chosen], self._row_weights(row)[chosen]

    def containment(self, inner: int, outer: int) -> float:
        """Share of `inner`'s weight that `outer` has too."""
        total = float(self.totals[inner])
        return self.shared(inner, outer) / total if total > ROUNDING else 0.0

    def rarest(self, row: int, share: float) -> list[int]:
        """The rarest shingles that together weigh more than `share` of the row."""
        weights = self._row_weights(row)
        order = np.argsort(-weights, kind="stable")
        enough = np.searchsorted(np.cumsum(weights[order]), share * self.totals[row], side="right")
        chosen: list[int] = self.shingles(row)[order[: int(enough) + 1]].tolist()
        return chosen


def _bands(corpus: _Corpus) -> list[list[int]]:
    """For each row a key a band; equal keys mean equal bands, -1 a band that no other row has."""
    size = len(corpus)
    keys = np.full((size, BANDS), -1, dtype=np.int64)
    starts = range(0, size, ROWS)
    parts = [_sketch(corpus, at, min(at + ROWS, size)) for at in starts]
    for number, band in enumerate(np.split(np.concatenate(parts), BANDS, axis=1) if parts else ()):
        raw = np.ascontiguousarray(band).view(f"V{band.shape[1] * band.itemsize}").ravel()
        _, place, count = np.unique(raw, return_inverse=True, return_counts=True)
        keys[:, number] = np.where(count[place] > 1, place, -1)
    rows: list[list[int]] = keys.tolist()
    return rows


def _sketch(corpus: _Corpus, begin: int, end: int) -> Sketches:
    at = slice(corpus.offsets[begin], corpus.offsets[end])
    offsets = corpus.offsets[begin : end + 1] - corpus.offsets[begin]
    return sketch(corpus.hashes[at], offsets, corpus.rarity[at])


def _root(first: list[int], row: int) -> int:
    while first[row] != row:
        first[row] = first[first[row]]
        row = first[row]
    return row


def _join(first: list[int], a: int, b: int) -> None:
    low, high = sorted((_root(first, a), _root(first, b)))
    first[high] = low
