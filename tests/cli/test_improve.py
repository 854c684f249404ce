"""`nexa improve` and `nexa feedback` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.cli.main import main
from tests.support.improving import WEAK, rows, teach, write_improvable
from tests.support.project import train, write_rows
from tests.support.scripted_endpoint import Script, ScriptedEndpoint

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a model that learnt little: two steps."""
    folder = tmp_path / "words"
    folder.mkdir()
    write_improvable(folder, tiny_llama, training={"max_steps": 2})
    train(folder / "config.yaml")
    monkeypatch.chdir(folder)
    return folder


def test_a_round_is_told_with_its_table_and_the_reason(here: Path, capsys: Captured) -> None:
    assert main(["improve", "--rounds", "1", "--control", "--no-check", "-q"]) == 0
    out = capsys.readouterr().out
    assert "Round 1: dataset/words@v1 -> dataset/words@v2, 40 rows added" in out
    assert "slice" in out
    assert f"domain={WEAK}" in out
    assert "control: as many rows at random:" in out
    assert "rolled back: no evidence that a weak slice rises" in out
    assert "0 of 1 rounds accepted: all rounds are done" in out
    assert "Nothing improved: the model is the one that the first round began with." in out
    assert "spent" in out


def test_json_has_the_same_and_the_exit_code(here: Path, capsys: Captured) -> None:
    write_rows(here / "pool.jsonl", rows(WEAK, range(100, 130)))
    assert main(["improve", "--rounds", "1", "--no-check", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["accepted"], told["exit_code"], told["dataset"]) == (0, 0, "dataset/words@v1")
    assert told["rounds"][0]["rejected"] == {"leaks a held-out row": 30}
    write_rows(here / "pool.jsonl", rows("metals", range(10)))
    assert main(["improve", "--rounds", "2", "--no-check", "-q"]) == 0
    assert "no round was begun: there are no candidates" in capsys.readouterr().out
    # A budget that is spent before a round was kept has a code of its own.
    config = here / "config.yaml"
    config.write_text(config.read_text() + "infra: {cost_per_hour_usd: 360000.0}\n")
    train(config)
    capsys.readouterr()
    words = ["improve", "--rounds", "1", "--no-check", "-q", "--budget-usd", "0.01"]
    assert main(words) == 25
    out = capsys.readouterr().out
    assert "no round was begun: the budget does not reach for another round" in out


def test_what_was_left_out_is_told(here: Path, capsys: Captured) -> None:
    write_rows(here / "pool.jsonl", rows(WEAK, range(100, 130)))
    assert main(["improve", "--rounds", "1", "--no-check", "-q"]) == 0
    assert "candidates left out: leaks a held-out row 30" in capsys.readouterr().out


def test_a_dry_run_tells_the_plan_and_makes_nothing(here: Path, capsys: Captured) -> None:
    runs = sorted((here / "runs" / "manifests").iterdir())
    assert main(["improve", "--dry-run", "-q"]) == 0
    out = capsys.readouterr().out
    assert "Nothing was sent, nothing was trained." in out
    assert "weak now" not in out
    assert main(["feedback", "-q", "--rows", "1"]) == 0
    capsys.readouterr()
    assert main(["improve", "--dry-run", "-q"]) == 0
    out = capsys.readouterr().out
    assert "weak now" in out
    assert f"domain={WEAK}" in out
    assert len(sorted((here / "runs" / "manifests").iterdir())) == len(runs) + 1


def test_an_accepted_round_says_what_comes_next(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    write_improvable(folder, tiny_llama)
    monkeypatch.chdir(folder)
    assert main(["improve", "--rounds", "2", "--no-check", "-q"]) == 0
    out = capsys.readouterr().out
    assert "  kept: " in out
    assert "1 of 1 rounds accepted: nothing is weak" in out
    assert "Next: nexa lineage " in out
    assert "nexa publish --repo OWNER/NAME" in out
    assert main(["lineage"]) == 0
    told = capsys.readouterr().out
    assert told.index("dataset/words@v2") < told.index("dataset/words@v1")
    assert main(["runs", "list"]) == 0
    assert "improve" in capsys.readouterr().out
    assert main(["publish", "--repo", "you/words", "--hub", "local"]) == 0
    assert main(["verify", ".nexa/hub/you/words"]) == 0


def test_feedback_tells_what_it_made_and_what_it_left(here: Path, capsys: Captured) -> None:
    mixed = [*rows(WEAK, range(100, 104)), *rows(WEAK, range(200, 210))]
    write_rows(here / "pool.jsonl", mixed)
    assert main(["feedback", "latest", "-q"]) == 0
    out = capsys.readouterr().out
    assert "dataset/words@v2: 10 rows added to dataset/words@v1" in out
    assert "candidates left out: leaks a held-out row 4" in out
    assert "Next: data.train_path: dataset/words in config.yaml, then nexa train" in out
    assert main(["feedback", "--rule", "exact_match < 0.001", "-q"]) == 0
    assert "stays as it is: no slice of 4 is weak" in capsys.readouterr().out
    write_rows(here / "pool.jsonl", rows(WEAK, range(300, 310)))
    assert main(["feedback", "--json", "--rows", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset_after"] == "dataset/words@v3"


def test_a_new_version_without_losses_says_no_more(here: Path, capsys: Captured) -> None:
    assert main(["feedback", "-q"]) == 0
    assert "left out" not in capsys.readouterr().out


def test_a_teacher_s_options_go_to_the_teacher(here: Path, capsys: Captured) -> None:
    known = here / "train.jsonl"
    write_rows(here / "more", rows(WEAK, range(3)))
    known.write_text(known.read_text() + (here / "more").read_text())
    train(here / "config.yaml")
    capsys.readouterr()
    with ScriptedEndpoint(Script(function=teach)) as served:
        words = ["feedback", "--generator", "teacher", "--teacher", "wise", "--rows", "4", "-q"]
        words += ["--base-url", served.url, "--price", "1,2", "--budget-usd", "3"]
        assert main(words) == 0
    assert "4 rows added" in capsys.readouterr().out
