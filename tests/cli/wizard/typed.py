"""Somebody who types: answers from a list, what is said in a string."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nexa.cli.show import Output
from nexa.cli.wizard.asking import Asker


class Typed:
    """Lines that were typed before; the input ends after the last one."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self.left = list(lines)

    def line(self) -> str:
        if not self.left:
            raise EOFError
        return self.left.pop(0)

    @contextmanager
    def hidden(self) -> Iterator[Callable[[], str]]:
        yield self.line


class Person(Asker):
    """An asker whose answers are given, and whose words are kept."""

    def __init__(self, *lines: str, asks: bool = True) -> None:
        self.screen = io.StringIO()
        self.typed = Typed(lines)
        super().__init__(Output(stdout=self.screen, terminal=False), self.typed, asks=asks)

    @property
    def seen(self) -> str:
        """Everything that was shown."""
        return self.screen.getvalue()
