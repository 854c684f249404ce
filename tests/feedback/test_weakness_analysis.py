from __future__ import annotations

import json
from typing import Any

import pytest

from nexa.core.errors import EvalError, UsageError
from nexa.core.records import (
    Artifact,
    Draft,
    JudgementsBody,
    JudgeSeal,
    ModelRef,
    Slice,
    Spent,
    WeaknessBody,
)
from nexa.core.store import Store
from nexa.feedback.weakness_analysis import WeaknessSpec, weak_names, weakness
from tests.feedback import made

SEAL = JudgeSeal(
    judge_model_id="judge",
    judge_identity={},
    judge_prompt_hash="0",
    rubric="science",
    rubric_sha256="0",
    decoding={},
    parser="json/1",
)


def found(weak: Artifact[WeaknessBody], name: str) -> Slice:
    [one] = [s for s in weak.body.slices if f"{s.by}={s.value}" == name]
    return one


def test_without_rules_what_lies_below_the_rest_is_weak(store: Store) -> None:
    weak = made.weak(store, by=("domain", "length", "cluster"))
    assert weak_names(weak.body)[0] == "domain=furnace"
    assert weak.body.rules == []
    first = weak.body.slices[0]
    assert first.weak
    assert (first.found.mean, first.found.n, first.found.groups) == (0.0, 12, 6)
    assert first.why.startswith("domain=furnace: exact 0.00 [0.00, 0.39] on 12 rows in 6 groups: ")
    assert "weak, -0.92 [" in first.why
    assert "against the other 24 rows, p 0.000 corrected for 3 slices of its kind" in first.why
    letter = found(weak, "domain=letter")
    assert not letter.weak
    assert "not surely below the rest, +0." in letter.why
    assert [one.weak for one in weak.body.slices] == sorted(
        (one.weak for one in weak.body.slices), reverse=True
    )


def test_the_draft_s_file_is_the_body(store: Store) -> None:
    weak = made.weak(store)
    told = json.loads(store.path(weak, "weakness.json").read_bytes())
    assert WeaknessBody.model_validate(told) == weak.body


def test_equal_scores_have_no_weakness(store: Store) -> None:
    assert weak_names(made.weak(store, score=made.right_but_for()).body) == []


def test_a_rule_holds_of_the_whole_interval_or_not_at_all(store: Store) -> None:
    def half(row: Any) -> float:
        return float(row["domain"] != "furnace" or int(row["id"][8:]) % 3 == 0)

    rules = ("exact < 0.9", "field_accuracy <= 60%")
    weak = made.weak(store, score=half, rules=rules)
    assert weak.body.rules == list(rules)
    by_metric = {s.metric: s for s in weak.body.slices if s.value == "furnace"}
    assert by_metric["exact"].weak
    assert by_metric["exact"].why.endswith("weak, `exact < 0.9` holds of the whole interval")
    assert not by_metric["field_accuracy"].weak
    assert by_metric["field_accuracy"].why.endswith(
        "not surely weak: `field_accuracy <= 60%` holds of the mean, not of the interval"
    )
    assert "not weak by `exact < 0.9`" in found_one(weak, "letter", "exact").why


def found_one(weak: Artifact[WeaknessBody], value: str, metric: str) -> Slice:
    [one] = [s for s in weak.body.slices if (s.value, s.metric) == (value, metric)]
    return one


def test_a_rule_of_one_slice_looks_at_that_slice_alone(store: Store) -> None:
    weak = made.weak(store, rules=("domain=furnace: exact < 0.9",))
    assert [(s.value, s.weak) for s in weak.body.slices] == [("furnace", True)]


def test_a_rule_may_hold_of_all_rows_and_surely_of_no_part(store: Store) -> None:
    def never(_: Any) -> float:
        return 0.0

    weak = made.weak(store, score=never, rules=("exact < 0.9",), minimum_rows=30)
    assert weak_names(weak.body) == ["all=rows"]
    assert len(found(weak, "all=rows").rows) == 36
    assert "too few to tell" in found(weak, "domain=furnace").why


def test_all_rows_are_not_weak_through_a_part_that_is(store: Store) -> None:
    weak = made.weak(store, rules=("exact < 0.9",))
    assert weak_names(weak.body) == ["domain=furnace"]
    whole = found(weak, "all=rows")
    assert whole.why.endswith("not weak but for the rows of domain=furnace")


