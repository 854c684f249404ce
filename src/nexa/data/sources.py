"""Which files are read, and what their lines are: rows of a shape, or rejects with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import DataError, IntegrityError, nearest
from nexa.core.events import emit
from nexa.core.identity import sha256_file, where
from nexa.data.loaders import LOADERS, loader_for
from nexa.data.rows import Line, Reject, Row
from nexa.data.schemas import LABELS, SCHEMAS, RowProblem, Shape, missing_keys, shape_of

SAMPLE_ROWS = 200  # lines that a file's shape is told from
MALFORMED = "malformed"


@dataclass(frozen=True)
class Source:
    """A file of rows: its name and digest are part of the recipe, its place is not."""

    name: str
    sha256: str
    path: Path = where()

    @staticmethod
    def of(path: Path) -> Source:
        """A file as it is now.

        Raises:
            DataError: there is none, or it cannot be read.
        """
        try:
            return Source(path.name, sha256_file(path), path)
        except OSError as error:
            raise DataError(f"cannot read {path}", found=error.strerror or str(error)) from error


def files_of(path: Path) -> list[Path]:
    """A file, or a folder's files that a loader knows, by name.

    Raises:
        DataError: nothing is there; says what is.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(path.name, beside)
        raise DataError(f"there is no {path}", fix=str(path.parent / near) if near else None)
    known = tuple(f".{suffix}" for suffix in LOADERS.names())
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in known and p.is_file())
    if not found:
        there = ", ".join(sorted(p.name for p in path.iterdir())[:8])
        raise DataError(
            f"{path} has no data file", found=there or "an empty folder", fix="name it data.jsonl"
        )
    return found


def sources_of(path: Path) -> tuple[Source, ...]:
    """The sources of a file or a folder.

    Raises:
        DataError: nothing is there, or it cannot be read.
    """
    return tuple(Source.of(file) for file in files_of(path))


def read_source(source: Source, shape_name: str) -> Iterator[Row | Reject]:
    """Every line of a source, as a row or as a reject.

    Raises:
        DataError: the file cannot be read at all, or no line has a known shape.
        IntegrityError: the file is not the one that the recipe names.
    """
    if sha256_file(source.path) != source.sha256:
        raise IntegrityError(
            f"{source.path} was changed after the recipe was made",
            found=f"its sha256 is not {source.sha256[:16]}...",
            fix="run the same command again",
        )
    shape = SCHEMAS[shape_name]
    unused: Counter[str] = Counter()
    for line in loader_for(source.path)(source.path, source.name):
        if line.data is not None:
            unused.update(key for key in line.data if key not in shape.known)
        yield _row(line, shape)
    for key, rows in sorted(unused.items()):
        near = nearest(key, LABELS)
        meant = f"; did you mean {near!r}?" if near else ""
        emit("note", text=f"{source.name}: key {key!r} is not used ({rows} rows){meant}")


def tell_shape(path: Path) -> tuple[str, list[Line], str]:
    """A file's shape by its first lines, those lines, and the evidence in words.

    Raises:
        DataError: no line has a known shape; says why the first does not.
    """
    sample: list[Line] = []
    votes: Counter[str] = Counter()
    for line in loader_for(path)(path, path.name):
        sample.append(line)
        shape = shape_of(line.data) if line.data is not None else None
        votes.update([shape] if shape else [])
        if len(sample) == SAMPLE_ROWS:
            break
    if not votes:
        first = next((line for line in sample if line.data is not None), sample[0])
        why = first.problem or missing_keys(first.data or {}, None)
        raise DataError(
            f"{path}: no row has a shape that can be trained on",
            found=f"line {first.number}: {why}",
            fix="rename the keys, or name the format in config.yaml: data.format",
        )
    name, count = votes.most_common(1)[0]
    keys = ", ".join(SCHEMAS[name].required)
    return name, sample, f"{count} of the first {len(sample)} rows have the keys {keys}"


def _row(line: Line, shape: Shape) -> Row | Reject:
    if line.data is None:
        return Reject(line, MALFORMED, f"line {line.number}: {line.problem}")
    if any(key not in line.data for key in shape.required):
        why = missing_keys(line.data, shape)
        return Reject(line, MALFORMED, f"line {line.number}: {why}")
    try:
        return Row(line, shape.convert(line.data))
    except RowProblem as problem:
        return Reject(line, MALFORMED, f"line {line.number}: {problem}")
