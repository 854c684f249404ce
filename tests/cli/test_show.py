from __future__ import annotations

import io
import json

import pytest

from nexa.cli.show import Output


def output(**options: object) -> tuple[Output, io.StringIO]:
    stream = io.StringIO()
    return Output(stdout=stream, **options), stream  # type: ignore[arg-type]


def test_pairs_stand_under_each_other() -> None:
    out, stream = output()
    out.pairs({"Model": "smol", "Samples": 1234, "Run": None})
    assert stream.getvalue() == "  Model    smol\n  Samples  1,234\n  Run      -\n"
    out.pairs({})
    assert stream.getvalue().count("\n") == 3


def test_a_table_in_a_pipe_is_plain_and_aligned() -> None:
    out, stream = output(terminal=False)
    out.table(["run", "loss"], [["a\x1b", 0.5], ["longer\nname", None]])
    assert stream.getvalue() == "run          loss\na\\x1b        0.5\nlonger name  -\n"


def test_a_table_on_a_terminal_is_ruled_and_shows_markup_as_it_is() -> None:
    out, stream = output(terminal=True)
    out.table(["[bold]run"], [["[red]a"], ["\x1b[2J"]])
    told = stream.getvalue()
    assert "─" in told
    assert "[bold]run" in told
    assert "[red]a" in told
    assert "\\x1b[2J" in told


def test_with_json_people_are_told_nothing_and_the_record_is_printed() -> None:
    out, stream = output(as_json=True)
    out.say("words")
    out.table(["a"], [["b"]])
    out.show({"score": 0.5}, lambda: out.say("words"))
    assert json.loads(stream.getvalue()) == {"score": 0.5}


def test_without_json_the_human_form_is_shown() -> None:
    out, stream = output()
    out.show({"score": 0.5}, lambda: out.say("half", bold=True))
    assert stream.getvalue() == "half\n"


def test_styles_reach_a_terminal_only() -> None:
    out, stream = output(terminal=True)
    out.say("half", bold=True)
    assert stream.getvalue() == "\x1b[1mhalf\x1b[0m\n"


def test_colours_are_left_out_where_the_user_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out, stream = output(terminal=True)
    out.say("half", bold=True, fg="green")
    assert stream.getvalue() == "\x1b[1mhalf\x1b[0m\n"


def test_a_conversation_is_shown_as_it_comes_and_cleaned() -> None:
    out, stream = output()
    out.prompt("you: ")
    pieces = list(out.stream(["It is ", "\x1b[2Jblue."]))
    assert pieces == ["It is ", "\x1b[2Jblue."]
    assert stream.getvalue() == "you: It is \\x1b[2Jblue.\n"


def test_with_json_a_conversation_is_not_shown_as_it_comes() -> None:
    out, stream = output(as_json=True)
    out.prompt("you: ")
    assert list(out.stream(["blue"])) == ["blue"]
    assert stream.getvalue() == ""
