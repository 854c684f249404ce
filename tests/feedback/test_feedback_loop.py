from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import (
    Artifact,
    Comparison,
    DecisionBody,
    Interval,
    Safety,
    ScoresBody,
    SuiteBody,
    WeaknessBody,
)
from nexa.core.store import Store
from nexa.data.filters import leaks
from nexa.feedback.feedback_generators.closed import LEAK
from nexa.feedback.feedback_loop import DecideSpec, decide, falls, rises, stop_reason
from tests.feedback import made

Score = Callable[[Mapping[str, Any]], float]


@pytest.fixture
def weak(store: Store) -> Artifact[WeaknessBody]:
    return made.weak(store, by=("domain", "length"))


@pytest.fixture
def suite(store: Store) -> Artifact[SuiteBody]:
    return made.suite(store, made.prompts(24, first=100), "acceptance")


def scored(
    store: Store, suite: Artifact[SuiteBody], score: Score, name: str
) -> Artifact[ScoresBody]:
    return made.scores(store, suite, made.mark(made.prompts(24, first=100), score), name)


def decided(
    store: Store,
    weak: Artifact[WeaknessBody],
    suite: Artifact[SuiteBody],
    after: Score,
    *,
    before: Score | None = None,
    report: Mapping[str, Any] | None = None,
    **spec: Any,
) -> DecisionBody:
    wrong = before or made.right_but_for(made.WEAK)
    one, two = scored(store, suite, wrong, "before"), scored(store, suite, after, "after")
    compared = made.report(store, suite, one, two, **(report or {}))
    draft = decide(
        DecideSpec(**{"name": "r", "dataset_before": "a", "dataset_after": "b", **spec}),
        weakness=weak,
        suite=suite,
        before=one,
        report=compared,
        after=two,
        store=store,
    )
    assert json.loads(draft.files["decision.json"]) == draft.body.model_dump(mode="json")  # type: ignore[arg-type]
    return draft.body


def number(row: Mapping[str, Any]) -> int:
    return int(row["id"].rsplit("-", 1)[1])


def test_a_round_is_kept_where_the_weak_slice_rises_and_no_other_falls(
    store: Store, weak: Artifact[WeaknessBody], suite: Artifact[SuiteBody]
) -> None:
    body = decided(store, weak, suite, made.right_but_for(), added=24, spent_usd=0.25)
    assert body.accepted
    assert body.reasons == []
    assert body.verdict == "improved"
    assert body.reason.startswith("kept: domain=furnace: exact +0.875 [+")
    assert (
        "on 24 rows in 12 groups rises; none of 5 other slices falls (the lowest: " in body.reason
    )
    assert body.slices[0] == "domain=furnace"
    assert len(body.slices) == len(body.targets) + len(body.others) == 6
    assert (body.added, body.spent_usd, body.dataset_after) == (24, 0.25, "b")


def test_two_weak_slices_that_rise_are_both_told(store: Store, suite: Artifact[SuiteBody]) -> None:
    weak = made.weak(store, rules=("domain=furnace: exact < 0.9", "domain=letter: exact < 0.99"),
                     score=made.right_but_for("furnace", "letter"))  # fmt: skip
    body = decided(
        store,
        weak,
        suite,
        made.right_but_for(),
        before=made.right_but_for("furnace", "letter"),
    )
    assert body.accepted
    assert " and domain=letter: exact +0.875 [" in body.reason
    assert "groups rise; the whole suite: improved; +0.000 nats forgotten." in body.reason
    # Nothing but the two was looked at.
    assert body.others == []


def test_nothing_that_rises_is_no_evidence(
    store: Store, weak: Artifact[WeaknessBody], suite: Artifact[SuiteBody]
) -> None:
    body = decided(store, weak, suite, made.right_but_for(made.WEAK))
    assert not body.accepted
    assert body.reason.startswith(
        "rolled back: no evidence that a weak slice rises: domain=furnace: exact +0.000 ["
    )
    assert body.verdict == "no evidence"


