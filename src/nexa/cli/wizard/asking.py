"""One question at a time, asked until its answer holds: by Enter, by flag or by what is typed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from nexa.cli.show import Output
from nexa.core.errors import NexaError, UsageError, nearest

T = TypeVar("T")


class Reader(Protocol):
    """Where answers are typed: one line at a time, without its end.

    Both raise EOFError where there is nothing more to read.
    """

    def line(self) -> str:
        """What is typed, and shown while it is."""

    @contextmanager
    def hidden(self) -> Iterator[Callable[[], str]]:
        """A block in which what is typed is not shown; hands over what reads it."""


class Terminal:
    """Standard input, which is a terminal."""

    def line(self) -> str:
        """One line; bytes that are not UTF-8 come as surrogates, which no answer may hold."""
        typed = sys.stdin.buffer.readline()
        if not typed:
            raise EOFError
        return typed.decode(errors="surrogateescape").rstrip("\r\n")

    @contextmanager
    def hidden(self) -> Iterator[Callable[[], str]]:
        """Echo is off from before the prompt until after the line, however that ends."""
        import termios  # here, because other systems lack it and most commands do not need it

        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        quiet = list(before)
        quiet[3] &= ~termios.ECHO
        try:
            termios.tcsetattr(terminal, termios.TCSADRAIN, quiet)
            yield self.line
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def on_terminal() -> bool:
    """Whether a person can be asked: both ends are a terminal's."""
    return sys.stdin.isatty() and sys.stdout.isatty()


@dataclass(frozen=True)
class Choice:
    """One of several answers: its name, which can be typed too, and what it means."""

    name: str
    meaning: str = ""


class Asker:
    """Asks on `out` and reads from `reader`; with `asks` false, flags and defaults answer.

    A wrong answer is told with its reason and asked again; a wrong flag too, where there is
    somebody to ask.
    """

    def __init__(self, out: Output, reader: Reader, *, asks: bool) -> None:
        self.out = out
        self.asks = asks
        self._reader = reader

    def ask(
        self,
        question: str,
        check: Callable[[str], T],
        *,
        flag: str,
        given: str | None = None,
        default: str | None = None,
        numbered: Sequence[str] = (),
    ) -> T:
        """Ask until `check` takes the answer, and return what it makes of it.

        A number that is typed stands for one of `numbered`.

        Raises:
            UsageError: nobody can be asked, and there is neither a flag nor a default.
            NexaError: nobody can be asked, and `check` refuses the flag or the default.
            EOFError: the input ended.
        """
        if not self.asks:
            return check(_plain(self._unasked(question, flag, given, default)))
        answer = given
        while True:
            try:
                if answer is None:
                    answer = self._typed(question, default, numbered)
                return check(_plain(answer))
            except NexaError as error:
                self.refuse(error)
                answer = None

    def choose(
        self,
        question: str,
        choices: Sequence[Choice],
        *,
        flag: str,
        given: str | None = None,
        default: str,
    ) -> str:
        """The name of one of the choices, by its number or its name."""
        if given is None:
            self.offer(choices)
        names = [choice.name for choice in choices]
        return self.ask(
            question,
            lambda answer: _one_of(answer, names),
            flag=flag,
            given=given,
            default=default,
            numbered=names,
        )

    def offer(self, choices: Sequence[Choice]) -> None:
        """The choices with their numbers, where there is somebody to choose."""
        if not self.asks:
            return
        width = max((len(choice.name) for choice in choices), default=0)
        for number, choice in enumerate(choices, 1):
            self.out.say(f"  {number}  {choice.name:<{width}}  {choice.meaning}".rstrip())

    def confirm(self, question: str, *, flag: str, given: bool | None, default: bool) -> bool:
        """Yes or no."""
        words = {True: "yes", False: "no"}
        return self.ask(
            question,
            _yes_or_no,
            flag=flag,
            given=None if given is None else words[given],
            default=words[default],
        )

    def hidden(self, question: str) -> str:
        """What is typed without being shown.

        Raises:
            EOFError: the input ended.
        """
        with self._reader.hidden() as read:
            self.out.prompt(f"{question}: ")
            typed = read()
        self.out.say()
        return typed.strip()

    def title(self, text: str) -> None:
        """What the next questions are about."""
        if self.asks:
            self.out.say()
            self.out.say(text, bold=True)

    def tell(self, text: str) -> None:
        """A line that only somebody who is being asked needs."""
        if self.asks:
            self.out.say(f"  {text}")

    def tell_end(self) -> None:
        """End the line of a question that was not answered."""
        if self.asks:
            self.out.say()

    def refuse(self, error: NexaError) -> None:
        """Why an answer was not taken."""
        for line in str(error).splitlines():
            self.out.say(f"  {line}")

    def _typed(self, question: str, default: str | None, numbered: Sequence[str]) -> str:
        """One answer; Enter is the default."""
        shown = "" if default is None else f" [{_shown(default, numbered)}]"
        self.out.prompt(f"{question}{shown}: ")
        answer = self._reader.line().strip()
        if answer.isdecimal() and numbered:
            return _by_number(int(answer), numbered)
        if not answer and default is None:
            raise UsageError("an answer is needed here", fix="Ctrl-C stops")
        return answer or default or ""

    def _unasked(self, question: str, flag: str, given: str | None, default: str | None) -> str:
        answer = default if given is None else given
        if answer is None:
            raise UsageError(f"nothing answers: {question}", fix=f"give it by flag: --{flag}")
        return answer


def _shown(default: str, numbered: Sequence[str]) -> str:
    """A default as it would be typed: its number, where it has one."""
    return str(list(numbered).index(default) + 1) if default in numbered else default


def _by_number(number: int, numbered: Sequence[str]) -> str:
    if not 1 <= number <= len(numbered):
        raise UsageError(f"there is no number {number}", fix=f"a number from 1 to {len(numbered)}")
    return numbered[number - 1]


def _one_of(answer: str, names: Sequence[str]) -> str:
    """A name as it is written in the list.

    Raises:
        UsageError: it is none of them; says the nearest.
    """
    if answer.lower() in names:
        return answer.lower()
    near = nearest(answer.lower(), names)
    raise UsageError(
        f"{answer!r} is none of the choices",
        found=f"did you mean {near!r}?" if near else None,
        fix=f"a number up to {len(names)}, or: {', '.join(names)}",
    )


def _plain(answer: str) -> str:
    """An answer that can be shown, typed again, and written into a file.

    Raises:
        UsageError: it holds control characters, or bytes that are not UTF-8.
    """
    if not answer.isprintable():
        raise UsageError(
            "the answer holds characters that cannot be shown",
            found=ascii(answer),
            fix="type it without them; a file with such a name has to be renamed",
        )
    return answer


def _yes_or_no(answer: str) -> bool:
    known = {"y": True, "yes": True, "n": False, "no": False}
    if answer.lower() not in known:
        raise UsageError(f"{answer!r} is neither yes nor no", fix="y or n")
    return known[answer.lower()]
