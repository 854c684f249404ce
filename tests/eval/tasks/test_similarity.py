from __future__ import annotations

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from nexa.core.corpus_metrics import derive_corpus
from nexa.eval.tasks.similarity import METRICS, statistics_of

PAIRS = [
    ("The cat sat on the mat.", "The cat sat on the mat."),
    ("A cat is on the mat.", "The cat sat on the mat."),
    ("Iron melts at 1811 K.", "Gold melts at 1337 kelvin."),
    ("", "Something was wanted here."),
    ("Straße 7!", "straße 8?"),
]


@pytest.mark.parametrize(("answer", "target"), PAIRS)
def test_a_row_has_the_libraries_own_numbers(answer: str, target: str) -> None:
    bleu = sacrebleu.sentence_bleu(answer, [target]).score / 100
    assert METRICS["bleu"].mark(answer, target) == pytest.approx(min(1, bleu), abs=1e-9)
    chrf = sacrebleu.sentence_chrf(answer, [target]).score / 100
    assert METRICS["chrf"].mark(answer, target) == pytest.approx(min(1, chrf), abs=1e-9)
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(target, answer)
    for name, found in rouge.items():
        assert METRICS[name].mark(answer, target) == pytest.approx(found.fmeasure, abs=1e-9)


def test_the_corpus_has_the_librarys_own_numbers_from_the_rows_statistics() -> None:
    chosen = {name: METRICS[name] for name in ("bleu", "chrf", "rougeL")}
    rows = [
        {"id": str(i), "statistics": statistics_of(chosen, answer, target)}
        for i, (answer, target) in enumerate(PAIRS)
    ]
    assert set(rows[0]["statistics"]) == {"corpus_bleu", "corpus_chrf"}
    found = derive_corpus(rows, ["corpus_bleu", "corpus_chrf"])
    answers, targets = zip(*PAIRS, strict=True)
    bleu = sacrebleu.corpus_bleu(list(answers), [list(targets)]).score / 100
    chrf = sacrebleu.corpus_chrf(list(answers), [list(targets)]).score / 100
    assert found["corpus_bleu"].mean == pytest.approx(bleu, abs=1e-9)
    assert found["corpus_chrf"].mean == pytest.approx(chrf, abs=1e-9)
    assert found["corpus_bleu"].low < bleu < found["corpus_bleu"].high


def test_how_a_library_counts_is_told() -> None:
    told = {name: METRICS[name].signature for name in METRICS.names()}
    assert told["bleu"] is not None
    assert told["rouge1"] is not None
    assert "nrefs:1|" in told["bleu"]()
    assert f"version:{sacrebleu.__version__}" in told["bleu"]()
    assert told["rouge1"]().startswith("rouge_score ")
