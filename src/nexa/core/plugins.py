"""One visible table for each thing that can be extended; plugins come through entry points.

    METRICS = Registry("metric", {"exact": exact})

A package adds its own with an entry point in the group `nexa.metric`. Entry points are scanned
only when a name is not in the table, or when a command lists them all.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from nexa.core.errors import NexaError, nearest

T = TypeVar("T")


class UnknownPlugin(NexaError, KeyError):
    """Neither the table nor an installed package has this name."""


class BrokenPlugin(NexaError, ImportError):
    """An installed package promises a plugin that cannot be imported."""


class Registry(Generic[T]):
    """Names to things of one kind: built-ins, then entry points in `nexa.<kind>`."""

    def __init__(self, kind: str, table: Mapping[str, T]) -> None:
        self.kind = kind
        self._table = dict(table)
        self._scanned: tuple[list[str], frozenset[str]] | None = None

    def __getitem__(self, name: str) -> T:
        """The thing with this name.

        Raises:
            UnknownPlugin: there is none; says the nearest name and all there are.
            BrokenPlugin: an installed package names it and cannot give it.
        """
        if name in self._table:
            return self._table[name]
        for point in entry_points(group=f"nexa.{self.kind}", name=name):
            return cast("T", _load(point))
        known = self.names()
        near = nearest(name, known)
        raise UnknownPlugin(
            f"there is no {self.kind} named {name!r}",
            found="known: " + (", ".join(known) or "none"),
            fix=near,
        )

    def __contains__(self, name: str) -> bool:
        return name in self._table or name in self.names()

    def names(self) -> list[str]:
        """Every name, built in or installed; installed packages are looked through once."""
        if self._scanned is None or self._scanned[0] != sys.path:
            points = entry_points(group=f"nexa.{self.kind}")
            self._scanned = list(sys.path), frozenset(point.name for point in points)
        return sorted({*self._table, *self._scanned[1]})


def _load(point: EntryPoint) -> object:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        package = point.dist.name if point.dist else "an installed package"
        kind = point.group.removeprefix("nexa.")
        raise BrokenPlugin(
            f"{package} promises {kind} {point.name!r} and cannot give it",
            found=f"{point.value}: {error}",
            fix=f"mend or uninstall {package}",
        ) from error