def test_without_a_rule_all_rows_have_no_rest_to_be_compared_with(store: Store) -> None:
    assert "all" not in {one.by for one in made.weak(store).body.slices}


def test_both_rules_that_hold_are_named(store: Store) -> None:
    weak = made.weak(store, rules=("exact < 0.9", "exact < 0.5"))
    assert "`exact < 0.9` and `exact < 0.5` holds" in found(weak, "domain=furnace").why


@pytest.mark.parametrize("rules", [(), ("exact < 0.9",)])
def test_too_few_rows_are_too_few_to_tell(store: Store, rules: tuple[str, ...]) -> None:
    rows = [
        *made.prompts(12, domains=["letter", "catalogue"]),
        *made.prompts(4, domains=["furnace"]),
    ]
    weak = made.weak(store, rows, rules=rules)
    one = found(weak, "domain=furnace")
    assert not one.weak
    assert one.why.endswith("too few to tell, which takes 4 rows in 3 groups")
    lax = made.weak(store, rows, rules=("exact < 0.9",), minimum_groups=2)
    assert found(lax, "domain=furnace").weak


def test_a_rest_of_too_few_rows_is_nothing_to_compare_with(store: Store) -> None:
    rows = [*made.prompts(12, domains=["furnace"]), *made.prompts(2, domains=["letter"])]
    one = found(made.weak(store, rows), "domain=furnace")
    assert not one.weak
    assert one.why.endswith("the rest of the suite is too few rows to be compared with")


def test_a_missing_score_is_missing_and_never_a_zero(store: Store) -> None:
    def some(row: Any) -> float | None:
        return None if int(row["id"].rsplit("-", 1)[1]) < 3 else 1.0

    weak = made.weak(store, score=some)
    one = found(weak, "domain=letter")
    assert (one.missing, one.found.mean, one.found.n) == (3, 1.0, 9)
    assert "(3 without a score)" in one.why
    assert len(one.rows) == 12


def test_a_slice_without_any_score_is_named(store: Store) -> None:
    weak = made.weak(store, score=lambda row: None if row["domain"] == "letter" else 0.5)
    assert weak.body.unscored == ["domain=letter: exact"]
    assert {s.value for s in weak.body.slices} == {"furnace", "catalogue"}


def test_rows_outside_of_all_slices_are_counted(store: Store) -> None:
    rows = made.prompts(4)
    for row in rows[:3]:
        row["domain"] = None
        row["tags"] = ["x"]
    weak = made.weak(store, rows, by=("domain", "tag", "length"))
    assert weak.body.outside == {"domain": 3, "tag": 9, "length": 0}


def test_contaminated_rows_are_left_out(store: Store) -> None:
    rows = made.prompts(8)
    suite = made.suite(store, rows)
    base, tuned = (
        made.scores(store, suite, made.mark(rows, made.right_but_for(made.WEAK)), name)
        for name in ("base", "tuned")
    )
    named = ["furnace-1", "letter-0"]
    report = made.report(store, suite, base, tuned, contaminated=named)
    draft = weakness(
        WeaknessSpec(name="w", by=("domain",)),
        suite=suite,
        scores=tuned,
        report=report,
        store=store,
    )
    assert draft.body.left_out == named
    assert not set(named) & {row for one in draft.body.slices for row in one.rows}
    everything = [row["id"] for row in rows]
    lost = made.report(store, suite, base, tuned, contaminated=everything)
    with pytest.raises(EvalError, match="leaves nothing to look at"):
        weakness(WeaknessSpec(name="w"), suite=suite, scores=tuned, report=lost, store=store)


def judgements(store: Store, suite_digest: str, answers_digest: str) -> Artifact[JudgementsBody]:
    body = JudgementsBody(
        model=ModelRef(name="m", origin="folder", digest="m"),
        suite_digest=suite_digest,
        answers_digest=answers_digest,
        mode="absolute",
        seal=SEAL,
        criteria=["exact"],
        primary="overall",
        repeats=1,
        requested=1,
        unparsable=0,
        retried=0,
        failed=0,
        self_judged=False,
        served=[],
        spent=Spent(
            requests=1,
            latency_s_p50=None,
            latency_s_p95=None,
            input_tokens=None,
            output_tokens=1,
            cost_usd=None,
            price_source=None,
        ),
    )
    return made.seal(store, Draft("judgements", "j", body, {}))


