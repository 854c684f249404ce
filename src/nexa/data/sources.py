"""Which files are read, and what their lines are: rows of a shape, or rejects with a reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import DataError, FormatError, IntegrityError, nearest
from nexa.core.events import emit
from nexa.core.identity import sha256_file, where
from nexa.data.globs import files_by, is_pattern
from nexa.data.hub_names import origin_of
from nexa.data.loaders import PROSE, loader_for, suffix_of, suffixes
from nexa.data.rows import Line, Reject, Row
from nexa.data.schemas import (
    LABELS,
    SCHEMAS,
    RowProblem,
    Shape,
    missing_keys,
    shapes_of,
)

SAMPLE_ROWS = 200  # lines that a file's shape is told from
MALFORMED = "malformed"
MOST_UNUSED = 8  # keys without a use that are told; a file may have thousands

# What tools write beside rows, under names that data files have.
NOT_ROWS = frozenset(
    (
        "dataset_info.json",
        "dataset_infos.json",
        "dataset_dict.json",
        "state.json",
        "croissant.json",
    )
)
NOTES = ("readme", "license", "licence", "changelog", "notice", "contributing", "requirements")


@dataclass(frozen=True)
class Source:
    """A file of rows: its name and digest are part of the recipe, its place is not.

    A file that was fetched from the Hub is named with its dataset and commit.
    """

    name: str
    sha256: str
    path: Path = where()

    @staticmethod
    def of(path: Path, name: str | None = None) -> Source:
        """A file as it is now.

        Raises:
            DataError: there is none, or it cannot be read.
        """
        return Source(origin_of(path) or name or path.name, _sha256(path), path)


def files_of(path: Path) -> list[Path]:
    """A file, or a folder's data files by name; those below it where it has none itself.

    A pattern (`data/*.jsonl`) is every file that it names. Prose (.txt, .md, .pdf) counts only in
    a folder without other data, and never a README.

    Raises:
        DataError: nothing is there; says what is.
    """
    if path.is_file():
        return [path]
    if is_pattern(path):
        return _matched(path)
    if not path.is_dir():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(path.name, beside)
        raise DataError(f"there is no {path}", fix=str(path.parent / near) if near else None)
    found = _data_files(path.iterdir()) or _data_files(_below(path))
    if not found:
        there = ", ".join(sorted(p.name for p in path.iterdir())[:8])
        raise DataError(
            f"{path} has no data file", found=there or "an empty folder", fix="name it data.jsonl"
        )
    return found


def _matched(pattern: Path) -> list[Path]:
    found = files_by(pattern)
    if not found:
        raise DataError(
            f"no file is named by {pattern}", fix="see what is there, or give the folder"
        )
    return found


def sources_of(path: Path) -> tuple[Source, ...]:
    """The sources of a file or a folder.

    Raises:
        DataError: nothing is there, or it cannot be read.
    """
    return named_sources(files_of(path))


def named_sources(files: Sequence[Path]) -> tuple[Source, ...]:
    """Files as sources, each digested."""
    return tuple(Source.of(file, name) for file, name in zip(files, names_of(files), strict=True))


def names_of(files: Sequence[Path]) -> list[str]:
    """What files are called: their names; their paths below one folder where names are alike."""
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        # Below the current folder one file may be given as ./a and another as /here/b.
        files = [file.absolute() for file in files]
        folder = os.path.commonpath([file.parent for file in files])
        names = [file.relative_to(folder).as_posix() for file in files]
    return names


def read_source(source: Source, shape_name: str) -> Iterator[Row | Reject]:
    """Every line of a source, as a row or as a reject.

    Raises:
        DataError: the file cannot be read at all, or no line has a known shape.
        IntegrityError: the file is not the one that the recipe names.
    """
    check_same(source)
    shape = SCHEMAS[shape_name]
    known = frozenset(shape.known)
    unused: Counter[str] = Counter()
    for line in loader_for(source.path)(source.path, source.name):
        if line.data is not None:
            unused.update(line.data.keys() - known)
        yield row_of(line, shape)
    tell_unused(source.name, unused)


def check_same(source: Source) -> None:
    """Refuse a file that is not the one that the recipe names.

    Raises:
        DataError: it cannot be read.
        IntegrityError: it is another one.
    """
    if _sha256(source.path) != source.sha256:
        raise IntegrityError(
            f"{source.path} was changed after the recipe was made",
            found=f"its sha256 is not {source.sha256[:16]}...",
            fix="run the same command again",
        )


def tell_unused(name: str, unused: Mapping[str, int]) -> None:
    """Say which keys of a source its shape has no use for, and in how many rows they are."""
    for key, rows in sorted(unused.items())[:MOST_UNUSED]:
        near = nearest(key, LABELS)
        meant = f"; did you mean {near!r}?" if near else ""
        emit("note", text=f"{name}: key {key[:40]!r} is not used ({rows} rows){meant}")
    if len(unused) > MOST_UNUSED:
        emit("note", text=f"{name}: {len(unused) - MOST_UNUSED} more keys are not used")


def tell_shape(path: Path) -> tuple[str, list[Line], str]:
    """A file's shape by its first lines, those lines, and the evidence in words.

    Raises:
        FormatError: no line has a known shape; says why the first does not.
        DataError: no line can be read.
    """
    sample: list[Line] = []
    for line in loader_for(path)(path, path.name):
        sample.append(line)
        if len(sample) == SAMPLE_ROWS:
            break
    shape, why = shape_in(sample, path)
    return shape, sample, why


def shape_in(sample: Sequence[Line], path: Path) -> tuple[str, str]:
    """The shape that most lines have first, and the evidence: what else they could be is told.

    Raises:
        FormatError: no line has a known shape; says why the first does not.
        DataError: no line can be read.
    """
    rows = [line.data for line in sample if line.data is not None]
    _refuse_preferences(rows, path)
    fitting = [shapes_of(row) for row in rows]
    votes = Counter(shapes[0] for shapes in fitting if shapes)
    if not votes:
        first = next((line for line in sample if line.data is not None), sample[0])
        why = first.problem or missing_keys(first.data or {}, None)
        raise (FormatError if rows else DataError)(
            f"{path}: no row has a shape that can be trained on",
            found=f"line {first.number}: {why}",
            fix="rename the keys, or name the format in config.yaml: data.format",
        )
    name, count = votes.most_common(1)[0]
    keys = next(SCHEMAS[name].fits(row) for row in rows if shapes_of(row)[:1] == (name,))
    why = f"{count} of the first {len(sample)} rows have the keys {', '.join(keys or ())}"
    others = [f"{n} are {other!r}" for other, n in votes.most_common() if other != name]
    both = Counter(other for shapes in fitting if shapes[:1] == (name,) for other in shapes[1:])
    others += [f"{n} of them would do as {other!r}, too" for other, n in both.most_common()]
    if others:
        why += f"; ambiguous: {', '.join(others)} (data.format decides)"
    return name, why


def _refuse_preferences(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Rows with two answers, of which some have the keys of another shape, too."""
    pairs = sum("chosen" in row and "rejected" in row for row in rows)
    if 2 * pairs > len(rows):
        raise FormatError(
            f"{path}: rows of preferences cannot be trained on yet",
            found=f"{pairs} of the first {len(rows)} rows have the keys chosen, rejected",
            fix="train on the chosen answers: write each row as {prompt, completion}\n"
            f"nexa data validate {path.name} checks the pairs as they are",
        )


