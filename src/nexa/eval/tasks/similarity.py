"""Metrics of texts that may be added to any task with text answers: BLEU, chrF and ROUGE.

The libraries' own numbers from 0 to 1: sacrebleu's of a sentence (BLEU with effective order, as it
advises), rouge_score's F of each. BLEU and chrF of the corpus are made of the rows' statistics,
which is how sacrebleu makes them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from nexa.core.corpus_metrics import sacrebleu_metric
from nexa.core.plugins import Registry
from nexa.eval.tasks.task import Metric, rounded

Mark = Callable[[str, str], float]


@dataclass(frozen=True)
class TextMetric:
    """A metric of an answer's text beside the target's.

    `corpus` names the metric of the whole corpus that `statistics` of each row make;
    `signature` is what a library says of the way it counts, for the seal.
    """

    metric: Metric
    mark: Mark
    corpus: str | None = None
    statistics: Callable[[str, str], Any] | None = None
    signature: Callable[[], str] | None = None


def _sacrebleu(name: str, about: str) -> TextMetric:
    def mark(answer: str, target: str) -> float:
        sentence = sacrebleu_metric(name, sentence=True)
        return rounded(min(1.0, sentence.sentence_score(answer, [target]).score / 100))

    def statistics(answer: str, target: str) -> list[int]:
        [found] = sacrebleu_metric(name)._extract_corpus_statistics([answer], [[target]])
        return [int(count) for count in found]

    def signature() -> str:
        sacrebleu_metric(name).corpus_score([""], [[""]])  # it knows its references only then
        return str(sacrebleu_metric(name).get_signature())

    return TextMetric(Metric(name, 1, about), mark, f"corpus_{name}", statistics, signature)


def _rouge(name: str, about: str) -> TextMetric:
    def mark(answer: str, target: str) -> float:
        return rounded(_rouge_scorer(name).score(target, answer)[name].fmeasure)

    def signature() -> str:
        from importlib.metadata import version

        return f"rouge_score {version('rouge_score')}, no stemmer"

    return TextMetric(Metric(name, 1, about), mark, signature=signature)


@cache
def _rouge_scorer(name: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([name])


BUILT_IN = (
    _sacrebleu("bleu", "BLEU of the sentence (sacrebleu)"),
    _sacrebleu("chrf", "chrF2 of the sentence (sacrebleu)"),
    _rouge("rouge1", "ROUGE-1, F"),
    _rouge("rouge2", "ROUGE-2, F"),
    _rouge("rougeL", "ROUGE-L, F"),
)
METRICS: Registry[TextMetric] = Registry("metric", {each.metric.name: each for each in BUILT_IN})


def statistics_of(chosen: Mapping[str, TextMetric], answer: str, target: str) -> dict[str, Any]:
    """What the corpus metrics among these need of one row."""
    return {
        each.corpus: each.statistics(answer, target)
        for each in chosen.values()
        if each.corpus is not None and each.statistics is not None
    }
