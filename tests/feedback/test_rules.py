from __future__ import annotations

import pytest

from nexa.core.errors import UsageError
from nexa.core.records import Interval
from nexa.feedback.rules import LEVELS, UNIT, parse, settle

METRICS = ["exact", "field_accuracy", "falsifiability"]
JUDGED = ["falsifiability"]
SLICES = ["domain=f_block", "domain=a: b", "length=to 140"]


@pytest.mark.parametrize(
    ("text", "metric", "threshold", "or_equal", "of"),
    [
        ("exact < 0.5", "exact", 0.5, False, None),
        ("exact<.5", "exact", 0.5, False, None),
        ("field_accuracy <= 60%", "field_accuracy", 0.6, True, None),
        ("falsifiability < 4.0", "falsifiability", 4.0, False, None),
        ("falsifiability_score < 4.0", "falsifiability", 4.0, False, None),
        ("domain=f_block: exact < 0.9", "exact", 0.9, False, "domain=f_block"),
        ("domain=a: b: exact < 1", "exact", 1.0, False, "domain=a: b"),
        ("length=to 140:  exact <= 0", "exact", 0.0, True, "length=to 140"),
    ],
)
def test_a_rule_names_a_metric_a_threshold_and_perhaps_a_slice(
    text: str, metric: str, threshold: float, or_equal: bool, of: str | None
) -> None:
    [rule] = settle([text], METRICS, JUDGED, SLICES)
    assert (rule.metric, rule.threshold, rule.or_equal, rule.slice) == (
        metric,
        pytest.approx(threshold),
        or_equal,
        of,
    )


@pytest.mark.parametrize("text", ["", "exact", "exact <", "< 0.5", "exact < half", "exact = 0.5"])
def test_what_is_no_rule_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"METRIC < NUMBER[\s\S]*falsifiability < 4.0"):
        parse(text)


def test_a_rule_the_wrong_way_round_says_so() -> None:
    with pytest.raises(UsageError, match="more is better of every metric"):
        parse("exact > 0.5")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exakt < 0.5", "names no metric of these scores[\\s\\S]*try +exact$"),
        ("exact < 4.0", "exact runs from 0 to 1"),
        ("falsifiability < 0.5", "falsifiability runs from 1 to 5"),
        ("falsifiability < 250%", "falsifiability runs from 1 to 5"),
        ("domain=f_blok: exact < 0.9", "names no slice of this suite[\\s\\S]*try +domain=f_block$"),
    ],
)
def test_a_rule_of_what_is_not_there_names_the_nearest(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settle([text], METRICS, JUDGED, SLICES)


def test_no_slices_are_told_as_such() -> None:
    with pytest.raises(UsageError, match="no slices"):
        settle(["tag=x: exact < 0.9"], METRICS, JUDGED, [])


def test_below_and_at_most_differ_at_the_threshold_alone() -> None:
    below, at_most = parse("exact < 0.5"), parse("exact <= 0.5")
    assert [below.holds(v) for v in (0.4, 0.5, 0.6)] == [True, False, False]
    assert [at_most.holds(v) for v in (0.4, 0.5, 0.6)] == [True, True, False]


def test_levels_run_from_one_to_five() -> None:
    found = Interval(mean=0.5, low=0.25, high=1.0, n=4, groups=2)
    shown = LEVELS.interval(found)
    assert (shown.mean, shown.low, shown.high, shown.n) == (3.0, 2.0, 5.0, 4)
    assert UNIT.interval(found) == found
