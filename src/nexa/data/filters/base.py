"""What a filter of single rows is: rows in, a verdict a row out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nexa.core.plugins import Registry
from nexa.data.rows import Content, Row


@dataclass(frozen=True)
class Verdict:
    """What a filter says of a row that it does not let pass as it is.

    `reason` is what the row is counted under, the same for all rows of a kind; `detail` is what
    exactly was found, and where. With `content` the row stays, in this form; without, it is left
    out.
    """

    reason: str
    detail: str
    content: Content | None = None


class RowFilter(Protocol):
    """A filter of single rows, made of its options once a process; rows of a batch go together.

    The verdict on a row depends on the row alone: batches and processes change nothing.
    """

    def __call__(self, rows: Sequence[Row]) -> Sequence[Verdict | None]:
        """A verdict for each row; None: it passes as it is."""


class FilterMaker(Protocol):
    """What the table of filters holds: options in, the filter out."""

    @property
    def version(self) -> int:
        """Raised whenever a verdict changes for an equal row; part of every fingerprint."""

    def __call__(self, options: Mapping[str, Any]) -> RowFilter:
        """The filter.

        Raises:
            DataError: an option that it does not know, or a value that it does not take.
        """


@dataclass(frozen=True)
class FilterSpec:
    """A filter that was asked for: its name in the table, its version and options."""

    name: str
    version: int
    options: tuple[tuple[str, Any], ...] = ()
    """Pairs in order of their names; values are JSON's."""

    def make(self, table: Registry[FilterMaker]) -> RowFilter:
        """The filter itself, made by the table's row of its name."""
        return table[self.name](dict(self.options))
