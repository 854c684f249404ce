"""Rows against the schema of their dataset type, or a user's own: each fault with its place.

Nothing is trained, tokenized or written, and no model is needed. A file is read as it streams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator

from nexa.core.errors import DataError, UsageError, nearest
from nexa.core.events import progress
from nexa.data.loaders import loader_for
from nexa.data.rows import Line
from nexa.data.schemas import RowProblem, missing_keys
from nexa.data.schemas.faults import Fault, faults_of
from nexa.data.schemas.own import own_validator
from nexa.data.schemas.types import DatasetType, Variant, dataset_types, type_of
from nexa.data.sources import SAMPLE_ROWS

UNREADABLE = "cannot be read"
FALLBACK = "sft"  # what rows are held against whose keys say nothing
OWN = "own schema"
WRONG_KEYS = "keys of no known shape"
LONGEST_KEY = 40
MOST_NAMES, OTHERS = 1000, "(others)"


@dataclass(frozen=True)
class BadRow:
    """A row with what is wrong with it; `origin` is `file:line`."""

    origin: str
    faults: tuple[Fault, ...]


@dataclass
class FileReport:
    """One file: its type and how that is known, its rows, and the first bad ones of them."""

    name: str
    type: str = ""
    evidence: str = ""
    rows: int = 0
    bad: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    shown: list[BadRow] = field(default_factory=list)
    unreadable: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `--json` has it."""
        told = [
            {
                "at": row.origin,
                "faults": [{"pointer": f.pointer, "problem": f.problem} for f in row.faults],
            }
            for row in self.shown
        ]
        return {
            "file": self.name,
            "type": self.type,
            "evidence": self.evidence,
            "rows": self.rows,
            "bad": self.bad,
            "unreadable": self.unreadable or None,
            "faults": dict(self.kinds.most_common()),
            "unused_keys": dict(self.unused.most_common()),
            "first_bad": told,
        }


@dataclass(frozen=True)
class Report:
    """All files."""

    files: tuple[FileReport, ...]

    @property
    def rows(self) -> int:
        """Rows read."""
        return sum(file.rows for file in self.files)

    @property
    def bad(self) -> int:
        """Rows with a fault."""
        return sum(file.bad for file in self.files)

    @property
    def passed(self) -> bool:
        """Whether every file can be read and every row is good."""
        return not self.bad and not any(file.unreadable for file in self.files)

    @property
    def kinds(self) -> Counter[str]:
        """How often each kind of fault is there."""
        return sum((file.kinds for file in self.files), Counter())

    def to_json(self) -> dict[str, Any]:
        """As `--json` has it."""
        return {
            "passed": self.passed,
            "rows": self.rows,
            "bad": self.bad,
            "faults": dict(self.kinds.most_common()),
            "files": [file.to_json() for file in self.files],
        }


def validate(
    files: Iterable[tuple[Path, str]],
    *,
    type_name: str | None = None,
    schema: Path | None = None,
    limit: int | None = 20,
) -> Report:
    """Check every row of files, each given with the name that its rows bear.

    Without a type or a schema each file's type is told from its first rows. `limit` is how many
    bad rows are told, over all files; every one is counted.

    Raises:
        UsageError: there is no such type.
        DataError: the user's schema cannot be used.
    """
    judge = _judge(type_name, schema)
    reports: list[FileReport] = []
    left = limit
    with progress("validating", unit="rows") as bar:
        for path, name in files:
            report = FileReport(name)
            try:
                for _ in _checked(path, report, judge, left):
                    bar.advance()
            except DataError as error:
                report.unreadable = str(error)
            left = None if left is None else left - len(report.shown)
            reports.append(report)
    return Report(tuple(reports))


def type_named(name: str) -> DatasetType:
    """The dataset type of a name.

    Raises:
        UsageError: there is none; says the nearest.
    """
    types = dataset_types()
    if name not in types:
        raise UsageError(
            f"there is no dataset type {name!r}",
            found=f"known: {', '.join(types)}",
            fix=nearest(name, types),
        )
    return types[name]


