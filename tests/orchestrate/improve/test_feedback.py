"""`nexa feedback`: one pass without a training, and the next training takes what it made."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from nexa.core.config import load_config
from nexa.core.errors import BudgetSpent, ConfigError, UsageError
from nexa.core.lineage import walk
from nexa.lm.client import Price
from nexa.orchestrate.evaluate import Asked, evaluate_model
from nexa.orchestrate.improve.asked import Options
from nexa.orchestrate.improve.candidates import NoCandidates, pool_rows
from nexa.orchestrate.improve.feedback import feedback
from nexa.orchestrate.judging import Judging, judge_answers
from nexa.orchestrate.sealed_data import current
from nexa.orchestrate.teaching import Choice
from nexa.orchestrate.verifying.verify import verify
from tests.orchestrate.improve.conftest import Project
from tests.support.improving import WEAK, rows, teach
from tests.support.judge import Messages, decided, inside
from tests.support.project import train, write_rows
from tests.support.scripted_endpoint import Script, ScriptedEndpoint


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(Script(function=teach)) as served:
        yield served


def taught(endpoint: ScriptedEndpoint, **changes: object) -> Options:
    fields = {
        "generator": "teacher",
        "teacher": "wise",
        "base_url": endpoint.url,
        "price": Price(1.0, 2.0, source="a test"),
        "rows": 6,
        **changes,
    }
    return Options(**fields)  # type: ignore[arg-type]


def test_a_new_version_has_rows_where_the_model_is_weak(trained: Project) -> None:
    fed = feedback("latest", Options(), trained.root)
    assert [one.name for one in fed.weak] == [f"domain={WEAK}"]
    assert (fed.dataset_before, fed.dataset_after) == ("dataset/words@v1", "dataset/words@v2")
    assert fed.added == 40
    made = current("words", trained.tiers)
    assert made.label == fed.dataset_after
    assert made.body.domains[WEAK] == 40
    run = trained.runs()[-1]
    assert (run.run_type, run.status, run.dataset_id) == ("feedback", "done", "words@v2")
    assert any(node.label.startswith("weakness/") for node in walk(made, trained.tiers.store))
    assert "acceptance" not in {
        trained.tiers.store.by_digest(digest).body.part
        for role, digest in run.outputs.items()
        if role == "analysis_suite"
    }
    assert verify(None, trained.root)


def test_the_next_training_takes_it(trained: Project) -> None:
    feedback("latest", Options(), trained.root)
    text = trained.config.read_text().replace("./train.jsonl", "dataset/words")
    trained.config.write_text(text.replace("max_steps: 120", "max_steps: 2"))
    manifest = train(trained.config)
    assert manifest.dataset_id == "words@v2"
    assert manifest.outputs["suite"] == trained.runs()[0].outputs["suite"]
    assert json.loads((trained.root / "output" / "final_model.json").read_text())["dataset"] == (
        "dataset/words@v2"
    )


def test_where_nothing_is_weak_nothing_is_made(trained: Project) -> None:
    fed = feedback("latest", Options(rules=("exact_match < 0.001",)), trained.root)
    assert (fed.weak, fed.dataset_after) == ([], None)
    assert fed.why == "no slice of 4 is weak"


def test_a_pool_without_such_rows_changes_nothing(trained: Project) -> None:
    write_rows(trained.root / "pool.jsonl", rows("metals", range(200, 205)))
    fed = feedback("latest", Options(), trained.root)
    assert fed.dataset_after is None
    assert fed.why.startswith("there are no candidates: ")


def test_candidates_that_are_held_out_rows_change_nothing(trained: Project) -> None:
    write_rows(trained.root / "pool.jsonl", rows(WEAK, range(100, 130)))
    fed = feedback("latest", Options(), trained.root)
    assert fed.dataset_after is None
    assert fed.rejected == {"leaks a held-out row": 30}
    assert fed.to_json()["why"] == "leaks a held-out row 30"


def test_a_teacher_is_shown_rows_of_the_slice_and_needs_some(
    trained: Project, endpoint: ScriptedEndpoint
) -> None:
    fed = feedback("latest", taught(endpoint, budget_usd=9.0), trained.root)
    assert fed.why.startswith("there are no candidates: ")
    assert endpoint.billed == []
    feedback("latest", Options(rows=3), trained.root)
    known = trained.config.read_text().replace("./train.jsonl", "dataset/words")
    trained.config.write_text(known.replace("max_steps: 120", "max_steps: 2"))
    train(trained.config)
    with pytest.raises(BudgetSpent, match="does not reach for the teacher's answers"):
        feedback("latest", taught(endpoint, budget_usd=1e-6), trained.root)
    assert endpoint.billed == []
    taught_rows = feedback("latest", taught(endpoint, budget_usd=5.0), trained.root)
    assert taught_rows.dataset_after == "dataset/words@v3"
    assert taught_rows.added == 6
    run = trained.runs()[-1]
    assert run.teacher_model == "wise"
    assert run.cost_estimate_usd_total > 0
    feedback("latest", taught(endpoint, rows=7, price=None), trained.root)
    assert trained.runs()[-1].dataset_id == "words@v4"


def test_a_run_without_a_model_has_no_weakness(trained: Project) -> None:
    evaluate_model("latest", Asked(), trained.root)
    run_id = trained.runs()[-1].run_id
    with pytest.raises(UsageError, match="made no model whose weaknesses"):
        feedback(run_id, Options(), trained.root)


def test_a_config_that_is_nowhere_any_more_is_told(trained: Project) -> None:
    digest = trained.runs()[0].config_sha256
    assert digest is not None
    trained.tiers.store.blob(digest).unlink()
    with pytest.raises(ConfigError, match="is nowhere any more"):
        feedback("latest", Options(), trained.root)


def test_without_a_pool_nobody_has_a_row(trained: Project) -> None:
    base, config = object(), load_config(trained.config)
    with pytest.raises(NoCandidates, match="no pool"):
        pool_rows(None, "words", base, config, trained.root)  # type: ignore[arg-type]


def dislikes_the_weak(messages: Messages) -> str:
    """A judge to whom nothing is clear that does not say what gases are."""
    told = inside(messages)
    return decided(messages, 2 if WEAK in json.dumps(told) else 5)


def test_a_rule_may_name_what_a_judge_grades(trained: Project) -> None:
    options = Options(rules=("clarity < 3.0",))
    with pytest.raises(UsageError, match="have clarity") as caught:
        feedback("latest", options, trained.root)
    assert "judged: nothing" in str(caught.value)
    assert caught.value.fix is not None
    named = caught.value.fix.split()[2]
    assert named.startswith("answers/")

    with ScriptedEndpoint(Script(function=dislikes_the_weak)) as endpoint:
        choice = Choice(name="wise", base_url=endpoint.url, price=Price(1.0, 2.0, source="a test"))
        judge_answers(named, Judging(), choice, Asked(), trained.root)
    fed = feedback("latest", options, trained.root)

    assert [one.name for one in fed.weak] == [f"domain={WEAK}"]
    assert fed.weak[0].mean == 2.0
    made = current("words", trained.tiers)
    assert made.body.domains[WEAK] == fed.added
    assert any(node.label.startswith("judgements/") for node in walk(made, trained.tiers.store))


def test_a_metric_that_nobody_gave_is_told_with_those_there_are(trained: Project) -> None:
    with ScriptedEndpoint(Script(function=dislikes_the_weak)) as endpoint:
        choice = Choice(name="wise", base_url=endpoint.url, price=Price(1.0, 2.0, source="a test"))
        judge_answers("latest", Judging(), choice, Asked(), trained.root)
    with pytest.raises(UsageError, match="have beauty") as caught:
        feedback("latest", Options(rules=("beauty < 3.0",)), trained.root)
    assert "by rule: exact_match" in str(caught.value)
