from __future__ import annotations

import os
import pty
import sys
import termios
from collections.abc import Iterator

import pytest

from nexa.cli.wizard.asking import Choice, Terminal, on_terminal
from nexa.core.errors import DataError, UsageError
from tests.cli.wizard.typed import Person

COLOURS = [Choice("red", "as blood"), Choice("green", "as grass")]


def number(answer: str) -> int:
    if not answer.isdecimal():
        raise DataError(f"{answer!r} is no number", fix="7")
    return int(answer)


def test_enter_takes_the_default_and_a_word_replaces_it() -> None:
    person = Person("", "  12 ")
    assert person.ask("How many", number, flag="many", default="3") == 3
    assert person.ask("How many", number, flag="many", default="3") == 12
    assert person.seen == "How many [3]: How many [3]: "


def test_a_wrong_answer_is_told_with_its_reason_and_asked_again() -> None:
    person = Person("x", "", "5")
    assert person.ask("How many", number, flag="many") == 5
    assert person.seen == (
        "How many:   'x' is no number\n    try    7\n"
        "How many:   an answer is needed here\n    try    Ctrl-C stops\n"
        "How many: "
    )


def test_a_flag_answers_and_a_wrong_one_is_asked_for() -> None:
    person = Person("4")
    assert person.ask("How many", number, flag="many", given="9") == 9
    assert person.seen == ""
    assert person.ask("How many", number, flag="many", given="x") == 4
    assert "'x' is no number" in person.seen


def test_where_nobody_is_asked_flag_and_default_answer_or_the_flag_is_named() -> None:
    nobody = Person(asks=False)
    assert nobody.ask("How many", number, flag="many", given="9", default="3") == 9
    assert nobody.ask("How many", number, flag="many", default="3") == 3
    with pytest.raises(UsageError, match="nothing answers: How many") as caught:
        nobody.ask("How many", number, flag="many")
    assert caught.value.fix == "give it by flag: --many"
    with pytest.raises(DataError):
        nobody.ask("How many", number, flag="many", given="x")
    assert nobody.seen == ""


def test_a_choice_is_made_by_number_by_name_or_by_enter() -> None:
    person = Person("1", "GREEN", "")
    made = [person.choose("Colour", COLOURS, flag="colour", default="green") for _ in range(3)]
    assert made == ["red", "green", "green"]
    assert "  1  red    as blood\n  2  green  as grass\nColour [2]: " in person.seen


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("0", "there is no number 0"),
        ("3", "a number from 1 to 2"),
        ("gren", "did you mean 'green'?"),
        ("nonsense", "a number up to 2, or: red, green"),
        ("\x1b[A", "characters that cannot be shown"),
        ("caf\udce9", r"'caf\udce9'"),
    ],
)
def test_what_is_no_choice_is_told_and_asked_again(typed: str, reason: str) -> None:
    person = Person(typed, "red")
    assert person.choose("Colour", COLOURS, flag="colour", default="green") == "red"
    assert reason in person.seen
    assert "\x1b" not in person.seen


def test_a_given_choice_shows_no_list() -> None:
    person = Person()
    assert person.choose("Colour", COLOURS, flag="colour", given="red", default="green") == "red"
    nobody = Person(asks=False)
    assert nobody.choose("Colour", COLOURS, flag="colour", default="green") == "green"
    assert person.seen == nobody.seen == ""


def test_a_flag_that_is_a_number_is_no_number_of_the_list() -> None:
    nobody = Person(asks=False)
    with pytest.raises(UsageError, match="none of the choices"):
        nobody.choose("Colour", COLOURS, flag="colour", given="1", default="green")


@pytest.mark.parametrize(("typed", "meant"), [("y", True), ("No", False), ("", True)])
def test_yes_and_no(typed: str, meant: bool) -> None:
    person = Person("perhaps", typed)
    assert person.confirm("Go", flag="yes", given=None, default=True) is meant
    assert "'perhaps' is neither yes nor no" in person.seen
    assert person.confirm("Go", flag="yes", given=False, default=True) is False


def test_titles_and_remarks_are_for_those_who_are_asked() -> None:
    person, nobody = Person(), Person(asks=False)
    for asker in (person, nobody):
        asker.title("Data")
        asker.tell("a remark")
        asker.tell_end()
    assert person.seen == "\nData\n  a remark\n\n"
    assert nobody.seen == ""


def test_the_end_of_the_input_is_an_end() -> None:
    with pytest.raises(EOFError):
        Person().ask("How many", number, flag="many")
    with pytest.raises(EOFError):
        Person().hidden("Token")


def test_a_pipe_is_no_terminal() -> None:
    assert not on_terminal()  # pytest has taken both ends


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal as standard input; the test types at the other end."""
    mine, theirs = pty.openpty()
    with open(theirs, encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield mine
    os.close(mine)


def hidden_line() -> str:
    with Terminal().hidden() as read:
        return read()


def echoes() -> bool:
    return bool(termios.tcgetattr(sys.stdin.fileno())[3] & termios.ECHO)


def test_a_terminal_gives_lines_whatever_their_bytes_are(keyboard: int) -> None:
    os.write(keyboard, b"caf\xc3\xa9\ncaf\xe9\n\x04")
    assert Terminal().line() == "café"
    assert Terminal().line() == "caf\udce9"
    with pytest.raises(EOFError):
        Terminal().line()


def test_echo_is_off_while_a_secret_is_typed_and_on_again_however_that_ends(keyboard: int) -> None:
    with Terminal().hidden() as read:
        assert not echoes()
        os.write(keyboard, b"secret\n")
        assert read() == "secret"
    assert echoes()
    os.write(keyboard, b"\x04")
    with pytest.raises(EOFError):
        hidden_line()
    assert echoes()


def test_a_hidden_answer_is_not_shown() -> None:
    person = Person(" secret ")
    assert person.hidden("Token") == "secret"
    assert person.seen == "Token: \n"
