from __future__ import annotations

import json

import pytest

from nexa.core import events
from nexa.core.errors import EvalError
from nexa.core.records import Artifact, DatasetBody, ReportBody, SuiteBody
from nexa.core.scoring import Side, derive_report
from nexa.core.store import Store
from nexa.eval.analyze import FORGETTING_LIMIT_NATS, AnalyzeSpec, analyze
from nexa.eval.suite import read_suite
from tests.eval import made
from tests.eval.test_compare import JUDGE, marked, resealed


def report(
    store: Store,
    suite: Artifact[SuiteBody],
    dataset: Artifact[DatasetBody],
    *,
    right: tuple[int, int] = (0, 11),
    spec: AnalyzeSpec | None = None,
) -> ReportBody:
    base = made.scores(store, suite, marked(store, suite, right[0]), name="base")
    tuned = made.scores(
        store, suite, marked(store, suite, right[1]), name="tuned", cross_entropy=3.2
    )
    spec = spec or AnalyzeSpec(name="r")
    draft = analyze(spec, suite=suite, dataset=dataset, base=base, tuned=tuned, store=store)
    assert json.loads(draft.files["report.json"]) == draft.body.model_dump(mode="json")
    return draft.body


def test_a_tuned_model_that_answers_right_has_improved(
    store: Store, suite: Artifact[SuiteBody], dataset: Artifact[DatasetBody]
) -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append):
        body = report(store, suite, dataset)
    assert (body.verdict, body.contaminated_rows) == ("improved", [])
    assert [event["verdict"] for event in heard] == ["improved"]
    assert body.forgetting_nats == pytest.approx(0.2)
    assert body.forgetting_limit_nats == FORGETTING_LIMIT_NATS
    assert body.forgetting_passed
    strict = report(store, suite, dataset, spec=AnalyzeSpec("r", 0.1))
    assert (strict.verdict, strict.forgetting_passed) == ("improved", False)


def test_worse_and_no_evidence_are_said(
    store: Store, suite: Artifact[SuiteBody], dataset: Artifact[DatasetBody]
) -> None:
    assert report(store, suite, dataset, right=(11, 0)).verdict == "worse"
    assert report(store, suite, dataset, right=(5, 6)).verdict == "no evidence"


def test_the_report_is_derived_from_the_rows_alone(
    store: Store, suite: Artifact[SuiteBody], dataset: Artifact[DatasetBody]
) -> None:
    """What a verifier does with the published files, without the store."""
    body = report(store, suite, dataset)
    again = derive_report(
        suite.body,
        Side(marked(store, suite, 0), 3.0),
        Side(marked(store, suite, 11), 3.2),
        forgetting_limit_nats=body.forgetting_limit_nats,
        contaminated_rows=body.contaminated_rows,
        seal=body.seal,
    )
    assert again == body


def test_eval_rows_among_the_training_rows_are_contamination(
    store: Store, suite: Artifact[SuiteBody]
) -> None:
    asked = read_suite(suite, store)
    held_out = {row["row_id"]: row for row in made.record_rows()}
    copied, edited = held_out[asked[0].id], held_out[asked[1].id]
    text = edited["messages"][0]["content"].replace(" arrived.", "  ARRIVED!")
    leaked = [
        *made.record_rows(("sodium", "argon", "radium", "radon", "barium")),
        {**copied, "row_id": "x"},
        made.row("y", text, edited["messages"][1]["content"]),
    ]
    body = report(store, suite, made.dataset(store, {"train": leaked}, "leaked"))
    assert body.verdict == "contaminated"
    assert {asked[0].id, asked[1].id} <= set(body.contaminated_rows)


def test_one_model_is_not_compared_with_itself(
    store: Store, suite: Artifact[SuiteBody], dataset: Artifact[DatasetBody]
) -> None:
    base = made.scores(store, suite, marked(store, suite, 3), name="base")
    with pytest.raises(EvalError, match="the same model"):
        analyze(
            AnalyzeSpec(name="r"), suite=suite, dataset=dataset, base=base, tuned=base, store=store
        )


def test_training_rows_must_be_there_to_be_searched(
    store: Store, suite: Artifact[SuiteBody]
) -> None:
    held = made.dataset(store, {"eval": made.record_rows()}, "held")
    with pytest.raises(EvalError, match="no rows in its split 'train'"):
        report(store, suite, held)


def test_contaminated_rows_are_left_out_in_a_comparison_of_their_own(
    store: Store, suite: Artifact[SuiteBody]
) -> None:
    """The score rises, and the verdict says that it proves nothing; the other rows are told."""
    asked = {q.id for q in read_suite(suite, store)[:2]}
    leaked = [
        *made.record_rows(("sodium", "argon", "radium", "radon", "barium")),
        *(
            {**row, "row_id": f"copy {i}"}
            for i, row in enumerate(made.record_rows())
            if row["row_id"] in asked
        ),
    ]
    body = report(store, suite, made.dataset(store, {"train": leaked}, "leaked"))
    assert (body.verdict, set(body.contaminated_rows or ())) == ("contaminated", asked)
    assert body.clean is not None
    assert body.clean[0].difference.n == suite.body.rows - 2
    assert body.clean[0].difference.mean > 0.5
    assert "Without them: +" in body.reason


def test_a_report_of_judged_scores_holds_the_judges_seal(
    store: Store, suite: Artifact[SuiteBody], dataset: Artifact[DatasetBody]
) -> None:
    base, tuned = (
        resealed(
            store,
            made.scores(store, suite, marked(store, suite, right), name=f"{name}-rule"),
            name,
            judge=JUDGE,
            primary="exact",
        )
        for name, right in (("base", 0), ("tuned", 11))
    )
    draft = analyze(
        AnalyzeSpec(name="r"), suite=suite, dataset=dataset, base=base, tuned=tuned, store=store
    )
    assert (draft.body.verdict, draft.body.primary) == ("improved", "exact")
    assert draft.body.judge == JUDGE
