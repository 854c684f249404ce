"""What is said of scored answers beside their record, at the level of records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexa.core.records import (
    AgreementBody,
    Artifact,
    CriterionAgreement,
    Draft,
    Figure,
    JudgementsBody,
    JudgeSeal,
    Spent,
)
from nexa.core.store import Store
from nexa.orchestrate.leaderboard_facts import latencies, seal_parts, subjects_of
from nexa.orchestrate.leaderboards import Records
from nexa.ui.leaderboard_entries import Subject, entries_of
from tests.support.chain import Chain, build_chain, seal
from tests.support.project import Finished

JUDGE = JudgeSeal(
    judge_model_id="wise",
    judge_identity={"provider": "openai", "model": "wise-1"},
    judge_prompt_hash="1" * 64,
    rubric="default",
    rubric_sha256="2" * 64,
    decoding={"temperature": 0.0},
    parser="levels/1",
)
SPENT = Spent(
    requests=4,
    latency_s_p50=None,
    latency_s_p95=None,
    input_tokens=None,
    output_tokens=9,
    cost_usd=0.002,
    price_source=None,
)
FIGURE = Figure(value=0.5, low=0.25, high=0.75, n=8)
AGREED = CriterionAgreement(
    kappa=FIGURE,
    kappa_quadratic=FIGURE,
    spearman=FIGURE,
    alpha=FIGURE,
    between_people=None,
    judged=None,
    people=None,
    corrected=None,
)


@pytest.fixture
def chain(tiny_llama: Path, tmp_path: Path) -> Chain:
    return build_chain(tmp_path / "chain", tiny_llama)


def judged(chain: Chain, **changes: Any) -> Artifact[Any]:
    """The tuned model's scores as a judge's: its judgements, and the record that names them."""
    suite, answers = chain.records["suite"], chain.records["tuned_answers"]
    body = JudgementsBody(
        model=answers.body.model,
        suite_digest=suite.digest,
        answers_digest=answers.digest,
        mode="absolute",
        seal=JUDGE,
        criteria=["exact"],
        primary="exact",
        repeats=1,
        requested=12,
        unparsable=0,
        retried=0,
        failed=0,
        self_judged=False,
        served=[],
        spent=SPENT,
    )
    draft = Draft("judgements", "elements", body, {"judgements.jsonl": b"{}\n"})
    judgements = seal(chain.store, "judge", draft, suite=suite, answers=answers)
    scores = chain.records["tuned_scores"]
    told = scores.body.model_copy(update={"judge": JUDGE, **changes})
    rows = chain.store.path(scores, "scores.jsonl").read_bytes()
    again = Draft("scores", "elements-judged", told, {"scores.jsonl": rows})
    inputs = {"suite": suite, "answers": answers, "judgements": judgements}
    return seal(chain.store, "score_judged", again, **inputs)


def agree(chain: Chain, scores: Artifact[Any], value: float | None) -> None:
    figure = FIGURE.model_copy(update={"value": value})
    body = AgreementBody(
        model=scores.body.model,
        suite_digest=scores.body.suite_digest,
        judgements_digest=scores.inputs["judgements"],
        seal=JUDGE,
        labels_sha256="3" * 64,
        raters=["a"],
        labelled=8,
        unknown=0,
        criteria={"exact": AGREED.model_copy(update={"alpha": figure})},
    )
    seal(chain.store, "agree", Draft("agreement", "people", body, {}))


def test_the_parts_of_a_judged_seal_are_told(chain: Chain) -> None:
    parts = seal_parts(judged(chain, safety=None), chain.store)

    assert parts["judge"] == "wise"
    assert parts["judge, model"] == "wise-1"
    assert parts["judge prompt"] == "1" * 16
    assert parts["rubric"] == f"default {'2' * 16}"
    assert parts["judge's temperature"] == "0.0"
    assert parts["parser"] == "levels/1"
    assert "hazard rules" not in parts  # these were not looked through


def test_how_far_the_judge_agrees_with_people_is_known_where_labels_were_given(
    chain: Chain,
) -> None:
    scores = judged(chain, spent=SPENT)
    agree(chain, scores, 0.5)

    [subject] = subjects_of({"scores": scores}, {}, store=chain.store).values()

    assert subject.agreement == {"exact": (0.5, "Krippendorff's alpha, 8 rows")}
    entry = entries_of({"scores": scores}, {}, {"scores": subject})[0]
    assert (entry.human_agreement, entry.judge_model_id) == (0.5, "wise")
    assert entry.cost_usd_per_1000_prompts == 0.5
    assert entry.cost_source == "the answers' record"
    assert entry.latency_s_p50 == 0.25  # of the answers' rows, for the record has none


def test_agreement_that_is_not_defined_or_of_other_judgements_is_none(chain: Chain) -> None:
    scores = judged(chain)
    agree(chain, scores, None)
    rule = chain.records["tuned_scores"]

    subjects = subjects_of({"scores": scores, "b_scores": rule}, {}, store=chain.store)

    assert subjects["scores"].agreement == subjects["b_scores"].agreement == {}
    assert subjects["scores"].cost_source == "own machine, not metered"


def test_latencies_are_the_median_and_what_95_of_100_do_not_pass() -> None:
    rows = [{"latency_s": float(second)} for second in range(1, 101)]

    assert latencies(rows) == (50.0, 95.0)
    assert latencies(rows[:1]) == (1.0, 1.0)
    assert latencies([{"latency_s": None}]) is None


def test_what_a_conversion_saw_is_what_the_model_saw_that_it_was_made_from(
    project: Finished,
) -> None:
    store, outputs = project.tiers.store, project.manifest.outputs
    export = store.by_digest(outputs["export"])
    converted = sealed_export(store, export, "7" * 64, export=export)
    adopted = sealed_export(store, export, "8" * 64, checkpoint=store.by_digest(outputs["suite"]))

    def subject_of(digest: str) -> Subject:
        scores = store.by_digest(outputs["tuned_scores"])
        model = scores.body.model.model_copy(update={"digest": digest})
        body = scores.body.model_copy(update={"model": model})
        rows = store.path(scores, "scores.jsonl").read_bytes()
        draft = Draft("scores", "again", body, {"scores.jsonl": rows})
        inputs = {role: store.by_digest(scores.inputs[role]) for role in ("suite", "answers")}
        again = seal(store, "score", draft, **inputs)
        [subject] = subjects_of({"scores": again}, {}, store=store).values()
        return subject

    assert converted.inputs["export"] == export.digest
    assert (subject_of("7" * 64).model, subject_of("7" * 64).contaminated) == ("other-7@v1", ())
    assert (subject_of("8" * 64).model, subject_of("8" * 64).contaminated) == ("other-8@v1", None)
    assert adopted.name == "other-8"


def sealed_export(
    store: Store, like: Artifact[Any], digest: str, **inputs: Artifact[Any]
) -> Artifact[Any]:
    """An export of another digest, made from what is named."""
    body = like.body.model_copy(update={"model_digest": digest})
    draft = Draft("export", f"other-{digest[0]}", body, {"x": digest.encode()})
    return seal(store, "convert", draft, **inputs)


def test_a_report_that_looked_is_believed_and_a_damaged_one_passed_over(chain: Chain) -> None:
    scores = chain.records["tuned_scores"]
    [subject] = subjects_of({"scores": scores}, {}, store=chain.store).values()
    assert (subject.role, subject.contaminated) == ("tuned", ())

    report = chain.records["report"]
    unknown = report.body.model_copy(update={"contaminated_rows": None})
    seal(
        chain.store,
        "analyze",
        Draft("report", "again", unknown, {}),
        suite=chain.records["suite"],
        base=chain.records["base_scores"],
        tuned=scores,
    )
    path = chain.store.root / "records" / "report" / f"{report.digest}.json"
    path.chmod(0o644)
    path.write_text("damaged")
    [subject] = subjects_of({"scores": scores}, {}, store=chain.store).values()
    assert subject.contaminated is None


def test_scores_are_paired_on_the_rows_that_both_have(chain: Chain) -> None:
    base, tuned = (
        entry for entry in entries_of(chain.records, chain.manifest) if entry.metric == "exact"
    )
    records = Records((chain.store,))

    found = records.paired(base, tuned)

    assert found is not None
    assert (round(found.mean, 3), found.n, found.groups) == (0.833, 12, 6)
    assert records.paired(replace(base, metric="macro"), replace(tuned, metric="macro")) is None
    assert records.paired(replace(base, scores_digest=None), tuned) is None
    assert records.paired(base, replace(tuned, scores_digest="0" * 64)) is None
