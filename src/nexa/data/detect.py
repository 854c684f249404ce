"""What a file or a folder holds: its format, how many rows, and how that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nexa.data.loaders import counter_for, loader_for
from nexa.data.rows import Line
from nexa.data.sources import SAMPLE_ROWS, files_of, shape_in

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
        DataError: nothing is there, or a file cannot be read.
        FormatError: a file has no row of a known shape.
    """
    files = files_of(path)
    formats: list[str] = []
    evidence: list[str] = []
    rows: dict[str, int] = {}
    first: list[dict[str, Any]] = []
    for file in files:
        sample, rows[_name(file, files)] = sample_and_count(file)
        shape, why = shape_in(sample, file)
        formats.append(shape)
        evidence.append(f"{_name(file, files)}: {why}")
        first += [line.data for line in sample if line.data is not None][:FIRST_ROWS]
    return Detection(
        format=", ".join(dict.fromkeys(formats)),
        files=tuple(files),
        rows=sum(rows.values()),
        rows_by_file=rows,
        evidence=tuple(evidence),
        first=tuple(first[:FIRST_ROWS]),
    )


def sample_and_count(path: Path) -> tuple[list[Line], int]:
    """A file's first lines and the number of all: one pass over it, parsing no more than needed.

    Raises:
        DataError: it cannot be read.
    """
    lines = loader_for(path)(path, path.name)
    sample = list(islice(lines, SAMPLE_ROWS))
    counter = counter_for(path)
    if len(sample) < SAMPLE_ROWS or counter is None:
        return sample, len(sample) + sum(1 for _ in lines)
    return sample, counter(path)


def count_rows(path: Path) -> int:
    """The rows of a file, those that cannot be read among them.

    Raises:
        DataError: it cannot be read.
    """
    counter = counter_for(path)
    return counter(path) if counter else sum(1 for _ in loader_for(path)(path, path.name))


def _name(file: Path, files: Sequence[Path]) -> str:
    """A file's name; its path where another file has the same name."""
    alike = sum(other.name == file.name for other in files)
    return file.name if alike == 1 else str(file)
