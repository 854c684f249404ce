from __future__ import annotations

from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import Artifact, SuiteBody
from nexa.core.store import Store
from nexa.eval.compare import compare
from nexa.eval.suite import read_suite
from tests.eval import made


def marked(store: Store, suite: Artifact[SuiteBody], right: int) -> list[dict[str, Any]]:
    """Score rows of which the first `right` are right."""
    return [
        {
            "id": q.id,
            "group": q.group,
            "domain": q.domain,
            "stopped": 1,
            **dict.fromkeys(suite.body.metrics, float(i < right)),
        }
        for i, q in enumerate(read_suite(suite, store))
    ]


def test_the_second_is_compared_with_the_first(store: Store, suite: Artifact[SuiteBody]) -> None:
    first = made.scores(store, suite, marked(store, suite, 2), name="first")
    second = made.scores(store, suite, marked(store, suite, 11), name="second")
    found = compare(suite, first, second, store=store)
    assert [comparison.metric for comparison in found] == suite.body.metrics
    assert found[0].difference.mean == pytest.approx(9 / 12)
    assert (found[0].better, found[0].worse) == (9, 0)
    back = compare(suite, second, first, store=store)
    assert back[0].difference.mean == pytest.approx(-9 / 12)


def test_scores_taken_in_another_way_are_refused(store: Store, suite: Artifact[SuiteBody]) -> None:
    rows = marked(store, suite, 2)
    first = made.scores(store, suite, rows, name="first")
    other = made.scores(store, suite, rows, name="other", seal_text="another seal")
    with pytest.raises(EvalError, match="not taken alike"):
        compare(suite, first, other, store=store)


def test_scores_of_another_suite_are_refused(store: Store, suite: Artifact[SuiteBody]) -> None:
    rows = marked(store, suite, 2)
    first = made.scores(store, suite, rows, name="first")
    body = first.body.model_copy(update={"suite_digest": "0" * 64})
    foreign = made.seal(made.Draft("scores", "foreign", body, {"scores.jsonl": b"{}\n"}), store)
    with pytest.raises(EvalError, match="scores/foreign@v1 was not taken on suite/metals@v1"):
        compare(suite, first, foreign, store=store)
