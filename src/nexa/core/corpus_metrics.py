"""Metrics that no single row has: F1 over labels, BLEU and chrF of a corpus, perplexity.

Each is a function of sums over the rows' `statistics` (rows of `scores.jsonl` carry them): labels
given and wanted, counts of n-grams, nats with tokens and bytes. So the interval is drawn as that of
a mean is: whole groups, with replacement, and the metric of every draw's sums.

Pure functions of the rows. BLEU and chrF are sacrebleu's, F1 and its parts scikit-learn's; both
are imported when they are asked for. All but perplexity and bits a byte run from 0 to 1.

Sources: Efron 1987, doi:10.1080/01621459.1987.10478410 (BCa).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from nexa.core.clusters import CONFIDENCE, RESAMPLES, SAME, Floats, draws, kept
from nexa.core.errors import EvalError
from nexa.core.record_base import Interval

STATISTICS = "statistics"

Row = Mapping[str, Any]
Part = Literal["precision", "recall", "f1"]


@dataclass(frozen=True)
class _Sums:
    """Additive counts of each row `[rows, K]`, and the metric of such sums `[draws, K] -> [draws]`.

    `value` is the metric of all rows, where a library gives it; `bounded`: it runs from 0 to 1.
    """

    counts: Floats
    metric: Callable[[Floats], Floats]
    value: float | None = None
    bounded: bool = True


def derive_corpus(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Interval]:
    """The corpus metrics of these names, each with a 95 % interval by cluster bootstrap (BCa).

    Rows without statistics are answers that never came: they are left out, and `n` says so. Where
    the groups do not differ, an interval is as wide as what could be out there unseen; of a metric
    without bounds it is then the number alone.

    Raises:
        EvalError: no such metric, or no row with what it is made of.
    """
    return {name: _derived(rows, name) for name in names}


@cache
def sacrebleu_metric(name: str, *, sentence: bool = False) -> Any:
    """Sacrebleu's BLEU or chrF with its usual settings; BLEU of a sentence by effective order."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return CHRF() if name == "chrf" else BLEU(effective_order=sentence)


# -- the interval --------------------------------------------------------------------------------


def _derived(rows: Sequence[Row], name: str) -> Interval:
    if name not in CORPUS_METRICS:
        raise EvalError(f"there is no corpus metric {name!r}", found=", ".join(CORPUS_METRICS))
    needs, of = CORPUS_METRICS[name]
    told = [row for row in rows if all(key in row.get(STATISTICS, {}) for key in needs)]
    if not told:
        raise EvalError(f"no row says what {name} is made of", found=f"{len(rows)} rows")
    made = of([row[STATISTICS] for row in told])
    by_group = _by_group(made.counts, [str(row.get("group") or row["id"]) for row in told])
    total = by_group.sum(axis=0)
    value = float(made.metric(total[None])[0]) if made.value is None else made.value
    low, high = _interval(made, by_group, total, value)
    return Interval(
        mean=kept(value), low=kept(low), high=kept(high), n=len(told), groups=len(by_group)
    )


def _by_group(counts: Floats, groups: Sequence[str]) -> Floats:
    """Sums `[G, K]` in the order of the groups' names; exact, whatever the order of the rows."""
    members: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    return np.array(
        [[math.fsum(column) for column in counts[members[group]].T] for group in sorted(members)]
    )


def _interval(made: _Sums, by_group: Floats, total: Floats, value: float) -> tuple[float, float]:
    """BCa, with a small sample's wider tails, as `nexa.core.clusters` has it for a mean."""
    groups = len(by_group)
    drawn = np.concatenate(
        [made.metric(by_group[chosen].sum(axis=1)) for chosen in draws(groups, RESAMPLES)]
    )
    without = made.metric(total - by_group) if groups > 1 else np.array([value])
    lean = without.mean() - without
    spread = float((lean**2).sum())
    if np.ptp(drawn) < SAME or spread < SAME**2:
        share = 1 - (1 - CONFIDENCE) ** (1 / groups)
        return (
            (value - share * value, value + share * (1 - value)) if made.bounded else (value,) * 2
        )
    below = (np.mean(drawn < value - SAME) + np.mean(drawn < value + SAME)) / 2
    bias = float(ndtri(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES)))
    skew = float((lean**3).sum() / (6 * spread**1.5))
    z = math.sqrt(groups / (groups - 1)) * float(stdtrit(groups - 1, 0.5 - CONFIDENCE / 2))
    places = [
        float(ndtr(bias + (bias + side) / max(1 - skew * (bias + side), SAME))) for side in (z, -z)
    ]
    low, high = np.quantile(drawn, places).tolist()
    return low, high