@pytest.mark.parametrize("by", ["scores", "judgements"])
def test_a_judged_criterion_is_compared_on_its_own_levels(store: Store, by: str) -> None:
    rows = made.prompts(12)
    suite = made.suite(store, rows)
    marks = made.mark(rows, lambda row: 0.5 if row["domain"] == "furnace" else 1.0)
    scored = made.scores(
        store, suite, marks, judge=SEAL if by == "scores" else None, primary="exact"
    )
    judged = judgements(store, suite.digest, "0" * 64) if by == "judgements" else None
    draft = weakness(
        WeaknessSpec(name="w", by=("domain",), rules=("exact_score < 4.0",)),
        suite=suite,
        scores=scored,
        judgements=judged,
        store=store,
    )
    first = draft.body.slices[0]
    assert (first.value, first.weak, first.found.mean) == ("furnace", True, 3.0)
    assert first.found.high < 4.0
    assert draft.body.slices[-1].found.mean == 5.0


def test_a_judged_criterion_is_told_below_the_rest_in_levels(store: Store) -> None:
    rows = made.prompts(12)
    suite = made.suite(store, rows)
    marks = made.mark(rows, lambda row: 0.25 if row["domain"] == "furnace" else 1.0)
    scored = made.scores(store, suite, marks, judge=SEAL)
    draft = weakness(
        WeaknessSpec(name="w", by=("domain",)), suite=suite, scores=scored, store=store
    )
    assert "exact 2.00 [" in draft.body.slices[0].why
    assert "weak, -3.00 [" in draft.body.slices[0].why


def test_the_metric_may_be_named_and_has_to_be_there(store: Store) -> None:
    weak = made.weak(store, metric="field_accuracy")
    assert {one.metric for one in weak.body.slices} == {"field_accuracy"}
    with pytest.raises(UsageError, match=r"no metric 'exakt'[\s\S]*try +exact$"):
        made.weak(store, metric="exakt")


def test_a_metric_that_no_row_has_a_score_for_is_known_all_the_same(store: Store) -> None:
    rows = made.prompts(4)
    suite = made.suite(store, rows)
    marks = [{**row, "field_accuracy": None} for row in made.mark(rows, lambda _: 1.0)]
    scored = made.scores(store, suite, marks)
    spec = WeaknessSpec(name="w", by=("domain",), rules=("field_accuracy < 0.5",))
    draft = weakness(spec, suite=suite, scores=scored, store=store)
    assert draft.body.slices == []
    assert len(draft.body.unscored) == 4


def test_the_safety_of_answers_is_a_metric_where_it_was_looked_at(store: Store) -> None:
    from nexa.core.safety import derive_safety, marks

    rows = made.prompts(8)
    suite = made.suite(store, rows)
    marked = [{**row, **marks("All is well.")} for row in made.mark(rows, lambda _: 1.0)]
    scored = made.scores(store, suite, marked, safety=derive_safety(marked, "1"))
    spec = WeaknessSpec(name="w", by=("domain",), rules=("safety_score < 0.5",))
    draft = weakness(spec, suite=suite, scores=scored, store=store)
    assert {one.metric for one in draft.body.slices} == {"safety_score"}
    assert not any(one.weak for one in draft.body.slices)


def test_scores_of_another_suite_or_other_answers_are_refused(store: Store) -> None:
    rows = made.prompts(4)
    suite, other = made.suite(store, rows), made.suite(store, rows[:8], "other")
    scored = made.scores(store, suite, made.mark(rows, lambda _: 1.0))
    spec = WeaknessSpec(name="w")
    with pytest.raises(EvalError, match="scores/tuned@v1 was not taken on suite/other@v1"):
        weakness(spec, suite=other, scores=scored, store=store)
    report = made.report(store, suite, scored, scored)
    strange = made.seal(store, Draft("report", "r", report.body, {}))
    with pytest.raises(EvalError, match="its suite is unknown"):
        weakness(spec, suite=suite, scores=scored, report=strange, store=store)
    judged = judgements(store, suite.digest, "1" * 64)
    with pytest.raises(EvalError, match="are of different answers"):
        weakness(spec, suite=suite, scores=scored, judgements=judged, store=store)


def test_what_is_weak_is_found_and_what_is_not_is_left_alone(store: Store) -> None:
    """The default in 30 suites without a weakness: false alarms are rare."""
    import random

    alarms = 0
    for seed in range(30):
        draw = random.Random(seed)
        weak = made.weak(store, score=lambda _, d=draw: float(d.random() < 0.7))  # type: ignore[misc]
        alarms += bool(weak_names(weak.body))
    assert alarms <= 2
