from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import BudgetSpent, ConfigError, EvalError, ModelError, UsageError
from nexa.core.events import Event, listening
from nexa.core.identity import sha256_bytes
from nexa.core.lineage import walk
from nexa.core.manifest import find_manifest
from nexa.core.scoring import read_rows
from nexa.eval.rubrics.reading import load_rubric
from nexa.eval.verdicts import Decoding, prompt_hash
from nexa.lm.client import Price
from nexa.orchestrate.evaluate import Asked
from nexa.orchestrate.judging import Judged, Judging, judge_answers, preview_judging
from nexa.orchestrate.teaching import Choice
from nexa.orchestrate.verifying.verify import verify
from tests.support.judge import decided, first_place, inside, judge
from tests.support.project import Finished, write_rows
from tests.support.scripted_endpoint import Fault, Script, ScriptedEndpoint, billed_in

PRICE = Price(1.0, 2.0, source="a test")


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(Script(function=judge)) as served:
        yield served


def choice_of(endpoint: ScriptedEndpoint, **changes: Any) -> Choice:
    return Choice(**({"name": "wise", "base_url": endpoint.url, "price": PRICE} | changes))


def judged(
    project: Finished,
    endpoint: ScriptedEndpoint,
    reference: str | None = None,
    *,
    how: Judging | None = None,
    asked: Asked | None = None,
    **changes: Any,
) -> Judged:
    return judge_answers(
        reference,
        how or Judging(),
        choice_of(endpoint, **changes),
        asked or Asked(),
        project.root,
    )


def asked_for(project: Finished) -> int:
    """How many different answers base and tuned gave: equal ones are judged once."""
    store = project.tiers.store
    given = set()
    for side in ("base", "tuned"):
        answers = store.by_digest(project.manifest.outputs[f"{side}_answers"])
        rows = read_rows(store.path(answers, "answers.jsonl").read_bytes())
        given |= {(row["id"], row["text"]) for row in rows}
    return len(given)


def notes(heard: list[Event]) -> list[str]:
    return [str(event["text"]) for event in heard if "text" in event]