# -- what each is made of ------------------------------------------------------------------------


def _labels(part: Part, average: Literal["macro", "micro"]) -> Callable[[Sequence[Row]], _Sums]:
    """Precision, recall or F1 over the labels that are wanted or given somewhere.

    An answer that is no label is none of them: it is missed by the label that was wanted.
    """

    def of(statistics: Sequence[Row]) -> _Sums:
        from sklearn.metrics import precision_recall_fscore_support

        wanted = [str(each["label"]) for each in statistics]
        given = ["" if each["given"] is None else str(each["given"]) for each in statistics]
        labels = sorted({*wanted, *given} - {""})
        found = precision_recall_fscore_support(
            wanted, given, labels=labels, average=average, zero_division=0
        )
        place = {label: i for i, label in enumerate(labels)}
        counts = np.zeros((len(wanted), 3, len(labels)))  # right, given and wrong, missed
        for row, (label, answer) in enumerate(zip(wanted, given, strict=True)):
            if label == answer:
                counts[row, 0, place[label]] = 1
                continue
            counts[row, 2, place[label]] = 1
            if answer:
                counts[row, 1, place[answer]] = 1
        value = float(found[("precision", "recall", "f1").index(part)])
        return _Sums(counts.reshape(len(wanted), -1), _of_labels(part, average), value)

    return of


def _of_labels(part: Part, average: str) -> Callable[[Floats], Floats]:
    def metric(sums_RK: Floats) -> Floats:
        right, wrong, missed = sums_RK.reshape(len(sums_RK), 3, -1).transpose(1, 0, 2)
        there = (right + wrong + missed > 0).astype(float)
        if average == "micro":
            right, wrong, missed = (x.sum(1, keepdims=True) for x in (right, wrong, missed))
            there = np.ones_like(right)
        beside = {"precision": wrong, "recall": missed, "f1": (wrong + missed) / 2}[part]
        each = right / np.maximum(right + beside, SAME)
        found: Floats = (each * there).sum(1) / there.sum(1)
        return found

    return metric


def _of_sacrebleu(name: str) -> Callable[[Sequence[Row]], _Sums]:
    def of(statistics: Sequence[Row]) -> _Sums:
        library = sacrebleu_metric(name)

        def metric(sums_RK: Floats) -> Floats:
            rows = sums_RK.astype(int).tolist()
            return np.array([library._compute_score_from_stats(row).score / 100 for row in rows])

        return _Sums(np.array([each[f"corpus_{name}"] for each in statistics], float), metric)

    return of


def _perplexity(statistics: Sequence[Row]) -> _Sums:
    """The exponential of nats a token."""
    return _Sums(
        _columns(statistics, "tokens"), lambda sums: np.exp(sums[:, 0] / sums[:, 1]), bounded=False
    )


def _bits_per_byte(statistics: Sequence[Row]) -> _Sums:
    """Nats over the bytes of the text in UTF-8, in bits: comparable between tokenizers."""
    return _Sums(
        _columns(statistics, "bytes"),
        lambda sums: sums[:, 0] / sums[:, 1] / math.log(2),
        bounded=False,
    )


def _columns(statistics: Sequence[Row], over: str) -> Floats:
    return np.array([[each["nats"], each[over]] for each in statistics], float)


# Name -> what a row's statistics must have, and how the metric is made of them.
CORPUS_METRICS: dict[str, tuple[tuple[str, ...], Callable[[Sequence[Row]], _Sums]]] = {
    "precision_macro": (("label", "given"), _labels("precision", "macro")),
    "recall_macro": (("label", "given"), _labels("recall", "macro")),
    "f1_macro": (("label", "given"), _labels("f1", "macro")),
    "precision_micro": (("label", "given"), _labels("precision", "micro")),
    "recall_micro": (("label", "given"), _labels("recall", "micro")),
    "f1_micro": (("label", "given"), _labels("f1", "micro")),
    "corpus_bleu": (("corpus_bleu",), _of_sacrebleu("bleu")),
    "corpus_chrf": (("corpus_chrf",), _of_sacrebleu("chrf")),
    "perplexity": (("nats", "tokens"), _perplexity),
    "bits_per_byte": (("nats", "bytes"), _bits_per_byte),
}
