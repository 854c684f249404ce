"""An example's own modules, which stand beside each other in its folder."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType


@contextlib.contextmanager
def imported(folder: Path, names: Sequence[str]) -> Iterator[dict[str, ModuleType]]:
    """The modules by their names, for the length of a block; then they are forgotten."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield {name: import_module(name) for name in names}
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
