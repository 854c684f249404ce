"""Candidates in an order: by how likely the model finds each, or as its answer lists them.

A row's answer is one JSON object, `{"candidates": [text, ...], "relevance": [number, ...]}`, or
`{"candidates": [...], "answer": text or INDEX}` where one alone is relevant.

Sources: Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418 (NDCG, as scikit-learn has it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.errors import EvalError
from nexa.eval.tasks.extract import Extract, normalised, whole
from nexa.eval.tasks.json_record import read
from nexa.eval.tasks.task import Continuations, Grade, Likelihoods, Metric, Task, Through, rounded

METRICS = (
    Metric("ndcg", 1, "normalised discounted cumulative gain of the first k"),
    Metric("mrr", 1, "1 over the rank of the first relevant candidate; ties count against it"),
    Metric("first", 1, "1 if a relevant candidate is ranked first, alone"),
)
K = 10
SHAPE = '{"candidates": ["...", "..."], "relevance": [1, 0]}'
_STEPS = ("strip", "casefold", "whitespace")


@dataclass(frozen=True)
class Candidates:
    """What is ranked, and how relevant each is."""

    texts: tuple[str, ...]
    relevance: tuple[float, ...]


def candidates(target: str) -> Candidates:
    """What a row's target says.

    Raises:
        EvalError: no two candidates, one twice, no relevance for each, or none is relevant.
    """
    value = read(target)
    own = value if isinstance(value, dict) else {}
    texts, relevance = own.get("candidates"), own.get("relevance")
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise _refused(target)
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise _refused(target)
    if "answer" in own and relevance is None:
        relevance = [float(own["answer"] in (text, i)) for i, text in enumerate(texts)]
    if not isinstance(relevance, list) or len(relevance) != len(texts):
        raise _refused(target)
    if not all(_is_gain(each) for each in relevance) or not any(relevance):
        raise _refused(target)
    return Candidates(tuple(texts), tuple(map(float, relevance)))


def ranking_task(
    name: str = "ranking",
    about: str = "candidates are put in order",
    *,
    by_likelihood: bool = True,
    by_bytes: bool = True,
    k: int = K,
    extract: Extract = whole,
    through: Through = "template",
    separator: str = " ",
) -> Task:
    """A task whose candidates are ranked by likelihood (a byte), or by the answer's list."""

    def grade(answer: str | Likelihoods, target: str) -> Grade:
        offered = candidates(target)
        if isinstance(answer, Likelihoods):
            sizes = answer.bytes if by_bytes else (1,) * len(answer.nats)
            values = [nats / size for nats, size in zip(answer.nats, sizes, strict=True)]
            return _grade(values, offered, k, unlisted=0)
        listed = _listed(extract(answer) or "", offered.texts)
        values = [
            -float(listed.index(i)) if i in listed else -len(offered.texts) for i in _each(offered)
        ]
        return _grade(values, offered, k, unlisted=len(offered.texts) - len(listed))

    continuations: Continuations = lambda target: candidates(target).texts  # noqa: E731
    return Task(
        name=name,
        about=about,
        metrics=METRICS,
        primary="ndcg",
        parser=f"likelihood/1 k={k} by_bytes={by_bytes}" if by_likelihood else f"list/1 k={k}",
        fits=lambda targets: bool([candidates(target) for target in targets]),
        grader=lambda targets: grade,
        continuations=continuations if by_likelihood else None,
        through=through,
        separator=separator,
        wanted=lambda target: None,
    )


def _grade(values: Sequence[float], offered: Candidates, k: int, *, unlisted: int) -> Grade:
    from sklearn.metrics import ndcg_score

    relevant = [gain > 0 for gain in offered.relevance]
    best = max(value for value, good in zip(values, relevant, strict=True) if good)
    # Whoever is not relevant and scores as high stands before it.
    before = sum(value >= best for value, good in zip(values, relevant, strict=True) if not good)
    scores = {
        "ndcg": rounded(min(1.0, float(ndcg_score([offered.relevance], [values], k=k)))),
        "mrr": rounded(1 / (before + 1)),
        "first": float(before == 0),
    }
    return Grade(scores, {"candidates": len(values), "unlisted": unlisted})


def _listed(text: str, texts: Sequence[str]) -> list[int]:
    """The candidates that an answer lists, in its order, each once: as JSON or a line each."""
    value = read(text)
    items: Sequence[Any] = value if isinstance(value, list) else text.splitlines()
    places = {normalised(each, _STEPS): i for i, each in enumerate(texts)}
    found = [places.get(normalised(_bare(item), _STEPS)) for item in items if isinstance(item, str)]
    return list(dict.fromkeys(place for place in found if place is not None))


def _bare(line: str) -> str:
    """A line without what numbers or points it."""
    head, _, rest = line.strip().partition(" ")
    return rest if rest and head.strip("-*.)(0123456789") == "" else line


def _each(offered: Candidates) -> range:
    return range(len(offered.texts))


def _is_gain(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _refused(target: str) -> EvalError:
    return EvalError(
        "a held-out row cannot be ranked",
        found=target[:80],
        fix=f"each held-out answer names candidates and how relevant each is: {SHAPE}",
    )


RANKING = ranking_task()
