from __future__ import annotations

import random
from typing import Any

import pytest

from nexa.core import scoring
from nexa.core.errors import EvalError
from nexa.core.records import JudgeSeal, ModelRef, ReportBody, ScoresBody, Spent, SuiteBody
from nexa.core.scoring import Side, derive_comparisons, derive_report, derive_scores, own_metrics
from nexa.core.statistics import holm, interval, minimum_detectable, paired_difference, paired_test

METRICS = ["exact", "field_f1"]


def rows_of(exact: list[float], *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of 16 groups in two domains; field_f1 is noisy and a little above exact."""
    dice = random.Random(seed)
    return [
        {
            "id": f"row{i}",
            "group": f"group{i % 16}",
            "domain": ("soft", "hard")[i % 2],
            "stopped": 1,
            "exact": score,
            "field_f1": max(score, round(dice.random(), 3)),
            "detail": {"missing": i % 3, "wrong": 1},
        }
        for i, score in enumerate(exact)
    ]


SUITE = SuiteBody(
    task="json_record",
    rows=64,
    groups=16,
    domains={"hard": 32, "soft": 32},
    metrics=METRICS,
    primary="exact",
    max_new_tokens=8,
)
NONE_RIGHT = rows_of([0.0] * 64)
MOSTLY_RIGHT = rows_of([0.0 if i % 10 == 3 else 1.0 for i in range(64)])


def report(
    base: list[dict[str, Any]],
    tuned: list[dict[str, Any]],
    *,
    contaminated: tuple[str, ...] = (),
    forgotten: float = 0.1,
) -> ReportBody:
    return derive_report(
        SUITE,
        Side(base, 3.0),
        Side(tuned, 3.0 + forgotten),
        forgetting_limit_nats=0.3,
        contaminated_rows=contaminated,
        seal="s",
    )


def test_scores_are_means_over_all_rows_and_over_each_domain() -> None:
    made = derive_scores(MOSTLY_RIGHT, METRICS)
    values = [row["exact"] for row in MOSTLY_RIGHT]
    assert made.metrics["exact"] == interval(values, [row["group"] for row in MOSTLY_RIGHT])
    hard = [row for row in MOSTLY_RIGHT if row["domain"] == "hard"]
    assert made.by_domain["hard"]["exact"].mean == pytest.approx(
        sum(row["exact"] for row in hard) / 32
    )
    assert list(made.by_domain) == ["hard", "soft"]
    assert made.stop_rate.mean == 1
    assert made.counts == {"missing": sum(i % 3 for i in range(64)), "wrong": 64}


def test_rows_without_a_domain_or_group_stand_for_themselves() -> None:
    rows = [{"id": str(i), "domain": None, "stopped": 0, "exact": i % 2} for i in range(8)]
    made = derive_scores(rows, ["exact"])
    assert list(made.by_domain) == [scoring.NO_DOMAIN]
    assert made.metrics["exact"].groups == 8
    assert made.counts == {}


def test_comparisons_pair_rows_by_their_id() -> None:
    backwards = MOSTLY_RIGHT[::-1]
    made = derive_comparisons(NONE_RIGHT, backwards, METRICS)
    assert made == derive_comparisons(NONE_RIGHT, MOSTLY_RIGHT, METRICS)
    exact, f1 = made
    right = sum(row["exact"] for row in MOSTLY_RIGHT)
    assert (exact.better, exact.worse) == (right, 0)
    assert exact.mcnemar_p == pytest.approx(2 / 2**right)
    assert f1.mcnemar_p is None
    assert f1.difference == paired_difference(
        [row["field_f1"] for row in NONE_RIGHT],
        [row["field_f1"] for row in MOSTLY_RIGHT],
        [row["group"] for row in NONE_RIGHT],
    )


def test_a_clear_gain_is_improved_and_its_reverse_is_worse() -> None:
    up, down = report(NONE_RIGHT, MOSTLY_RIGHT), report(MOSTLY_RIGHT, NONE_RIGHT)
    assert (up.verdict, down.verdict) == ("improved", "worse")
    gain = next(c.difference for c in up.comparisons if c.metric == "exact")
    assert gain.low > 0
    assert f"exact {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" in up.reason
    assert "above 0" in up.reason
    assert "below 0" in down.reason
    assert up.by_domain["soft"]["exact"][0].mean == 0
    assert (
        up.by_domain["soft"]["exact"][1]
        == derive_scores(MOSTLY_RIGHT, METRICS).by_domain["soft"]["exact"]
    )


def test_shuffled_answers_are_no_evidence() -> None:
    """What training on shuffled labels gives: as often right as before, on other rows."""
    scores = [1.0] * 20 + [0.0] * 44
    dice = random.Random(4)
    base, tuned = (rows_of(dice.sample(scores, 64)) for _ in range(2))
    made = report(base, tuned)
    assert made.verdict == "no evidence"
    assert "the interval holds 0. A suite like this shows differences from about 0." in made.reason


def test_the_same_answers_are_no_evidence() -> None:
    assert report(MOSTLY_RIGHT, MOSTLY_RIGHT).verdict == "no evidence"
    assert report(NONE_RIGHT, NONE_RIGHT).verdict == "no evidence"


def test_a_suite_row_in_the_training_rows_outweighs_any_gain() -> None:
    made = report(NONE_RIGHT, MOSTLY_RIGHT, contaminated=("row9", "row1", "row7", "row3"))
    assert made.verdict == "contaminated"
    assert made.contaminated_rows == ["row1", "row3", "row7", "row9"]
    assert "4 of 64 suite rows occur in the training rows (row1, row3, row7, ...)" in made.reason
    one = report(NONE_RIGHT, MOSTLY_RIGHT, contaminated=("row9",))
    assert "(row9), so exact" in one.reason


def test_training_rows_that_nobody_could_look_at_are_said_to_be_unknown() -> None:
    made = derive_report(
        SUITE,
        Side(NONE_RIGHT, 3.0),
        Side(MOSTLY_RIGHT, 3.1),
        forgetting_limit_nats=0.3,
        contaminated_rows=None,
        seal="s",
    )
    assert (made.verdict, made.contaminated_rows, made.clean) == ("improved", None, None)
    assert f"({scoring.NOT_CHECKED})" in made.reason


def test_forgetting_is_a_gate_of_its_own() -> None:
    kept = report(NONE_RIGHT, MOSTLY_RIGHT, forgotten=0.3)
    lost = report(NONE_RIGHT, MOSTLY_RIGHT, forgotten=0.31)
    assert (kept.forgetting_nats, kept.forgetting_passed) == (0.3, True)
    assert (lost.forgetting_nats, lost.forgetting_passed) == (0.31, False)
    assert kept.verdict == lost.verdict == "improved"


def test_equal_models_are_called_different_at_most_one_time_in_twenty() -> None:
    """A/A on whole reports: 200 seeded pairs that differ by chance alone."""
    dice = random.Random(11)
    called = 0
    for _ in range(200):
        skill = [dice.betavariate(2, 2) for _ in range(16)]
        base, tuned = (
            rows_of([float(dice.random() < skill[i % 16]) for i in range(64)]) for _ in range(2)
        )
        gain = derive_comparisons(base, tuned, ["exact"])[0].difference
        called += not gain.low <= 0 <= gain.high
    assert called <= 10


def test_rows_survive_being_written_and_read() -> None:
    rows = [{"id": "a", "text": "line\u2028separator\nand more"}, {"id": "b", "text": "é"}]
    data = scoring.write_rows(rows)
    assert data.count(b"\n") == 2
    assert scoring.read_rows(data) == rows


@pytest.mark.parametrize(
    ("data", "message"),
    [(b'{"id": 1}\n{"id"\n', "line 2 is not JSON"), (b"[1]\n", "line 1 is not a JSON object")],
)
def test_lines_that_are_no_rows_are_named(data: bytes, message: str) -> None:
    with pytest.raises(EvalError, match=message):
        scoring.read_rows(data)


def test_other_rows_cannot_be_compared() -> None:
    with pytest.raises(EvalError, match="row63"):
        derive_comparisons(NONE_RIGHT, MOSTLY_RIGHT[:-1], METRICS)
    with pytest.raises(EvalError, match="64 and 65 rows"):
        derive_comparisons(NONE_RIGHT, [*MOSTLY_RIGHT, MOSTLY_RIGHT[0]], METRICS)
    moved = [{**row, "group": "elsewhere"} for row in MOSTLY_RIGHT]
    with pytest.raises(EvalError, match="another group"):
        derive_comparisons(NONE_RIGHT, moved, METRICS)


@pytest.mark.parametrize("score", [True, "1"])
def test_a_row_without_a_number_is_refused(score: Any) -> None:
    rows = [{**row, "exact": score} for row in NONE_RIGHT]
    with pytest.raises(EvalError, match="row0 has no score for exact"):
        derive_scores(rows, METRICS)


def test_a_row_that_does_not_name_a_metric_is_refused() -> None:
    """Missing is said with null; a row that is silent was written by something else."""
    rows = [{key: value for key, value in row.items() if key != "exact"} for row in NONE_RIGHT]
    with pytest.raises(EvalError, match="row0 has no score for exact"):
        derive_scores(rows, METRICS)
    with pytest.raises(EvalError, match="row0 has no score for stopped"):
        derive_scores([{**row, "stopped": None} for row in NONE_RIGHT], METRICS)


# -- missing scores ------------------------------------------------------------------------------


def without(
    rows: list[dict[str, Any]], *missing: int, metric: str = "exact"
) -> list[dict[str, Any]]:
    """The rows, some of them without a score."""
    return [{**row, metric: None} if i in missing else row for i, row in enumerate(rows)]


def test_a_missing_score_is_missing_and_never_zero() -> None:
    made = derive_scores(without(MOSTLY_RIGHT, 0, 1, 3), METRICS)
    whole = [row for i, row in enumerate(MOSTLY_RIGHT) if i not in (0, 1, 3)]
    groups = [row["group"] for row in whole]
    assert made.metrics["exact"] == interval([row["exact"] for row in whole], groups)
    assert made.missing == {"exact": 3}
    right = sum(row["exact"] for row in whole)
    assert made.bounds == {"exact": pytest.approx([right / 64, (right + 3) / 64])}
    assert made.metrics["field_f1"].n == 64


def test_where_nothing_is_missing_nothing_is_said_of_it() -> None:
    made = derive_scores(MOSTLY_RIGHT, METRICS)
    assert (made.missing, made.bounds) == (None, None)
    assert all(
        c.missing is None and c.bounds is None for c in report(NONE_RIGHT, MOSTLY_RIGHT).comparisons
    )


def test_a_metric_without_any_score_is_left_out_and_counted() -> None:
    made = derive_scores(without(MOSTLY_RIGHT, *range(64)), METRICS)
    assert list(made.metrics) == ["field_f1"]
    assert (made.missing, made.bounds) == ({"exact": 64}, {"exact": [0.0, 1.0]})
    soft = [i for i in range(64) if i % 2 == 0]
    assert list(derive_scores(without(MOSTLY_RIGHT, *soft), METRICS).by_domain["soft"]) == [
        "field_f1"
    ]
    with pytest.raises(EvalError, match="no row has a score"):
        derive_scores(without(MOSTLY_RIGHT, *range(64)), ["exact"])


def test_rows_without_a_score_leave_the_pair() -> None:
    base, tuned = without(NONE_RIGHT, 0, 1), without(MOSTLY_RIGHT, 1, 2, 4)
    [made] = derive_comparisons(base, tuned, ["exact"])
    both = [i for i in range(64) if i not in (0, 1, 2, 4)]
    assert made.difference == paired_difference(
        [NONE_RIGHT[i]["exact"] for i in both],
        [MOSTLY_RIGHT[i]["exact"] for i in both],
        [NONE_RIGHT[i]["group"] for i in both],
    )
    assert made.missing == [2, 3]
    right = sum(row["exact"] or 0 for row in tuned)
    assert made.bounds == pytest.approx([(right - 2) / 64, (right + 3) / 64])
    assert made.bounds[0] <= made.difference.mean <= made.bounds[1]


def test_a_metric_that_leaves_no_pair_is_not_compared() -> None:
    base, tuned = without(NONE_RIGHT, *range(32)), without(MOSTLY_RIGHT, *range(32, 64))
    assert [c.metric for c in derive_comparisons(base, tuned, METRICS)] == ["field_f1"]
    with pytest.raises(EvalError, match="no row has a score for exact from both models"):
        report(base, tuned)


def test_a_report_tells_only_of_metrics_that_both_sides_have() -> None:
    made = report(NONE_RIGHT, without(MOSTLY_RIGHT, *range(64), metric="field_f1"))
    assert (list(made.base), list(made.tuned)) == (["exact"], ["exact"])
    assert list(made.by_domain["soft"]) == ["exact"]
    assert made.verdict == "improved"


# -- tests, clean rows, judged scores ------------------------------------------------------------


def test_every_difference_has_its_p_and_one_corrected_for_all_of_them() -> None:
    made = report(NONE_RIGHT, MOSTLY_RIGHT)
    for c in made.comparisons:
        groups = [row["group"] for row in NONE_RIGHT]
        scores = [[row[c.metric] for row in rows] for rows in (NONE_RIGHT, MOSTLY_RIGHT)]
        assert c.p == paired_test(*scores, groups).p
    assert [c.adjusted_p for c in made.comparisons] == holm([c.p for c in made.comparisons])
    assert made.minimum_detectable == minimum_detectable(made.comparisons[0].difference)


def test_an_older_edition_is_derived_as_it_was() -> None:
    """What was sealed before has no p, no clean rows and nothing of what it could have shown."""
    made = derive_report(
        SUITE,
        Side(NONE_RIGHT, 3.0),
        Side(MOSTLY_RIGHT, 3.1),
        forgetting_limit_nats=0.3,
        contaminated_rows=["row1"],
        seal="s",
        edition=1,
    )
    told = made.model_dump(mode="json")
    assert not {"clean", "minimum_detectable", "judge", "spent"} & set(told)
    assert not {"p", "adjusted_p", "missing", "bounds"} & set(told["comparisons"][0])


def test_contaminated_rows_are_listed_and_the_others_compared_apart() -> None:
    seen = {f"row{i}" for i in range(8)}
    made = report(NONE_RIGHT, MOSTLY_RIGHT, contaminated=tuple(sorted(seen)))
    kept = [[r for r in rows if r["id"] not in seen] for rows in (NONE_RIGHT, MOSTLY_RIGHT)]
    assert made.verdict == "contaminated"
    assert made.clean == derive_comparisons(*kept, METRICS)
    gain = made.clean[0].difference
    told = f"Without them: {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] on 56."
    assert made.reason.endswith(told)
    assert made.contaminated_rows == sorted(seen)


def test_nothing_is_clean_where_all_or_no_rows_are_contaminated() -> None:
    everything = tuple(row["id"] for row in NONE_RIGHT)
    made = report(NONE_RIGHT, MOSTLY_RIGHT, contaminated=everything)
    assert (made.verdict, made.clean) == ("contaminated", None)
    assert "Without them" not in made.reason
    assert report(NONE_RIGHT, MOSTLY_RIGHT).clean is None


def test_clean_rows_without_the_primary_metric_say_nothing_of_it() -> None:
    """The only row with a score is a contaminated one."""
    base, tuned = (without(rows, *range(1, 64)) for rows in (NONE_RIGHT, MOSTLY_RIGHT))
    made = report(base, tuned, contaminated=("row0",))
    assert [c.metric for c in made.clean or ()] == ["field_f1"]
    assert "Without them" not in made.reason


JUDGE = JudgeSeal(
    judge_model_id="judge",
    judge_identity={"provider": "local"},
    judge_prompt_hash="ab",
    rubric="science",
    rubric_sha256="cd",
    decoding={"temperature": 0},
    parser="levels/1",
)
SPENT = Spent(
    requests=64,
    latency_s_p50=0.1,
    latency_s_p95=0.2,
    input_tokens=None,
    output_tokens=9,
    cost_usd=None,
    price_source=None,
)


def judged(rows: list[dict[str, Any]], *, judge: JudgeSeal | None = JUDGE) -> Side:
    """A side whose answers a model judged by two criteria; one is missing everywhere."""
    levels = [{**row, "clarity": row["exact"] / 2, "overall": row["field_f1"]} for row in rows]
    body = ScoresBody(
        model=ModelRef(name="m", origin="folder", digest="m"),
        suite_digest="",
        answers_digest="",
        seal="s",
        metrics=derive_scores(levels, ["clarity", "overall"]).metrics,
        by_domain={},
        stop_rate=interval([1.0], ["a"]),
        general_cross_entropy=3.0,
        primary="overall",
        missing={"risk": 64},
        judge=judge,
        spent=SPENT,
    )
    return Side.of([{**row, "risk": None} for row in levels], body)


def test_a_report_of_judged_scores_has_their_metrics_and_their_judge() -> None:
    base, tuned = judged(NONE_RIGHT), judged(MOSTLY_RIGHT)
    assert base.metrics == ["clarity", "overall", "risk"]
    made = derive_report(
        SUITE, base, tuned, forgetting_limit_nats=0.3, contaminated_rows=[], seal="s"
    )
    assert made.primary == "overall"
    assert [c.metric for c in made.comparisons] == ["clarity", "overall"]
    assert (made.judge, made.spent) == (JUDGE, [SPENT, SPENT])
    assert made.reason.startswith("overall ")


def test_scores_by_rule_have_the_suites_metrics() -> None:
    by_rule = Side.of(NONE_RIGHT, judged_body(None))
    assert (by_rule.metrics, by_rule.primary) == (None, None)


def judged_body(judge: JudgeSeal | None) -> ScoresBody:
    return ScoresBody(
        model=ModelRef(name="m", origin="folder", digest="m"),
        suite_digest="",
        answers_digest="",
        seal="s",
        metrics={},
        by_domain={},
        stop_rate=interval([1.0], ["a"]),
        general_cross_entropy=None,
        judge=judge,
    )


def test_own_metrics_are_those_of_a_judge_or_of_another_primary() -> None:
    assert own_metrics(judged_body(None)) is None
    assert own_metrics(judged_body(JUDGE)) == []
    own = judged_body(None).model_copy(update={"primary": "overall"})
    assert own_metrics(own) == []


def test_judged_scores_are_not_compared_with_scores_by_rule() -> None:
    with pytest.raises(EvalError, match="not scored alike"):
        derive_report(
            SUITE,
            judged(NONE_RIGHT),
            Side(MOSTLY_RIGHT, 3.0),
            forgetting_limit_nats=0.3,
            contaminated_rows=[],
            seal="s",
        )


def test_a_model_without_likelihoods_is_compared_but_not_reported() -> None:
    with pytest.raises(EvalError, match="a model of an API gives none"):
        derive_report(
            SUITE,
            Side(NONE_RIGHT, None),
            Side(MOSTLY_RIGHT, 3.0),
            forgetting_limit_nats=0.3,
            contaminated_rows=[],
            seal="s",
        )
    assert derive_comparisons(NONE_RIGHT, MOSTLY_RIGHT, METRICS)
