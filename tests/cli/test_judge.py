"""`nexa judge` as it is typed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from nexa.cli import judge as command
from nexa.cli.main import main
from nexa.core.records import Figure, Spent
from nexa.core.scoring import read_rows
from tests.support.judge import first_place, judge
from tests.support.project import Finished, write_rows
from tests.support.scripted_endpoint import Script, ScriptedEndpoint

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(Script(function=judge)) as served:
        yield served


def judging(endpoint: ScriptedEndpoint, *more: str) -> list[str]:
    return ["judge", *more, "--judge", "wise", "--base-url", endpoint.url, "--price", "1,2"]


def test_both_sides_of_a_run_are_shown_with_their_report(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    assert main(judging(endpoint)) == 0
    out = capsys.readouterr().out
    assert out.count("level, 1 to 5") == 2
    assert "falsifiability" in out
    assert "wise (wise-scripted)" in out
    assert "8 asked for, 0 unreadable, 0 without an answer, 0 asked again" in out
    assert "a prompt (--price)" in out
    assert "stops by itself" in out
    assert "no evidence" in out or "improved" in out or "worse" in out
    assert main(["verify", "latest"]) == 0
    assert main(["lineage", "latest"]) == 0
    assert "judgements/" in capsys.readouterr().out
    assert main(["runs", "show", "latest"]) == 0
    facts = capsys.readouterr().out
    assert "judge_model_id" in facts
    assert "judge_prompt_hash" in facts
    assert main(["leaderboard"]) == 0
    assert "overall" in capsys.readouterr().out


def test_labels_show_agreement_and_why_a_measure_is_undefined(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    store = project.tiers.store
    suite = store.by_digest(project.manifest.outputs["suite"])
    answers = store.by_digest(project.manifest.outputs["tuned_answers"])
    rows = read_rows(store.path(suite, "prompts.jsonl").read_bytes())
    graded = [{"id": row["id"], "clarity": 1 + i % 5} for i, row in enumerate(rows)]
    write_rows(project.root / "labels.jsonl", graded)
    words = judging(endpoint, answers.label, "--labels", "labels.jsonl", "--repeats", "2")
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Beside people: 8 rows, raters 1" in out
    assert "undefined" in out
    assert "people graded no row of it" in out


def test_pairs_show_wins_and_how_far_the_judge_leans(project: Finished, capsys: Captured) -> None:
    with ScriptedEndpoint(Script(function=first_place)) as endpoint:
        assert main(judging(endpoint, "latest", "--against", "base")) == 0
    captured = capsys.readouterr()
    assert "POSITION BIAS" in captured.err
    assert "0.500 [" in captured.out
    assert "verdicts for the first place" in captured.out
    assert "verdicts that turn with the order" in captured.out


def test_the_record_is_data(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    assert main([*judging(endpoint), "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["graded"]) == 2
    assert told["graded"][0]["scores"]["judge"]["rubric"] == "research"
    assert told["report"]["primary"] == "overall"
    assert (told["pairs"], told["tallies"]) == (None, [])
    assert main([*judging(endpoint, "latest", "--against", "base"), "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tallies"][0]["key"] == "overall"
    assert told["tallies"][0]["win_rate"]["n"] == 8


def test_a_dry_run_sends_nothing(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    assert main([*judging(endpoint), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("USD at most (--price)") == 2
    assert main([*judging(endpoint), "--dry-run", "--json", "-q"]) == 0
    assert [one["rows"] for one in json.loads(capsys.readouterr().out)] == [8, 8]
    assert endpoint.received == []


def test_what_is_wrong_has_its_exit_code(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    assert main([*judging(endpoint), "--rubric", "reserch", "-q"]) == 3
    assert "nearest name is research" in capsys.readouterr().err
    assert main(["judge"]) == 2
    assert main([*judging(endpoint), "--budget-usd", "0.0001", "-q"]) == 25


def test_flags_missing_scores_and_a_self_judge_are_told(
    project: Finished, capsys: Captured
) -> None:
    said: list[int] = []

    def moody(messages: list[dict[str, str]]) -> str:
        said.append(1)
        return "hm" if len(said) == 1 else judge(messages)

    with ScriptedEndpoint(Script(function=moody)) as endpoint:
        store = project.tiers.store
        answers = store.by_digest(project.manifest.outputs["tuned_answers"])
        words = judging(endpoint, answers.label, "--retries", "0", "--concurrency", "1")
        assert main(words) == 0
    out = capsys.readouterr().out
    assert "1 unreadable" in out
    assert " to " in out
    from nexa.core.records import JudgementsBody

    body: JudgementsBody = store.get("judgements", f"{answers.name}-wise-research").body
    body = body.model_copy(update={"self_judged": True, "flagged": {"made-up verdict": 2}})
    pairs = command._pairs_of(body)
    assert pairs["judged itself"] == "yes, as was allowed"
    assert pairs["answers that address the judge"] == "made-up verdict 2"


def test_numbers_that_are_not_known_are_not_made_up() -> None:
    spent = Spent(
        requests=0,
        latency_s_p50=None,
        latency_s_p95=None,
        input_tokens=None,
        output_tokens=0,
        cost_usd=None,
        price_source=None,
    )
    assert command._spent(spent) == {"tokens": "0 in, 0 out", "cost": "unknown"}
    figure = Figure(value=0.5, low=None, high=None, n=3)
    assert command._figure(figure) == "0.50"
    assert command._position({"first_n": 0, "turns_n": 0}) == {}
