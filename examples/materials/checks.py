"""What must hold of the example's rows; `build.py` refuses to write rows that break it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import combinations

FILES = ("train", "eval", "pool")
KEYS = ("context", "prompt", "target_answer", "domain", "source", "quality_score", "group")
DOMAINS = 5
FEWEST_ELEMENTS = {"all": 15, "train": 6, "eval": 5, "pool": 4}
"""Fewest elements a domain: over all files, and in each."""
MOST_COMMON_WORDS = 12
"""No training row shares a longer run of words with an eval row: 13 words is the length that
contamination checks commonly look for (Brown et al. 2020, arXiv:2005.14165, appendix C)."""
MOST_ALIKE = 0.5
"""Greatest Jaccard similarity of the word pairs of two rows' contexts."""

Row = Mapping[str, object]


class BrokenExample(ValueError):
    """A property of the example's files does not hold."""


def check_rows(files: Mapping[str, Sequence[Row]], counts: Mapping[str, int]) -> None:
    """Check all files together.

    Raises:
        BrokenExample: names the first property that fails, with the file and the row.
    """
    for name in FILES:
        _require(len(files[name]) == counts[name], f"{name}: {len(files[name])} rows")
        for number, row in enumerate(files[name], start=1):
            _check_row(row, f"{name} row {number}")
    _check_domains(files)
    _check_elements(files)
    _check_notes(files)


def stated(value: str | int | float, note: str) -> bool:
    """Whether the note has the value, in the form JSON gives it, not as a part of a longer one."""
    return re.search(rf"(?<![\w.]){re.escape(str(value))}(?!\w|\.\d)", note) is not None


def alike(one: Row, other: Row) -> bool:
    """Whether two rows' contexts share more than `MOST_ALIKE` of their word pairs."""
    pairs, others = (_runs(str(row["context"]), 2) for row in (one, other))
    return len(pairs & others) > MOST_ALIKE * len(pairs | others)


def _check_row(row: Row, place: str) -> None:
    _require(tuple(row) == KEYS, f"{place}: keys {tuple(row)}")
    record = _record(row)
    _require(json.loads(json.dumps(record)) == record, f"{place}: the record is not plain JSON")
    for key, value in record.items():
        said = isinstance(value, str | int | float) and stated(value, str(row["context"]))
        _require(said, f"{place}: the note does not state {key} = {value!r}")


def _check_domains(files: Mapping[str, Sequence[Row]]) -> None:
    """Five domains of enough elements, each with one set of record keys that no other has."""
    schemas: dict[str, set[tuple[str, ...]]] = {}
    for row in _all(files):
        schemas.setdefault(str(row["domain"]), set()).add(tuple(_record(row)))
    _require(len(schemas) == DOMAINS, f"{len(schemas)} domains")
    _require(all(len(found) == 1 for found in schemas.values()), f"mixed records: {schemas}")
    for (one, (keys,)), (other, (others,)) in combinations(schemas.items(), 2):
        _require(not set(keys) & set(others), f"{one} and {other} share record keys")
    for domain in schemas:
        groups = {name: _groups(files[name], domain) for name in FILES}
        groups["all"] = set().union(*groups.values())
        for name, fewest in FEWEST_ELEMENTS.items():
            found = len(groups[name])
            _require(found >= fewest, f"{domain}: {found} elements in {name}, need {fewest}")


def _check_elements(files: Mapping[str, Sequence[Row]]) -> None:
    for one, other in combinations(FILES, 2):
        common = _groups(files[one]) & _groups(files[other])
        _require(not common, f"{one} and {other} share the elements {sorted(common)}")


def _check_notes(files: Mapping[str, Sequence[Row]]) -> None:
    notes = [row["context"] for row in _all(files)]
    _require(len(set(notes)) == len(notes), "two rows have the same note")
    for one, other in combinations(_all(files), 2):
        _require(not alike(one, other), f"near-duplicates: {one['context']} / {other['context']}")
    held_out = frozenset().union(
        *(_runs(_turn(row), MOST_COMMON_WORDS + 1) for row in files["eval"])
    )
    for name in ("train", "pool"):
        for number, row in enumerate(files[name], start=1):
            common = _runs(_turn(row), MOST_COMMON_WORDS + 1) & held_out
            _require(not common, f"{name} row {number} shares with eval: {common}")


def _record(row: Row) -> dict[str, str | int | float]:
    record = row["target_answer"]
    if not isinstance(record, dict):
        raise BrokenExample(f"the record is no object: {record!r}")
    return record


def _turn(row: Row) -> str:
    return f"{row['context']}\n\n{row['prompt']}"


@cache  # every note is compared with every other
def _runs(text: str, length: int) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return frozenset(tuple(words[i : i + length]) for i in range(len(words) - length + 1))


def _groups(rows: Iterable[Row], domain: str | None = None) -> set[str]:
    return {str(row["group"]) for row in rows if domain in (None, row["domain"])}


def _all(files: Mapping[str, Sequence[Row]]) -> list[Row]:
    return [row for name in FILES for row in files[name]]


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BrokenExample(otherwise)
