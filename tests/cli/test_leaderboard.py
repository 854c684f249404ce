from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nexa.cli.leaderboard import _tell_sample
from nexa.cli.main import main
from nexa.cli.show import Output
from nexa.ui.leaderboard import append, read
from nexa.ui.leaderboard_page import Sample
from tests.support.project import Finished
from tests.support.scripted_endpoint import Script, ScriptedEndpoint
from tests.support.teacher import answered

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(Script(function=answered)) as served:
        yield served


def board_of(project: Finished) -> Path:
    [path] = Path(project.tiers.durable_place("evals/reports")).glob("*.parquet")
    return path


def test_a_board_is_a_table_and_the_fronts_in_words(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    teacher = ["wise@" + endpoint.url, "--price", "1,2"]
    assert main(["eval", *teacher, "--suite", "elements", "-q"]) == 0
    capsys.readouterr()

    assert main(["leaderboard", "--against", "tiny-llama"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("elements@v1, exact; seal ")
    assert lines[1].split()[:4] == ["rank", "model", "role", "exact"]
    assert "minus tiny-llama" in lines[1]
    first = lines[2].split()
    assert (first[0], first[2], first[3]) == ("1", "teacher", "1.000")
    assert sum(" = " in line for line in lines[3:5]) == 1
    assert any(line.startswith("Quality and cost") and "wise" in line for line in lines)
    assert any("so on no front: tiny-llama" in line for line in lines)


def test_as_json_boards_notes_and_the_page(project: Finished, capsys: Captured) -> None:
    assert main(["leaderboard", "--json", "--html", "board.html", "--seed", "3"]) == 0

    told = json.loads(capsys.readouterr().out)
    [board] = told["boards"]
    assert told["notes"] == []
    assert told["page"] == "board.html"
    assert {row["role"] for row in board["ranked"]} == {"base", "tuned"}
    assert all(len(row["samples"]) == 3 for row in board["ranked"])
    assert Path("board.html").read_text().startswith("<!doctype html>")


def test_every_metric_and_answers_to_read(project: Finished, capsys: Captured) -> None:
    assert main(["leaderboard", "--all", "--samples", "1", "--html", "b.html"]) == 0

    out = capsys.readouterr().out
    assert out.count("; seal ") > 2
    assert "  question: The value of" in out
    assert out.endswith("the page: b.html\n")


def test_contaminated_models_stand_below_the_table(project: Finished, capsys: Captured) -> None:
    path = board_of(project)
    tuned = next(e for e in read(path) if e.role == "tuned" and e.primary)
    leaky = replace(
        tuned,
        contaminated_rows=2,
        contaminated_ids=("row1", "row2"),
        contaminated_mean=1.0,
        clean_mean=0.25,
        clean_low=0.0,
        clean_high=0.5,
    )
    append(path, [leaky])

    assert main(["leaderboard", str(path)]) == 0
    below = capsys.readouterr().out.partition("contaminated, so not ranked:")[2]
    for told in ("0.250 [0.000, 0.500]", "1.000", "row1, row2"):
        assert told in below

    append(path, [replace(e, contaminated_rows=1) for e in read(path)])
    assert main(["leaderboard", str(path)]) == 0
    assert "rank" not in capsys.readouterr().out.partition("contaminated")[0]


def test_several_boards_say_why_they_are_several(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    words = ["--suite", "elements", "--engine", "transformers", "-q"]
    assert main(["eval", str(tiny_llama), *words]) == 0
    capsys.readouterr()

    assert main(["leaderboard"]) == 0

    out = capsys.readouterr().out
    assert "elements@v1 has 2 boards by exact, one a seal: " in out
    assert "decoding, engine (" in out


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["no-such-place"], 2, "there is no folder and no file no-such-place"),
        (["eval.jsonl"], 10, "cannot read the leaderboard"),
        (["--metric", "exakt"], 2, "--metric exact"),
        (["--against", "tiny-lama"], 2, "--against tiny-llama"),
        (["--samples", "-1"], 2, "-1 is not in the range"),
    ],
)
def test_bad_words_end_with_their_code_and_a_line(
    project: Finished, capsys: Captured, words: list[str], code: int, complaint: str
) -> None:
    assert main(["leaderboard", *words, "-q"]) == code
    assert complaint in capsys.readouterr().err


def test_an_answer_s_words_are_shown_and_cannot_steer_the_terminal() -> None:
    shown = io.StringIO()
    sample = Sample("row1", "", "why?", "so", "\x1b[31mred", "", 0.5, 2)

    _tell_sample(Output(stdout=shown, terminal=False), "wise", sample)
    _tell_sample(
        Output(stdout=shown, terminal=False),
        "wise",
        replace(sample, answer=None, problem="late", score=None, red_flags=0),
    )

    out = shown.getvalue()
    assert "\x1b[31m" not in out
    assert "wise, row1: 0.50, 2 red flags" in out
    assert "wise, row1: missing\n" in out
    assert "answer: (none: late)" in out
