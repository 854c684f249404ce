"""`nexa data augment` as it is typed."""

from __future__ import annotations

import json

import pytest

from nexa.cli.main import main
from tests.cli.asking import asking, endpoint
from tests.support.project import Finished
from tests.support.scripted_endpoint import Script, ScriptedEndpoint

__all__ = ["endpoint"]
Captured = pytest.CaptureFixture[str]


def test_what_was_written_and_added_is_shown(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    assert main(["data", "augment", "elements", *asking(endpoint, "--rows", "3")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("dataset/elements@v2\n")
    assert "wise (wise-scripted)" in out
    assert "3, 3 answered, 0 of them before" in out
    assert "USD (--price)" in out
    assert "added to train" in out
    assert out.endswith("Look: nexa lineage dataset/elements@v2\n")
    assert main(["lineage", "dataset/elements@v2"]) == 0
    shown = capsys.readouterr().out
    assert "synthetic: synthetic/elements-self_instruct@v1  [augment]" in shown
    assert "teacher: wise (wise-scripted)  [model]" in shown
    assert main(["runs", "show", "latest"]) == 0
    facts = capsys.readouterr().out
    assert "teacher_model" in facts
    assert "teacher_tokens.input" in facts
    assert "cost.teacher_usd" in facts
    assert main(["verify", "latest"]) == 0


def test_the_record_is_data(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    words = ["data", "augment", "elements", *asking(endpoint, "--rows", "2", "--json", "-q")]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["dataset"], told["parent"]) == ("dataset/elements@v2", "dataset/elements@v1")
    assert (told["added"], told["why"], told["synthetic"]["rows"]) == ({"train": 2}, "", 2)


def test_rows_that_add_nothing_say_why(project: Finished, capsys: Captured) -> None:
    with ScriptedEndpoint(Script(function=echo)) as endpoint:
        assert main(["data", "augment", "elements", *asking(endpoint, "--rows", "2")]) == 0
    assert "nothing new: exact duplicate" in capsys.readouterr().out


def echo(messages: list[dict[str, str]]) -> str:
    from tests.support.teacher import inside

    return json.dumps(inside(messages)[0])


def test_a_dry_run_shows_what_it_would_take(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    words = ["data", "augment", "elements", *asking(endpoint, "--rows", "4", "--dry-run")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "USD at most (--price)" in out
    assert "Nothing was sent, nothing was written." in out
    without = [word for word in words if word not in ("--price", "1,2")]
    assert main(without) == 0
    assert "unknown: --price IN,OUT" in capsys.readouterr().out
    assert main(["data", "distill", "elements", *asking(endpoint, "--dry-run", "--json")]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 40
    assert endpoint.received == []


def test_a_budget_that_is_spent_has_its_exit_code(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    words = ["data", "augment", "elements", *asking(endpoint, "--rows", "8")]
    assert main([*words, "--budget-usd", "0.003", "--concurrency", "1", "-q"]) == 25
    assert "budget" in capsys.readouterr().err
    assert main([*words, "--budget-usd", "1", "-q"]) == 0
