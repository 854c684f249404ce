from __future__ import annotations

import os
import pty
import sys

import click
import pytest

from nexa.cli.lazy import LazyGroup
from nexa.core.errors import UsageError
from tests.cli.sample import finish, group


def run(*words: str) -> object:
    return group.main(list(words), prog_name="group", standalone_mode=False)


def test_help_shows_the_table_without_importing_a_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = {"A section": {"far": ("no.such.module:command", "Far away.")}}
    lazy = LazyGroup("lazy", table, help="All far.")
    lazy.main(["--help"], prog_name="lazy", standalone_mode=False)
    told = capsys.readouterr().out
    assert "A section:\n  far  Far away.\n" in told
    assert "no.such" not in sys.modules


def test_a_group_alone_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    assert "A group of samples." in capsys.readouterr().out


def test_an_alias_is_the_same_command_and_stands_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("end", "well")
    assert capsys.readouterr().out == "ended well\n"
    run("--help")
    assert "finish, end  End in a chosen way." in capsys.readouterr().out


def test_an_unknown_word_gets_the_nearest_command() -> None:
    with pytest.raises(UsageError) as caught:
        run("finnish")
    assert caught.value.what == "there is no command 'group finnish'"
    assert caught.value.fix == "group finish"


def test_a_word_like_no_command_gets_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        run("zzz")
    assert caught.value.found == "known: finish"
    assert caught.value.fix == "group --help"


def test_a_command_is_found_by_name_and_others_are_not() -> None:
    context = click.Context(group)
    assert group.list_commands(context) == ["finish"]
    assert group.get_command(context, "finish") is finish
    assert group.get_command(context, "nothing") is None


def test_alone_on_a_terminal_a_group_may_be_a_command_and_in_a_pipe_it_is_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {"Samples": {"twice": ("tests.cli.sample:twice", "Do it twice.")}}
    alone = LazyGroup("group", table, help="Samples.", alone="twice")
    alone.main([], prog_name="group", standalone_mode=False)
    assert capsys.readouterr().out.startswith("Usage: group")
    ours, theirs = pty.openpty()
    with open(theirs) as end:
        monkeypatch.setattr(sys, "stdin", end)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        alone.main([], prog_name="group", standalone_mode=False)
    os.close(ours)
    assert capsys.readouterr().out == ""  # the command ran, which says nothing
