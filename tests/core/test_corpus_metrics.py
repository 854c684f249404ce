from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from nexa.core import clusters
from nexa.core.corpus_metrics import (
    CORPUS_METRICS,
    _labels,
    derive_corpus,
    sacrebleu_metric,
)
from nexa.core.errors import EvalError

LABELS = [name for name in CORPUS_METRICS if name.endswith(("macro", "micro"))]


def labelled(rows: int, seed: int = 0, groups: int = 12) -> list[dict[str, Any]]:
    dice = random.Random(seed)
    made = []
    for row in range(rows):
        label = dice.choices("abcd", [6, 3, 2, 1])[0]
        given = label if dice.random() < 0.6 else dice.choice(["a", "b", "e", None])
        statistics = {"label": label, "given": given}
        made.append({"id": f"r{row}", "group": f"g{row % groups}", "statistics": statistics})
    return made


def likelihoods(nats: list[float], tokens: int = 10, size: int = 40) -> list[dict[str, Any]]:
    return [
        {"id": str(i), "statistics": {"nats": n, "tokens": tokens, "bytes": size}}
        for i, n in enumerate(nats)
    ]


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("seed", range(3))
def test_label_metrics_are_scikit_learns_and_so_is_every_draws(name: str, seed: int) -> None:
    rows = labelled(60, seed)
    part, average = name.split("_")

    def theirs(some: list[dict[str, Any]]) -> float:
        wanted = [row["statistics"]["label"] for row in some]
        given = [row["statistics"]["given"] or "" for row in some]
        labels = sorted({*wanted, *given} - {""})
        found = precision_recall_fscore_support(
            wanted, given, labels=labels, average=average, zero_division=0
        )
        return float(found[["precision", "recall", "f1"].index(part)])

    found = derive_corpus(rows, [name])[name]
    assert found.mean == pytest.approx(theirs(rows), abs=1e-9)
    assert found.low < found.mean < found.high
    assert (found.n, found.groups) == (60, 12)
    made = _labels(part, average)([row["statistics"] for row in rows])  # type: ignore[arg-type]
    dice = random.Random(seed)
    for _ in range(20):
        places = dice.choices(range(60), k=60)
        sums = made.counts[places].sum(axis=0)
        ours = float(made.metric(sums[None])[0])
        assert ours == pytest.approx(theirs([rows[place] for place in places]), abs=1e-9)


def test_labels_that_no_draw_has_do_not_count() -> None:
    rows = [
        {"id": "1", "statistics": {"label": "a", "given": "a"}},
        {"id": "2", "statistics": {"label": "b", "given": None}},
    ]
    assert derive_corpus(rows, ["f1_macro"])["f1_macro"].mean == 0.5
    assert derive_corpus(rows, ["precision_micro"])["precision_micro"].mean == 1
    assert derive_corpus(rows, ["recall_micro"])["recall_micro"].mean == 0.5


def test_perplexity_is_of_all_tokens_and_bits_of_all_bytes() -> None:
    rows = likelihoods([12.0, 30.0, 21.0])
    found = derive_corpus(rows, ["perplexity", "bits_per_byte"])
    assert found["perplexity"].mean == pytest.approx(math.exp(63 / 30), abs=1e-8)
    assert found["bits_per_byte"].mean == pytest.approx(63 / 120 / math.log(2), abs=1e-9)
    assert found["perplexity"].low < found["perplexity"].mean < found["perplexity"].high


def test_bits_a_byte_of_equal_rows_are_drawn_as_a_mean_is() -> None:
    nats = [random.Random(7).uniform(5, 40) for _ in range(9)] + [35.0]
    ours = derive_corpus(likelihoods(nats), ["bits_per_byte"])["bits_per_byte"]
    of_mean = clusters.Clusters.of(nats, [str(i) for i in range(10)], (0, 100))
    low, high = (x / 40 / math.log(2) for x in of_mean.bca())
    assert (ours.low, ours.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_the_order_of_rows_changes_nothing() -> None:
    rows = labelled(40)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert derive_corpus(rows, LABELS) == derive_corpus(shuffled, LABELS)


def test_answers_that_never_came_are_left_out() -> None:
    rows = [*likelihoods([12.0, 30.0]), {"id": "x", "token_probability": None}]
    assert derive_corpus(rows, ["perplexity"])["perplexity"].n == 2
    with pytest.raises(EvalError, match="no row says what perplexity is made of"):
        derive_corpus([{"id": "x"}], ["perplexity"])


def test_where_nothing_varies_an_interval_is_what_could_be_out_there() -> None:
    rows = [
        {"id": str(i), "statistics": {"label": label, "given": label}}
        for i, label in enumerate("abab")
    ]
    found = derive_corpus(rows, ["f1_micro"])["f1_micro"]
    assert (found.mean, found.high) == (1, 1)
    assert found.low == pytest.approx(0.05 ** (1 / 4))
    alone = derive_corpus(rows[:1], ["f1_micro"])["f1_micro"]
    assert alone.low == pytest.approx(0.05)
    unbounded = derive_corpus(likelihoods([5.0, 5.0]), ["perplexity"])["perplexity"]
    assert unbounded.low == unbounded.mean == unbounded.high


def test_intervals_cover_the_truth() -> None:
    """Of 200 corpora of known perplexity; the nominal 95 % leaves room for chance and few rows."""
    dice = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        nats = dice.gamma(4.0, 5.0, 24).tolist()
        found = derive_corpus(likelihoods(nats), ["bits_per_byte"])["bits_per_byte"]
        covered += found.low <= 20 / 40 / math.log(2) <= found.high
    assert 180 <= covered <= 198


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(EvalError, match=r"no corpus metric 'f1'(.|\n)*f1_macro"):
        derive_corpus(labelled(3), ["f1"])


def test_a_sentences_bleu_is_taken_by_effective_order() -> None:
    assert sacrebleu_metric("bleu", sentence=True).effective_order
    assert not sacrebleu_metric("bleu").effective_order


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_a_corpus_is_what_sacrebleu_makes_of_the_sums(name: str) -> None:
    answers = ["The cat sat on a mat.", "Iron melts at 1811 K."]
    targets = ["The cat sat on the mat.", "Iron melts at 1811 kelvin."]
    library = sacrebleu_metric(name)
    counts = library._extract_corpus_statistics(answers, [targets])
    rows = [{"id": str(i), "statistics": {f"corpus_{name}": c}} for i, c in enumerate(counts)]
    found = derive_corpus(rows, [f"corpus_{name}"])[f"corpus_{name}"]
    expected = library.corpus_score(answers, [targets]).score / 100
    assert found.mean == pytest.approx(expected, abs=1e-9)