def test_both_sides_of_a_training_are_graded_and_compared(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    made = judged(project, endpoint, project.manifest.run_id)
    rubric = load_rubric()
    assert len(made.graded) == 2
    assert len(endpoint.billed) == asked_for(project)
    for one in made.graded:
        assert list(one.scores.body.metrics) == rubric.metrics
        assert one.scores.body.judge == one.judgements.body.seal
        assert one.agreement is None
    assert made.report is not None
    report = made.report.body
    assert (report.primary, report.judge) == ("overall", made.graded[0].judgements.body.seal)
    assert {c.metric for c in report.comparisons} == set(rubric.metrics)
    manifest = find_manifest(project.tiers.manifests, made.run_id)
    assert (manifest.run_type, manifest.status, manifest.eval_status) == ("eval", "done", "done")
    assert manifest.judge_model_id == "wise"
    assert manifest.judge_prompt_hash == prompt_hash("absolute")
    assert manifest.verdict == report.verdict
    assert manifest.eval_summary["overall"] == report.tuned["overall"].mean
    assert {"base_judgements", "tuned_judgements", "base_scores", "report"} <= set(manifest.outputs)
    cost = sum(PRICE.cost_usd(e["input_tokens"], e["output_tokens"]) for e in endpoint.billed)
    assert manifest.cost is not None
    assert manifest.cost.teacher_usd == pytest.approx(cost)
    assert manifest.teacher_tokens["input"] == sum(e["input_tokens"] for e in endpoint.billed)
    roles = {node.role for node in walk(made.report, project.tiers.store)}
    assert {"judgements", "answers", "suite"} <= roles
    assert verify(made.run_id, project.root).checks


def test_the_newest_run_with_answers_is_judged_and_what_is_known_is_not_asked_again(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    first = judged(project, endpoint)
    again = judged(project, endpoint)
    assert len(endpoint.billed) == asked_for(project)
    digests = [[one.scores.digest for one in made.graded] for made in (first, again)]
    assert digests[0] == digests[1]
    manifest = find_manifest(project.tiers.manifests, again.run_id)
    assert manifest.cost_estimate_usd_total == 0
    assert manifest.teacher_tokens == {}
    assert "base_judgements" in manifest.reused


def test_answers_by_their_name_are_judged_alone(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    answers = project.tiers.store.by_digest(project.manifest.outputs["tuned_answers"])
    made = judged(project, endpoint, answers.label)
    assert (len(made.graded), made.report, made.pairs) == (1, None, None)
    assert made.graded[0].judgements.body.answers_digest == answers.digest
    manifest = find_manifest(project.tiers.manifests, made.run_id)
    assert manifest.eval_summary["overall"] == made.graded[0].scores.body.metrics["overall"].mean
    assert verify(made.run_id, project.root).checks


def test_a_model_that_is_named_answers_first(project: Finished, endpoint: ScriptedEndpoint) -> None:
    export = project.tiers.store.by_digest(project.manifest.outputs["export"])
    suite = project.tiers.store.by_digest(project.manifest.outputs["suite"])
    made = judged(project, endpoint, export.label, asked=Asked(suite=suite.label))
    [one] = made.graded
    assert one.judgements.body.suite_digest == suite.digest
    assert one.judgements.body.requested == 8
    with pytest.raises(UsageError, match="has not answered yet"):
        preview_judging(export.label, Judging(), choice_of(endpoint), Asked(), project.root)


def test_a_run_without_answers_is_refused(project: Finished, endpoint: ScriptedEndpoint) -> None:
    run = judged(project, endpoint)
    with pytest.raises(UsageError, match="has no answers to judge"):
        judged(project, endpoint, run.run_id)
    with pytest.raises(ModelError):
        judged(project, endpoint, "no-such-model")


def test_a_folder_without_answers_says_so(tmp_path: Path, endpoint: ScriptedEndpoint) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        judge_answers(None, Judging(), choice_of(endpoint), Asked(), tmp_path)


def test_pairs_are_compared_with_the_base_in_both_orders(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    made = judged(project, endpoint, how=Judging(against="base"))
    assert made.pairs is not None
    body = made.pairs.body
    assert (body.mode, body.requested) == ("pairwise", 16)
    assert made.tallies[0].key == "overall"
    assert [one.key for one in made.tallies[1:]] == load_rubric().names
    found = made.tallies[0]
    assert found.wins + found.ties + found.losses == 8
    manifest = find_manifest(project.tiers.manifests, made.run_id)
    assert found.win_rate is not None
    assert manifest.eval_summary["win_rate_overall"] == found.win_rate.mean
    assert manifest.judge_prompt_hash == prompt_hash("pairwise")


def test_pairs_of_named_answers_are_compared(project: Finished, endpoint: ScriptedEndpoint) -> None:
    store = project.tiers.store
    base, tuned = (
        store.by_digest(project.manifest.outputs[f"{side}_answers"]) for side in ("base", "tuned")
    )
    made = judged(project, endpoint, tuned.label, how=Judging(against=base.label))
    assert made.pairs is not None
    assert made.pairs.body.answers_digest == tuned.digest
    assert made.pairs.body.other_digest == base.digest


def test_a_judge_that_leans_to_a_place_gives_a_half_and_is_told(project: Finished) -> None:
    heard: list[Event] = []
    with ScriptedEndpoint(Script(function=first_place)) as endpoint, listening(heard.append):
        made = judged(project, endpoint, how=Judging(against="base"))
    assert all(one.win_rate is not None and one.win_rate.mean == 0.5 for one in made.tallies)
    assert any("POSITION BIAS" in text for text in notes(heard))


def test_pairs_need_answers_to_the_same_suite(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    data = write_rows(project.root / "other.jsonl", [{"prompt": "a?", "completion": "b"}] * 1)
    export = project.tiers.store.by_digest(project.manifest.outputs["export"])
    made = judged(project, endpoint, export.label, asked=Asked(data=data, rows=1))
    other = project.tiers.store.by_digest(made.graded[0].judgements.body.answers_digest)
    with pytest.raises(UsageError, match="answered another suite"):
        judged(project, endpoint, project.manifest.run_id, how=Judging(against=other.label))


def test_labels_of_people_give_agreement_and_a_corrected_mean(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    suite = project.tiers.store.by_digest(project.manifest.outputs["suite"])
    rows = read_rows(project.tiers.store.path(suite, "prompts.jsonl").read_bytes())
    lines = []
    for side in ("base", "tuned"):
        answers = project.tiers.store.by_digest(project.manifest.outputs[f"{side}_answers"])
        given = read_rows(project.tiers.store.path(answers, "answers.jsonl").read_bytes())
        for row in given:
            digest = sha256_bytes(row["text"].encode())
            lines.append({"id": row["id"], "rater": side, "clarity": 4, "answer_sha256": digest})
    labels = write_rows(project.root / "labels.jsonl", lines)
    assert {row["id"] for row in rows} == {line["id"] for line in lines}
    made = judged(project, endpoint, how=Judging(labels=labels))
    for one in made.graded:
        assert one.agreement is not None
        clarity = one.agreement.body.criteria["clarity"]
        assert clarity.people is not None
        assert clarity.people.mean == 0.75
        assert clarity.spearman.value is None
        assert "there is no order" in clarity.spearman.why
    manifest = find_manifest(project.tiers.manifests, made.run_id)
    assert {"base_agreement", "tuned_agreement"} <= set(manifest.outputs)
    assert verify(made.run_id, project.root).checks
    with pytest.raises(UsageError, match="leave out --against"):
        judged(project, endpoint, how=Judging(labels=labels, against="base"))
    bare = write_rows(project.root / "bare.jsonl", [{"id": rows[0]["id"], "clarity": 4}])
    with pytest.raises(UsageError, match="does not say whose answers it grades"):
        judged(project, endpoint, how=Judging(labels=bare))


def test_a_dry_run_tells_each_job_and_sends_nothing(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    how = Judging(decoding=Decoding(repeats=2))
    choice = choice_of(endpoint)
    found = preview_judging(None, how, choice, Asked(), project.root)
    assert [one.requests for one in found] == [16, 16]
    assert all(one.usd is not None and one.usd > 0 for one in found)
    pairs = preview_judging(None, Judging(against="base"), choice, Asked(), project.root)
    assert [one.requests for one in pairs] == [16]
    assert endpoint.received == []
    judged(project, endpoint, how=how)
    after = preview_judging(None, how, choice, Asked(), project.root)
    assert [(one.cached, one.usd) for one in after] == [(16, 0.0), (16, 0.0)]
    unknown = preview_judging(None, how, choice_of(endpoint, price=None), Asked(), project.root)
    assert [(one.usd, one.price_source) for one in unknown] == [(None, None)] * 2


def test_the_budget_holds_for_both_sides_together_and_the_same_command_goes_on(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    whole = preview_judging(None, Judging(), choice_of(endpoint), Asked(), project.root)
    most = sum(one.usd or 0 for one in whole)
    with pytest.raises(BudgetSpent):
        judged(project, endpoint, budget_usd=most / 4, concurrency=1)
    paid = len(endpoint.billed)
    assert 0 < paid < asked_for(project)
    manifest = find_manifest(project.tiers.manifests, "latest")
    spent = sum(PRICE.cost_usd(e["input_tokens"], e["output_tokens"]) for e in endpoint.billed)
    assert manifest.status == "failed"
    assert manifest.cost_estimate_usd_total == pytest.approx(spent, abs=1e-6)
    made = judged(project, endpoint, budget_usd=most)
    assert len(endpoint.billed) == asked_for(project)
    assert len(made.graded) == 2


def test_requests_without_an_answer_are_asked_once_more_by_the_same_command(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    endpoint.script.faults.append(Fault(do="status", status=400, times=1))
    heard: list[Event] = []
    with listening(heard.append):
        first = judged(project, endpoint)
    assert sum(one.judgements.body.failed for one in first.graded) == 1
    assert any("the same command asks them again" in text for text in notes(heard))
    again = judged(project, endpoint)
    assert sum(one.judgements.body.failed for one in again.graded) == 0
    assert len(endpoint.billed) == asked_for(project)


def test_an_unknown_price_costs_nobody_knows_what(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    made = judged(project, endpoint, price=None)
    manifest = find_manifest(project.tiers.manifests, made.run_id)
    assert manifest.cost is not None
    assert manifest.cost.teacher_usd is None
    assert made.graded[0].judgements.body.spent.cost_usd is None


def test_a_judge_that_says_nothing_ends_the_run(project: Finished) -> None:
    with (
        ScriptedEndpoint(Script(function=lambda _: "I would rather not.")) as endpoint,
        pytest.raises(EvalError, match="gave no verdict that can be read"),
    ):
        judged(project, endpoint)
    manifest = find_manifest(project.tiers.manifests, "latest")
    assert (manifest.status, manifest.eval_status) == ("failed", "failed")


def test_leave_to_judge_itself_that_is_given_later_pays_for_nothing_again(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    first = judged(project, endpoint)
    paid = len(endpoint.billed)
    again = judged(project, endpoint, how=Judging(allow_self_judge=True))
    assert len(endpoint.received) == len(endpoint.billed) == paid
    assert again.graded[0].judgements.digest != first.graded[0].judgements.digest
    assert again.graded[0].scores.body.metrics == first.graded[0].scores.body.metrics


def test_a_local_model_does_not_judge_itself_and_its_base_is_told(
    project: Finished, tiny_llama: Path
) -> None:
    with pytest.raises(EvalError, match="would judge its own answers"):
        judge_answers(None, Judging(), Choice(str(tiny_llama)), Asked(), project.root)
    export = project.tiers.store.by_digest(project.manifest.outputs["export"])
    with pytest.raises(EvalError, match="would judge its own answers"):
        judge_answers("latest", Judging(), Choice(export.label), Asked(), project.root)


def test_a_rubric_of_the_user_judges_and_a_wrong_one_is_told_before_a_run(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    (project.root / "mine.yaml").write_text(
        "name: mine\nprimary: taste\ncriteria:\n  taste:\n    asks: Good?\n"
        "    levels: {1: a, 2: b, 3: c, 4: d, 5: e}\n"
    )
    made = judged(project, endpoint, how=Judging(rubric="mine.yaml"))
    assert list(made.graded[0].scores.body.metrics) == ["taste", "overall"]
    assert made.report is not None
    assert made.report.body.primary == "taste"
    runs = len(list(project.tiers.manifests.glob("*.json")))
    with pytest.raises(ConfigError, match="there is no rubric"):
        judged(project, endpoint, how=Judging(rubric="none.yaml"))
    assert len(list(project.tiers.manifests.glob("*.json"))) == runs


KILLED = """
import sys
from pathlib import Path
from nexa.lm.client import Price
from nexa.orchestrate.evaluate import Asked
from nexa.orchestrate.judging import Judging, judge_answers
from nexa.orchestrate.teaching import Choice

choice = Choice("wise", base_url=sys.argv[1], price=Price(1, 2, "a test"), concurrency=2)
judge_answers(None, Judging(), choice, Asked(), Path("."))
"""


def test_a_killed_run_loses_no_verdict_and_pays_for_none_twice(
    project: Finished, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with ScriptedEndpoint(Script(function=judge), ledger=ledger) as endpoint:
        moment = endpoint.stop_at(7)
        command = [sys.executable, "-c", KILLED, endpoint.url]
        with subprocess.Popen(command, cwd=project.root, env=dict(os.environ)) as process:
            moment.wait()
            process.send_signal(signal.SIGKILL)
            process.wait()
        moment.go.set()
        made = judged(project, endpoint)
    assert len(made.graded) == 2
    assert all(one.judgements.body.unparsable == 0 for one in made.graded)
    keys = [entry["key"] for entry in billed_in(ledger)]
    assert len(keys) == len(set(keys)) == asked_for(project)


def test_answers_that_address_the_judge_are_counted_through_to_the_scores(
    project: Finished,
) -> None:
    def swayed(messages: list[dict[str, str]]) -> str:
        return decided(messages, 5 if "give 5" in json.dumps(inside(messages)) else 1)

    with ScriptedEndpoint(Script(function=swayed)) as endpoint:
        made = judged(project, endpoint)
    assert made.graded[0].judgements.body.flagged is None
    assert made.graded[0].scores.body.counts["addresses the judge"] == 0
