"""Which files a pattern names: `data/*.jsonl`, `data/**/part-*.parquet`, `data/{a,b}.csv`.

A path that exists is never a pattern, whatever is in its name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import escape, has_magic, iglob
from pathlib import Path

from nexa.core.errors import UsageError

_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")


def is_pattern(path: str | Path) -> bool:
    """Whether a path names files by a pattern."""
    return (has_magic(str(path)) or _BRACES.search(str(path)) is not None) and not _exists(path)


def files_by(pattern: str | Path) -> list[Path]:
    """The files that a pattern names, each once, in order; hidden ones only where it says so."""
    found = {
        Path(name)
        for one in alternatives(str(pattern))
        for name in iglob(one, recursive=True)
        if Path(name).is_file()
    }
    return sorted(found)


def folder_of(pattern: str | Path) -> Path:
    """The folder down to which a pattern names one place: `data/**/x.csv` -> `data`."""
    return Path(os.path.commonpath([_fixed(one) for one in alternatives(str(pattern))]))


def joined(paths: Sequence[str]) -> str:
    """Several paths, as a shell makes of a pattern that was not quoted, as one pattern.

    Raises:
        UsageError: one of them has a mark of a pattern in its name, or is an address.
    """
    if len(paths) == 1:
        return paths[0]
    odd = next((path for path in paths if re.search(r"[{},]|:/", path)), None)
    if odd is not None:
        raise UsageError(
            f"{odd} cannot be given beside other paths",
            fix="give their folder, or a pattern in quotes: 'data/*.jsonl'",
        )
    return "{" + ",".join(map(escape, paths)) + "}"


def alternatives(pattern: str) -> list[str]:
    """A pattern without braces for each choice that its braces give: `{a,b}.csv` -> two."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [
        whole
        for choice in found.group(1).split(",")
        for whole in alternatives(f"{head}{choice}{tail}")
    ]


def _fixed(pattern: str) -> Path:
    """The parts of a path before the first one with a mark; its folder if it has none."""
    parts = Path(pattern).parts
    first = next((n for n, part in enumerate(parts) if has_magic(part)), len(parts) - 1)
    return Path(*parts[:first])


def _exists(path: str | Path) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # longer than a path can be
        return False