def test_a_slice_that_pays_for_it_rolls_the_round_back(
    store: Store, weak: Artifact[WeaknessBody], suite: Artifact[SuiteBody]
) -> None:
    body = decided(store, weak, suite, made.right_but_for("letter"))
    assert not body.accepted
    [why] = [reason for reason in body.reasons if "domain=letter" in reason]
    assert why.startswith("the other slice domain=letter: exact -0.875 [")
    assert why.endswith("falls")


def test_a_weak_slice_that_falls_rolls_the_round_back(
    store: Store, suite: Artifact[SuiteBody]
) -> None:
    rules = ("domain=catalogue: exact < 0.99", "domain=letter: exact < 0.99")
    weak = made.weak(store, rules=rules, score=lambda _: 0.0)
    body = decided(
        store,
        weak,
        suite,
        after=lambda row: float(row["domain"] == "catalogue"),
        before=lambda row: float(row["domain"] == "letter"),
    )
    assert any(reason.startswith("the weak slice domain=letter") for reason in body.reasons)
    assert not any("no evidence" in reason for reason in body.reasons)


def test_a_whole_suite_that_is_worse_or_contaminated_rolls_the_round_back(
    store: Store, weak: Artifact[WeaknessBody], suite: Artifact[SuiteBody]
) -> None:
    body = decided(store, weak, suite, lambda _: 0.0)
    assert any(reason.startswith("the whole suite is worse: exact -") for reason in body.reasons)
    named = ["furnace-100", "letter-101"]
    body = decided(store, weak, suite, made.right_but_for(), report={"contaminated": named})
    assert body.verdict == "contaminated"
    [why] = body.reasons
    assert why.startswith("the whole suite is contaminated: 2 of 72 suite rows occur")
    # The rows that are known do not count as risen either.
    assert body.targets[0].difference.n == 23


def test_what_was_forgotten_rolls_the_round_back(
    store: Store, weak: Artifact[WeaknessBody], suite: Artifact[SuiteBody]
) -> None:
    forgot = {"forgetting_passed": False, "forgetting_nats": 0.45}
    body = decided(store, weak, suite, made.right_but_for(), report=forgot)
    assert body.reasons == [
        "+0.450 nats a token were forgotten on general text, at most 0.3 are allowed"
    ]


@pytest.mark.parametrize(("flags", "kept"), [((2, 3), False), ((2, 2), True), ((0, 1), False)])
def test_more_red_flags_than_before_roll_the_round_back(
    store: Store,
    weak: Artifact[WeaknessBody],
    suite: Artifact[SuiteBody],
    flags: tuple[int, int],
    kept: bool,
) -> None:
    score = Interval(mean=1, low=1, high=1, n=1, groups=1)
    safety = [
        Safety(rules="1", safety_score=score, red_flag_count=n, flagged_rows=[], kinds={})
        for n in flags
    ]
    body = decided(store, weak, suite, made.right_but_for(), report={"safety": safety})
    assert body.accepted is kept
    if not kept:
        assert body.reasons == [f"{flags[1]} red flags in the answers, {flags[0]} before"]


@pytest.mark.parametrize(
    ("echoed", "added", "said"),
    [
        (12, 48, "the generator echoed 12 evaluation rows among 60 candidates (20%, at most 5%"),
        (1, 9, "the generator echoed 1 evaluation row among 10 candidates (10%, at most 5%"),
        (1, 39, None),
        (0, 0, None),
    ],
)
def test_a_generator_that_echoes_evaluation_rows_is_caught(
    store: Store,
    weak: Artifact[WeaknessBody],
    suite: Artifact[SuiteBody],
    echoed: int,
    added: int,
    said: str | None,
) -> None:
    rejected = {LEAK: echoed} if echoed else {}
    body = decided(store, weak, suite, made.right_but_for(), added=added, rejected=rejected)
    assert body.accepted is (said is None)
    assert said is None or body.reasons[0].startswith(said)


def test_echoes_are_counted_under_the_data_layer_s_own_name() -> None:
    assert leaks.LEAK == LEAK