@dataclass
class _Judge:
    """What rows are held against: one type or schema for all, or each file's own type."""

    types: dict[str, DatasetType]
    fixed: DatasetType | None = None
    own: Validator | None = None
    compiled: dict[str, Validator] = field(default_factory=dict)

    def faults(self, row: dict[str, Any], variant: Variant | None) -> list[Fault]:
        """What is wrong with a row; without a variant it is held against the user's schema."""
        if variant is None:
            return faults_of(self.own, row) if self.own else []
        return self._by_values(row, variant)

    def _by_values(self, row: dict[str, Any], variant: Variant) -> list[Fault]:
        found = faults_of(self._validator(variant), row)
        if found:
            return found
        try:
            variant.check(row)
        except RowProblem as problem:
            return [Fault(problem.pointer, str(problem), "not as it must be")]
        return []

    def _validator(self, variant: Variant) -> Validator:
        if variant.name not in self.compiled:
            self.compiled[variant.name] = Draft202012Validator(variant.json_schema)
        return self.compiled[variant.name]


def _judge(type_name: str | None, schema: Path | None) -> _Judge:
    types = dataset_types()
    if schema is not None:
        return _Judge(types, own=own_validator(schema))
    if type_name is None:
        return _Judge(types)
    return _Judge(types, fixed=type_named(type_name))


def _checked(path: Path, report: FileReport, judge: _Judge, limit: int | None) -> Iterator[None]:
    """Fill a file's report row by row.

    Raises:
        DataError: the file cannot be read, or not to its end.
    """
    lines = loader_for(path)(path, report.name)
    first = list(islice(lines, SAMPLE_ROWS))
    type_ = _type(first, report, judge)
    for line in chain(first, lines):
        report.rows += 1
        faults = _faults(line, type_, judge, report)
        if faults:
            report.bad += 1
            for fault in faults:
                _count(report.kinds, fault.group)
            if limit is None or len(report.shown) < limit:
                report.shown.append(BadRow(line.origin, tuple(faults)))
        yield


def _faults(
    line: Line, type_: DatasetType | None, judge: _Judge, report: FileReport
) -> list[Fault]:
    if line.data is None:
        return [Fault("", line.problem, UNREADABLE)]
    if type_ is None:
        return judge.faults(line.data, None)
    variant = type_.variant_of(line.data)
    if not variant.held(line.data)[0] and len(type_.variants) > 1:
        return [_wrong_keys(line.data, type_, variant)]
    for key in line.data.keys() - variant.known:
        _count(report.unused, key[:LONGEST_KEY])
    return judge.faults(line.data, variant)


def _wrong_keys(row: Mapping[str, Any], type_: DatasetType, variant: Variant) -> Fault:
    """A row that is of no variant: which keys were meant, of all that there are."""
    if type_.name == FALLBACK:
        return Fault("", missing_keys(row, None), WRONG_KEYS)
    wanted = [key for key in variant.key_sets[0] if key not in row]
    meant = ((key, nearest(key, wanted)) for key in row if key not in variant.known)
    hints = [f"key {key[:LONGEST_KEY]!r} - did you mean {near!r}?" for key, near in meant if near]
    lacks = f"has no {', '.join(map(repr, wanted))}"
    ways = " or ".join("{" + ", ".join(v.key_sets[0]) + "}" for v in type_.variants)
    problem = "; ".join([lacks, *hints[:5], f"rows of {type_.name!r} are {ways}"])
    return Fault("", problem, WRONG_KEYS)


def _count(counter: Counter[str], name: str) -> None:
    """Count what rows name, of which a hostile file has no end."""
    counter[name if name in counter or len(counter) < MOST_NAMES else OTHERS] += 1


def _type(first: Sequence[Line], report: FileReport, judge: _Judge) -> DatasetType | None:
    """What a file's rows are held against, and why."""
    if judge.own is not None:
        report.type, report.evidence = OWN, "as asked for"
        return None
    if judge.fixed is not None:
        report.type, report.evidence = judge.fixed.name, "as asked for"
        return judge.fixed
    told = [type_of(line.data) for line in first if line.data is not None]
    votes = Counter(found[0] for found in told if found)
    if votes:
        name, count = votes.most_common(1)[0]
        keys = next(found[1] for found in told if found and found[0] == name)
        report.evidence = f"{count} of the first {len(first)} rows have the keys {', '.join(keys)}"
        others = [f"{n} are {other!r}" for other, n in votes.most_common()[1:]]
        report.evidence += f"; {', '.join(others)}" if others else ""
    else:
        name = FALLBACK
        report.evidence = f"none of the first {len(first)} rows has keys that tell its type"
    report.type = name
    return judge.types[name]
