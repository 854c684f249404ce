from __future__ import annotations

import random
from typing import Any

import pytest

from nexa.core import scoring
from nexa.core.errors import EvalError
from nexa.core.records import ReportBody, SuiteBody
from nexa.core.scoring import Side, derive_comparisons, derive_report, derive_scores
from nexa.core.statistics import interval, paired_difference

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


@pytest.mark.parametrize("score", [None, True, "1"])
def test_a_row_without_a_number_is_refused(score: Any) -> None:
    rows = [{**row, "exact": score} for row in NONE_RIGHT]
    with pytest.raises(EvalError, match="row0 has no score for exact"):
        derive_scores(rows, METRICS)
