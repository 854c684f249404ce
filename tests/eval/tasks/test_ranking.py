from __future__ import annotations

import json
import math
from typing import Any

import pytest
from sklearn.metrics import ndcg_score

from nexa.core.errors import EvalError
from nexa.eval.tasks.ranking import RANKING, Candidates, candidates, ranking_task
from nexa.eval.tasks.task import Likelihoods

TEXTS = ["iron", "gold", "tin", "lead"]


def target(**more: Any) -> str:
    return json.dumps({"candidates": TEXTS, **more})


GRADED = target(relevance=[0, 2, 1, 0])


def test_relevance_is_a_number_for_each_or_one_answer() -> None:
    assert candidates(GRADED) == Candidates(tuple(TEXTS), (0, 2, 1, 0))
    assert candidates(target(answer="tin")).relevance == (0, 0, 1, 0)
    assert candidates(target(answer=0)).relevance == (1, 0, 0, 0)


@pytest.mark.parametrize(
    "odd",
    [
        "iron",
        "{}",
        json.dumps({"candidates": ["iron"], "relevance": [1]}),
        json.dumps({"candidates": ["iron", "iron"], "relevance": [1, 0]}),
        json.dumps({"candidates": ["iron", 1], "relevance": [1, 0]}),
        target(),
        target(relevance=[1]),
        target(relevance=[0, 0, 0, 0]),
        target(relevance=[1, 0, 0, -1]),
        target(relevance=[1, 0, 0, True]),
        target(answer="lithium"),
    ],
)
def test_rows_that_cannot_be_ranked_are_refused(odd: str) -> None:
    with pytest.raises(EvalError, match="cannot be ranked"):
        RANKING.fits([GRADED, odd])
    assert not RANKING.fits([])


def test_candidates_are_ranked_by_likelihood_a_byte() -> None:
    nats = (-4.0, -6.0, -3.0, -9.0)
    made = RANKING.grader([])(Likelihoods(nats, (1, 1, 1, 1), (4, 12, 3, 4)), GRADED)
    a_byte = [-1.0, -0.5, -1.0, -2.25]
    assert made.scores["ndcg"] == pytest.approx(ndcg_score([[0, 2, 1, 0]], [a_byte], k=10))
    assert (made.scores["mrr"], made.scores["first"]) == (1, 1)
    raw = ranking_task(by_bytes=False, k=2).grader([])
    made = raw(Likelihoods(nats, (1, 1, 1, 1), (4, 12, 3, 4)), target(answer="gold"))
    assert made.scores["ndcg"] == 0
    assert made.scores["mrr"] == pytest.approx(1 / 3)
    assert RANKING.continuations is not None
    assert RANKING.continuations(GRADED) == tuple(TEXTS)


def test_ties_count_against_the_relevant_one() -> None:
    made = RANKING.grader([])(Likelihoods((-1.0,) * 4, (1,) * 4, (1,) * 4), target(answer=0))
    assert (made.scores["mrr"], made.scores["first"]) == (0.25, 0)
    assert 0 < made.scores["ndcg"] < 1


@pytest.mark.parametrize(
    "answer",
    ["gold\ntin\niron\nlead", "1. Gold\n2) tin\n- iron\n* lead", '["gold", "tin", "iron", 3]'],
)
def test_an_answer_lists_candidates(answer: str) -> None:
    grade = ranking_task(by_likelihood=False).grader([])
    made = grade(answer, GRADED)
    assert made.scores == {"ndcg": 1, "mrr": 1, "first": 1}


def test_what_is_not_listed_stands_last() -> None:
    task = ranking_task(by_likelihood=False, extract=lambda text: text or None)
    assert task.continuations is None
    made = task.grader([])("lead\ncopper\nlead\ngold", GRADED)
    assert made.detail == {"candidates": 4, "unlisted": 2}
    assert made.scores["mrr"] == 0.5
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    # Ties share what they would gain in every order.
    shared = (1 / math.log2(4) + 1 / math.log2(5)) / 2
    assert made.scores["ndcg"] == pytest.approx((2 / math.log2(3) + shared) / ideal)
    assert task.grader([])("", GRADED).detail["unlisted"] == 4
    assert task.wanted(GRADED) is None
