from __future__ import annotations

from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import (
    AnswersBody,
    Artifact,
    JudgeSeal,
    ModelRef,
    ScoresBody,
    SuiteBody,
)
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


JUDGE = JudgeSeal(
    judge_model_id="judge",
    judge_identity={"provider": "local"},
    judge_prompt_hash="ab" * 32,
    rubric="science",
    rubric_sha256="cd" * 32,
    decoding={"temperature": 0},
    parser="levels/1",
)


def resealed(
    store: Store, scores: Artifact[ScoresBody], name: str, **changes: Any
) -> Artifact[ScoresBody]:
    """The same rows under a record that says something else."""
    rows = store.path(scores, "scores.jsonl").read_bytes()
    body = scores.body.model_copy(update=changes)
    return made.seal(made.Draft("scores", name, body, {"scores.jsonl": rows}), store)


def answered(store: Store, suite: Artifact[SuiteBody], name: str, **decoding: Any) -> str:
    """The digest of sealed answers that were decoded so."""
    body = AnswersBody(
        model=ModelRef(name=name, origin="folder", digest=name),
        suite_digest=suite.digest,
        rows=12,
        decoding=decoding,
        stopped=12,
        new_tokens=12,
        template_sha256="ef" * 32,
        first_prompt_sha256="12" * 32,
        general_cross_entropy=3.0,
        general_text_sha256="34" * 32,
    )
    return made.seal(made.Draft("answers", name, body, {"answers.jsonl": b"{}"}), store).digest


def test_the_parts_of_two_seals_that_differ_are_named(
    store: Store, suite: Artifact[SuiteBody]
) -> None:
    first = made.scores(store, suite, marked(store, suite, 2), name="first")
    one, other = (
        resealed(
            store,
            first,
            f"{dtype}",
            seal=f"seal of {dtype}",
            answers_digest=answered(store, suite, dtype, dtype=dtype, batch_size=64),
        )
        for dtype in ("float32", "bfloat16")
    )
    with pytest.raises(EvalError) as refused:
        compare(suite, one, other, store=store)
    told = str(refused.value.found)
    assert told.endswith("they differ in decoding's dtype (float32 and bfloat16)")
    assert "same dtype" in str(refused.value.fix)


def test_a_judge_whose_prompts_changed_by_a_comma_is_another_judge(
    store: Store, suite: Artifact[SuiteBody]
) -> None:
    first = made.scores(store, suite, marked(store, suite, 2), name="first")
    comma = JUDGE.model_copy(update={"judge_prompt_hash": "ac" * 32})
    one, other = (
        resealed(store, first, name, seal=name, judge=judge)
        for name, judge in (("one", JUDGE), ("other", comma))
    )
    with pytest.raises(EvalError) as refused:
        compare(suite, one, other, store=store)
    wanted = f"they differ in judge's judge_prompt_hash ({'ab' * 8} and {'ac' * 8})"
    assert str(refused.value.found).endswith(wanted)
    assert "same judge" in str(refused.value.fix)
    with pytest.raises(EvalError, match="judge \\(none, scored by rule and judge\\)"):
        compare(suite, first, other, store=store)


def test_judged_scores_are_compared_by_their_own_metrics(
    store: Store, suite: Artifact[SuiteBody]
) -> None:
    sides = []
    for name, right in (("first", 2), ("second", 9)):
        rows = [
            {**row, "clarity": row["exact"], "exact": 0.0} for row in marked(store, suite, right)
        ]
        rows[-1]["clarity"] = None
        scores = made.scores(store, suite, rows, name=name)
        metrics = {"clarity": scores.body.metrics["exact"]}
        sides.append(
            resealed(
                store, scores, f"{name}-judged", judge=JUDGE, primary="clarity", metrics=metrics
            )
        )
    [found] = compare(suite, *sides, store=store)
    assert found.metric == "clarity"
    assert found.difference.mean == pytest.approx(7 / 11)
    assert found.missing == [1, 1]