def test_a_round_without_a_new_candidate_is_rolled_back_without_a_comparison(
    store: Store, weak: Artifact[WeaknessBody], suite: Artifact[SuiteBody]
) -> None:
    before = scored(store, suite, made.right_but_for(), "before")
    for rejected, said in (
        ({"exact duplicate": 3, LEAK: 1}, "exact duplicate 3, leaks a held-out row 1"),
        ({}, "there was none"),
    ):
        spec = DecideSpec(name="r", rejected=rejected)
        body = decide(spec, weakness=weak, suite=suite, before=before, store=store).body
        assert (body.accepted, body.verdict) == (False, "not compared")
        assert body.reasons[0] == f"no candidate was new ({said})"
        assert len(body.reasons) == (2 if rejected else 1)
    with pytest.raises(EvalError, match="metals@v2 cannot be decided on without its scores"):
        decide(
            DecideSpec(name="r", dataset_after="metals@v2"),
            weakness=weak,
            suite=suite,
            before=before,
            store=store,
        )


def test_slices_of_too_few_rows_are_not_judged(
    store: Store, weak: Artifact[WeaknessBody], suite: Artifact[SuiteBody]
) -> None:
    body = decided(store, weak, suite, made.right_but_for(), minimum_groups=13)
    assert body.targets == []
    assert body.reasons == ["no weak slice has 4 rows in 13 groups on the suite for acceptance"]
    elsewhere = made.weak(
        store,
        made.prompts(12, domains=("furnace", "letter")),
        rules=("domain=furnace: exact < 0.9",),
    )
    few = made.suite(store, made.prompts(12, first=300, domains=("letter", "catalogue")), "few")
    marks = made.mark(made.prompts(12, first=300, domains=("letter", "catalogue")), lambda _: 1.0)
    one, two = (made.scores(store, few, marks, name) for name in ("one", "two"))
    report = made.report(store, few, one, two)
    draft = decide(
        DecideSpec(name="r", dataset_after="b"),
        weakness=elsewhere,
        suite=few,
        before=one,
        report=report,
        after=two,
        store=store,
    )
    assert draft.body.targets == []


def test_slices_of_the_very_same_rows_are_corrected_for_once(store: Store) -> None:
    def tagged(first: int, each: int) -> list[dict[str, Any]]:
        rows = made.prompts(each, first=first)
        return [row | {"tags": ["hot"] if row["domain"] == "furnace" else []} for row in rows]

    rules = ("domain=furnace: exact < 0.9", "tag=hot: exact < 0.9")
    weak = made.weak(store, tagged(0, 12), by=("domain", "tag"), rules=rules)
    suite = made.suite(store, tagged(100, 24), "acceptance")
    body = decided(store, weak, suite, made.right_but_for())
    assert body.slices == ["domain=furnace", "tag=hot"]
    one, two = body.targets
    assert one == two
    assert one.adjusted_p == one.p


def test_the_suite_where_weaknesses_were_found_proves_nothing(
    store: Store, weak: Artifact[WeaknessBody]
) -> None:
    same: Artifact[SuiteBody] = store.by_digest(weak.body.suite_digest)
    marks = made.mark(made.prompts(12), lambda _: 1.0)
    one, two = (made.scores(store, same, marks, name) for name in ("one", "two"))
    report = made.report(store, same, one, two)
    with pytest.raises(EvalError, match="were found on suite/analysis@v1 itself"):
        decide(
            DecideSpec(name="r"),
            weakness=weak,
            suite=same,
            before=one,
            report=report,
            after=two,
            store=store,
        )


def test_suites_that_share_a_row_are_refused(store: Store, weak: Artifact[WeaknessBody]) -> None:
    rows = made.prompts(8)
    shared = made.suite(store, rows, "shared")
    one, two = (
        made.scores(store, shared, made.mark(rows, lambda _: 1.0), name) for name in ("a", "b")
    )
    with pytest.raises(EvalError, match="shares rows with suite/analysis@v1"):
        decide(
            DecideSpec(name="r"),
            weakness=weak,
            suite=shared,
            before=one,
            report=made.report(store, shared, one, two),
            after=two,
            store=store,
        )


