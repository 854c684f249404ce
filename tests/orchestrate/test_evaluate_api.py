"""`nexa eval` and `nexa compare` with models of an API, asked on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import AccessError, BudgetSpent, ModelError, UsageError
from nexa.core.events import Event, listening
from nexa.core.manifest import find_manifest
from nexa.lm.client import Price
from nexa.orchestrate.evaluate import (
    Asked,
    Terms,
    compare_models,
    evaluate_models,
    preview_models,
)
from nexa.orchestrate.evaluate_api import api_names, is_api
from nexa.orchestrate.verifying.verify import verify
from tests.support.project import Finished, notes, rows, write_rows
from tests.support.scripted_endpoint import Fault, Script, ScriptedEndpoint
from tests.support.teacher import answered

PRICE = Price(1.0, 2.0, source="a test")
SUITE = Asked(suite="elements")


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(Script(function=answered)) as served:
        yield served


def terms_of(endpoint: ScriptedEndpoint, **changes: Any) -> Terms:
    return Terms(**{"base_url": endpoint.url, "price": PRICE, **changes})


def newest(project: Finished) -> Any:
    return find_manifest(project.tiers.manifests, "latest")


@pytest.mark.parametrize(
    ("name", "remote"),
    [
        ("gpt-4o", True),
        ("openai:anything", True),
        ("anthropic:anything", True),
        ("m@http://127.0.0.1:8000/v1", True),
        ("scripted:table.json", True),
        ("smollm2-135m", False),
        ("org/name", False),
        ("checkpoint/x@v1", False),
        ("latest", False),
    ],
)
def test_whose_names_are_asked_over_an_api(name: str, remote: bool) -> None:
    assert is_api(name) is remote


def test_an_address_is_for_the_one_model_that_is_named() -> None:
    terms = Terms(base_url="http://127.0.0.1:1/v1")
    assert api_names(["my-model"], terms) == ["my-model"]
    assert api_names(["latest", "gpt-4o"], terms) == ["gpt-4o"]
    assert api_names(["latest"], Terms()) == []
    with pytest.raises(UsageError, match="none is named"):
        api_names(["one", "two"], terms)
    with pytest.raises(UsageError, match="MODEL@URL"):
        api_names(["latest"], Terms(budget_usd=1.0))


def test_a_name_with_its_address_needs_no_other() -> None:
    terms = Terms(base_url="http://elsewhere/v1", budget_usd=2.0)
    assert terms.choice("m@http://127.0.0.1:1/v1").base_url is None
    assert terms.choice("openai:m").base_url == "http://elsewhere/v1"
    assert terms.choice("openai:m").budget_usd == 2.0


def test_a_teacher_is_scored_on_a_frozen_suite_and_paid_once(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    [made] = evaluate_models(["wise"], SUITE, project.root, terms=terms_of(endpoint))
    body = made.scores.body
    assert (body.model.name, body.model.origin) == ("wise", "api:openai")
    assert body.metrics["exact"].mean == 1.0
    assert body.general_cross_entropy is None
    assert body.spent is not None
    manifest = newest(project)
    assert (manifest.status, manifest.student_model) == ("done", "wise")
    assert manifest.inputs["model"] == body.model.digest
    assert manifest.cost.teacher_usd == body.spent.cost_usd
    assert manifest.teacher_tokens == {
        "input": body.spent.input_tokens,
        "output": body.spent.output_tokens,
    }
    assert "scores and report, derived again" in verify("latest", project.root).checks
    billed = len(endpoint.billed)
    [again] = evaluate_models(["wise"], SUITE, project.root, terms=terms_of(endpoint))
    assert again.scores.digest == made.scores.digest
    assert len(endpoint.billed) == billed
    assert newest(project).cost.teacher_usd is None


def test_a_teacher_stands_beside_the_model_that_was_trained(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    names = ["latest", f"wise@{endpoint.url}"]
    first, second = evaluate_models(names, SUITE, project.root)
    assert first.scores.digest == project.manifest.outputs["tuned_scores"]
    assert second.minus_first is not None
    assert {c.metric for c in second.minus_first} == set(first.scores.body.metrics)
    compared = compare_models("latest", f"wise@{endpoint.url}", Asked(), project.root)
    assert compared == second.minus_first


def test_rows_of_a_file_are_measured_by_the_config_s_model(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    path = write_rows(project.root / "more.jsonl", rows(range(200, 203)))
    asked = Asked(data=path, max_new_tokens=40, task="json_record", metrics=("exact",))
    [made] = evaluate_models(["wise"], asked, project.root, terms=terms_of(endpoint))
    suite = project.tiers.store.by_digest(made.scores.body.suite_digest)
    assert (suite.body.rows, suite.body.task) == (3, "json_record")
    assert "exact" in suite.body.metrics
    assert len(suite.body.metrics) < 6


def test_without_a_config_a_file_needs_a_model_that_measures_it(
    tmp_path: Path, endpoint: ScriptedEndpoint
) -> None:
    path = write_rows(tmp_path / "more.jsonl", rows(range(200, 203)))
    with pytest.raises(UsageError, match="measured in the tokens of a local model"):
        evaluate_models(["wise"], Asked(data=path), tmp_path, terms=terms_of(endpoint))


def test_a_dry_run_sends_and_writes_nothing(
    project: Finished, endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    before = sorted(project.tiers.manifests.iterdir())
    path = write_rows(project.root / "more.jsonl", rows(range(200, 204)))
    kept = len(list(project.tiers.store.root.rglob("*")))
    [file] = preview_models(
        ["latest", "gpt-4o"], Asked(data=path, max_new_tokens=10), Terms(), project.root
    )
    assert (file.teacher, file.requests, file.cached, file.output_tokens) == ("gpt-4o", 4, 0, 40)
    assert file.usd is not None
    assert file.usd > 0
    assert len(list(project.tiers.store.root.rglob("*"))) == kept
    [suite] = preview_models(["wise"], SUITE, terms_of(endpoint, price=None), project.root)
    assert (suite.usd, suite.price_source) == (None, None)
    assert endpoint.billed == []
    assert sorted(project.tiers.manifests.iterdir()) == before
    with pytest.raises(UsageError, match="a dry run tells what models of an API cost"):
        preview_models(["latest"], SUITE, Terms(), project.root)


def test_a_dry_run_knows_what_is_answered_already(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    evaluate_models(["wise"], SUITE, project.root, terms=terms_of(endpoint))
    [found] = preview_models(["wise"], SUITE, terms_of(endpoint), project.root)
    assert found.cached == found.requests
    assert found.usd == 0


def test_where_the_budget_ends_the_manifest_has_what_was_paid(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    terms = terms_of(endpoint, budget_usd=0.00025, concurrency=1, per_minute=6000)
    with pytest.raises(BudgetSpent):
        evaluate_models(["wise"], SUITE, project.root, terms=terms)
    manifest = newest(project)
    assert manifest.status == "failed"
    paid = len(endpoint.billed)
    assert paid > 0
    assert manifest.teacher_tokens["input"] > 0
    [made] = evaluate_models(["wise"], SUITE, project.root, terms=terms_of(endpoint))
    assert len(endpoint.billed) == made.scores.body.stop_rate.n


def test_what_was_left_without_an_answer_is_asked_once_more(project: Finished) -> None:
    fault = Fault(do="status", status=400, when="item0", attempts=(1,), times=1)
    events: list[Event] = []
    with ScriptedEndpoint(Script(function=answered, faults=(fault,))) as served:
        terms = Terms(base_url=served.url, price=PRICE, concurrency=1)
        asked = Asked(data=write_rows(project.root / "few.jsonl", rows(range(300, 304))))
        fault.when = json.loads(json.dumps(rows([300])[0]["target_answer"]))["name"]
        with listening(events.append):
            [first] = evaluate_models(["wise"], asked, project.root, terms=terms)
        assert first.scores.body.missing is not None
        assert any("the same command asks them again" in note for note in notes(events))
        [second] = evaluate_models(["wise"], asked, project.root, terms=terms)
        assert second.scores.body.missing is None
        assert len(served.billed) == 4


def test_two_teachers_costs_are_added_up(project: Finished, endpoint: ScriptedEndpoint) -> None:
    names = [f"{name}@{endpoint.url}" for name in ("wise", "wiser")]
    made = evaluate_models(names, SUITE, project.root, terms=Terms(price=PRICE))
    costs = [each.scores.body.spent.cost_usd or 0 for each in made if each.scores.body.spent]
    assert newest(project).cost.teacher_usd == pytest.approx(sum(costs))
    assert newest(project).teacher_tokens["input"] > 0


def test_an_api_without_its_key_makes_no_run(
    project: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(AccessError, match="OPENAI_API_KEY"):
        evaluate_models(["gpt-4o"], SUITE, project.root)
    assert newest(project).run_id == project.manifest.run_id


def test_parents_are_those_of_a_model_of_this_machine(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    with pytest.raises(ModelError, match="was made from"):
        evaluate_models(["wise"], SUITE, project.root, parents=True, terms=terms_of(endpoint))