def _data_files(paths: Iterable[Path]) -> list[Path]:
    """Those of some paths that a loader knows, in order."""
    named = [p for p in paths if suffix_of(p) in suffixes() and not p.name.startswith(".")]
    known = [p for p in named if p.is_file()]
    rows = [p for p in known if suffix_of(p) not in PROSE and p.name not in NOT_ROWS]
    return sorted(rows or [p for p in known if suffix_of(p) in PROSE and not _is_note(p)])


def _is_note(path: Path) -> bool:
    return path.name.lower().startswith(NOTES)


def _below(folder: Path) -> Iterator[Path]:
    """Everything below a folder but what is hidden."""
    for path in folder.rglob("*"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise DataError(f"cannot read {path}", found=error.strerror or str(error)) from error


def row_of(line: Line, shape: Shape) -> Row | Reject:
    """A line as a row of a shape, or why it is none."""
    if line.data is None:
        return Reject(line, MALFORMED, f"line {line.number}: {line.problem}")
    if any(key not in line.data for key in shape.required):
        why = missing_keys(line.data, shape)
        return Reject(line, MALFORMED, f"line {line.number}: {why}")
    try:
        return Row(line, shape.convert(line.data))
    except RowProblem as problem:
        return Reject(line, MALFORMED, f"line {line.number}: {problem}")