def test_scores_and_reports_of_something_else_are_refused(
    store: Store, weak: Artifact[WeaknessBody], suite: Artifact[SuiteBody]
) -> None:
    one, two = (scored(store, suite, made.right_but_for(), name) for name in ("one", "two"))
    rows = made.prompts(4, first=500)
    other = made.suite(store, rows, "other")
    strange = made.scores(store, other, made.mark(rows, lambda _: 1.0))
    report = made.report(store, suite, one, two)
    given = {"weakness": weak, "suite": suite, "report": report, "store": store}
    with pytest.raises(EvalError, match="was not taken on suite/acceptance@v1"):
        decide(DecideSpec(name="r"), before=one, after=strange, **given)  # type: ignore[arg-type]
    with pytest.raises(EvalError, match="does not compare with scores/two@v1 as its base"):
        decide(DecideSpec(name="r"), before=two, after=two, **given)  # type: ignore[arg-type]


def comparison(mean: float, low: float, high: float, p: float | None = None) -> Comparison:
    return Comparison(
        metric="exact",
        difference=Interval(mean=mean, low=low, high=high, n=8, groups=4),
        better=0,
        worse=0,
        adjusted_p=p,
    )


@pytest.mark.parametrize(
    ("gain", "fell"),
    [
        ((-0.05, -0.09, -0.01), True),  # for certain
        ((-0.25, -0.60, 0.10), True),  # far, and no rise of that size is possible
        ((-0.25, -0.80, 0.30), False),  # far, and nobody knows
        ((-0.12, -0.35, 0.05), False),  # a row of eight
        ((0.0, -0.1, 0.1), False),
    ],
)
def test_a_slice_falls_for_certain_or_too_far(gain: tuple[float, float, float], fell: bool) -> None:
    assert falls(comparison(*gain), 0.2) is fell


def test_a_slice_rises_only_after_correction() -> None:
    assert rises(comparison(0.2, 0.1, 0.3))
    assert rises(comparison(0.2, 0.1, 0.3, 0.049))
    assert not rises(comparison(0.2, 0.1, 0.3, 0.051))
    assert not rises(comparison(0.2, 0.0, 0.3, 0.01))


def body_of(number: int, *, accepted: bool, usd: float | None = 0.5, up: bool = True) -> Any:
    gain = (0.3, 0.1, 0.5) if up else (0.0, -0.1, 0.1)
    return DecisionBody(
        round=number,
        accepted=accepted,
        reason="",
        verdict="improved",
        generator="pool",
        dataset_before="a",
        dataset_after="b",
        added=1,
        rejected={},
        targets=[comparison(*gain)],
        others=[],
        slices=["domain=x"],
        spent_usd=usd,
    )


def test_the_loop_ends_for_a_reason_and_goes_on_without_one() -> None:
    kept, unpaid = body_of(1, accepted=True), body_of(2, accepted=True, usd=None)
    assert stop_reason([], rounds=2) is None
    assert stop_reason([], rounds=2, weak=3) is None
    assert stop_reason([kept], rounds=2) is None
    assert stop_reason([kept], rounds=1) == "the one round is done"
    assert stop_reason([kept, unpaid], rounds=2) == "all 2 rounds are done"
    spent = stop_reason([kept], rounds=3, budget_usd=0.5)
    assert spent == "the budget of $0.50 is spent ($0.5000)"
    assert stop_reason([kept, unpaid], rounds=3, budget_usd=0.6) is None
    assert stop_reason([kept], rounds=3, weak=0) == "no evidence: no slice is surely weak"
    flat = body_of(2, accepted=False, up=False)
    assert stop_reason([kept, flat], rounds=3) == "no evidence: round 2 raised no weak slice"
    # What was rolled back although it rose (it echoed, it harmed others) may be tried otherwise.
    assert stop_reason([kept, body_of(2, accepted=False)], rounds=3) is None


def test_equal_models_are_hardly_ever_kept(
    store: Store, weak: Artifact[WeaknessBody], suite: Artifact[SuiteBody]
) -> None:
    """Before and after drawn from one coin: 20 rounds."""
    import random

    kept = 0
    for seed in range(20):
        draw = random.Random(seed)
        coin: Score = lambda _, d=draw: float(d.random() < 0.6)  # type: ignore[misc]  # noqa: E731
        kept += decided(store, weak, suite, coin, before=coin).accepted
    assert kept <= 1
