"""Questions in like words: centres that are found once, and what lies nearest to each.

The centres are kept as words with weights, so that whoever reads a record sees what its clusters
are about, and other rows can be told apart by them without the rows that they were found in.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nexa.core.shingles import words

WORDS_KEPT = 40  # of a centre: the heaviest
WORDS_NAMED = 3  # in a cluster's name
LEAST_ROWS = 4  # a cluster for each so many rows, at most
STARTS = 4  # of k-means; the best is taken
DECIMALS = 6
_FIGURE = re.compile(r"\d")


@dataclass(frozen=True)
class Centre:
    """The middle of a cluster. `words` have weights; the name is those that set it apart."""

    name: str
    words: Mapping[str, float]


def centres(texts: Sequence[str], wanted: int, seed: int) -> list[Centre]:
    """Up to `wanted` centres of the texts, the same for the same texts; none if they are alike.

    TF-IDF of the words without figures, then k-means (Lloyd), both scikit-learn's.
    """
    # Slow to import, and not wanted by whoever only reads a record.
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(map(_words, texts)):
        return []
    vectorizer = TfidfVectorizer(analyzer=_words, sublinear_tf=True)
    weights = vectorizer.fit_transform(texts)
    distinct = len({tuple(sorted(set(_words(text)))) for text in texts})
    count = min(wanted, len(texts) // LEAST_ROWS, distinct)
    if count < 2:
        return []
    found = KMeans(count, random_state=seed, n_init=STARTS).fit(weights.toarray())
    terms = vectorizer.get_feature_names_out()
    middles = found.cluster_centers_
    apart = middles - middles.mean(axis=0)
    made: list[Centre] = []
    for middle, unlike in zip(middles, apart, strict=True):
        pull = middle * vectorizer.idf_ / np.linalg.norm(middle)
        kept = [at for at in _heaviest(pull, terms)[:WORDS_KEPT] if pull[at] > 0]
        name = " ".join(terms[at] for at in _heaviest(unlike, terms)[:WORDS_NAMED])
        same = sum(other.name.startswith(name) for other in made)
        made.append(
            Centre(
                f"{name} {same + 1}" if same else name,
                {str(terms[at]): round(float(pull[at]), DECIMALS) for at in kept},
            )
        )
    return sorted(made, key=lambda centre: centre.name)


def nearest_centre(text: str, known: Sequence[Mapping[str, float]]) -> int | None:
    """Which of the centres a text is nearest to (cosine); None: it shares no word with any."""
    told = Counter(_words(text))
    scores = [
        math.fsum(weights[word] * (1 + math.log(told[word])) for word in weights if word in told)
        for weights in known
    ]
    best = max(scores, default=0.0)
    return scores.index(best) if best > 0 else None


def cosine(text: str, other: str) -> float:
    """How alike the words of two texts are, without figures: 0 to 1."""
    one, two = Counter(_words(text)), Counter(_words(other))
    shared = sum(count * two[word] for word, count in one.items())
    length = math.sqrt(sum(n * n for n in one.values()) * sum(n * n for n in two.values()))
    return shared / length if length else 0.0


def _words(text: str) -> list[str]:
    """Words that are no figures: those differ in every row, and say nothing of what it is about."""
    return [word for word in words(text) if not _FIGURE.search(word)]


def _heaviest(weights: np.ndarray, terms: Sequence[str]) -> list[int]:
    return sorted(range(len(terms)), key=lambda at: (-float(weights[at]), str(terms[at])))
