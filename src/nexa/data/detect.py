"""What a file or a folder holds: its format, how many rows, and how that is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.core.errors import DataError
from nexa.data.sources import files_of, tell_shape

FIRST_ROWS = 3


@dataclass(frozen=True)
class Detection:
    """What was found. `format` is a shape's name, or several for a folder that mixes them."""

    format: str
    files: tuple[Path, ...]
    rows: int
    rows_by_file: dict[str, int]
    evidence: tuple[str, ...]
    first: tuple[dict[str, Any], ...]


def detect(path: Path) -> Detection:
    """Look at every file's first rows and count all of them.

    Raises:
        DataError: nothing is there, or a file has no row of a known shape.
    """
    files = files_of(path)
    formats: list[str] = []
    evidence: list[str] = []
    rows: dict[str, int] = {}
    first: list[dict[str, Any]] = []
    for file in files:
        shape, sample, why = tell_shape(file)
        formats.append(shape)
        rows[file.name] = count_rows(file)
        evidence.append(f"{file.name}: {why}")
        first += [line.data for line in sample if line.data is not None]
    return Detection(
        format=", ".join(dict.fromkeys(formats)),
        files=tuple(files),
        rows=sum(rows.values()),
        rows_by_file=rows,
        evidence=tuple(evidence),
        first=tuple(first[:FIRST_ROWS]),
    )


def count_rows(path: Path) -> int:
    """The lines of a file that are not blank.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    except OSError as error:
        raise DataError(f"cannot read {path}", found=error.strerror or str(error)) from error
