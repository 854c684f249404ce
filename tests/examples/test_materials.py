"""What the materials example promises, checked on the committed files alone."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections import defaultdict
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "materials"
FILES = ("train", "eval", "pool")
SCHEMA = {
    "context": str,
    "prompt": str,
    "target_answer": dict,
    "domain": str,
    "source": str,
    "quality_score": float,
    "group": str,
}

Row = dict[str, Any]


def read(name: str) -> list[Row]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def files() -> dict[str, list[Row]]:
    return {name: read(name) for name in FILES}


@pytest.fixture(scope="module")
def rows(files: dict[str, list[Row]]) -> list[Row]:
    return [row for name in FILES for row in files[name]]


def elements(rows: list[Row]) -> dict[str, set[str]]:
    """Symbols by domain."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row["domain"]].add(row["group"])
    return dict(found)


def turn(row: Row) -> str:
    return f"{row['context']}\n\n{row['prompt']}"


def words(text: str) -> list[str]:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


def test_the_files_hold_the_rows_that_the_readme_counts(files: dict[str, list[Row]]) -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    for name in FILES:
        assert f"| `{name}.jsonl` | {len(files[name])} |" in readme
    assert 300 <= len(files["train"]) <= 400
    assert len(files["eval"]) >= 64


def test_every_row_follows_the_schema(rows: list[Row]) -> None:
    for row in rows:
        assert {key: type(value) for key, value in row.items()} == SCHEMA
        assert row["source"] == "synthetic"
        assert row["quality_score"] == 1.0


def test_an_element_is_in_one_file_and_one_domain_only(
    files: dict[str, list[Row]], rows: list[Row]
) -> None:
    by_file = {name: {row["group"] for row in files[name]} for name in FILES}
    for one, other in combinations(FILES, 2):
        assert not by_file[one] & by_file[other]
    domains = defaultdict(set)
    for row in rows:
        domains[row["group"]].add(row["domain"])
    assert all(len(found) == 1 for found in domains.values())


def test_five_domains_have_fifteen_elements_and_five_of_them_held_out(
    files: dict[str, list[Row]], rows: list[Row]
) -> None:
    assert len(elements(rows)) == 5
    for name, fewest in (("train", 6), ("eval", 5), ("pool", 4)):
        found = elements(files[name])
        assert found.keys() == elements(rows).keys()
        assert all(len(symbols) >= fewest for symbols in found.values())
    assert all(len(symbols) >= 15 for symbols in elements(rows).values())


def test_the_readme_counts_the_elements_of_each_domain(files: dict[str, list[Row]]) -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    counts = {name: elements(files[name]) for name in FILES}
    for domain in counts["train"]:
        train, held_out, pool = (len(counts[name][domain]) for name in FILES)
        whole = train + held_out + pool
        assert f"| `{domain}` | {whole} ({train}, {held_out}, {pool}) |" in readme


def test_domains_count_alike_in_each_file(files: dict[str, list[Row]]) -> None:
    for name in FILES:
        sizes: dict[str, int] = defaultdict(int)
        for row in files[name]:
            sizes[row["domain"]] += 1
        assert max(sizes.values()) - min(sizes.values()) <= 1


def test_each_domain_has_one_record_and_no_key_of_another(rows: list[Row]) -> None:
    keys: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for row in rows:
        keys[row["domain"]].add(tuple(row["target_answer"]))
    assert all(len(found) == 1 for found in keys.values())
    every = [key for found in keys.values() for key in next(iter(found))]
    assert len(set(every)) == len(every)


def test_each_domain_has_a_key_that_no_note_or_prompt_spells_out(rows: list[Row]) -> None:
    for domain in elements(rows):
        of_domain = [row for row in rows if row["domain"] == domain]
        said = {word for r in of_domain for word in re.findall(r"\w+", turn(r))}
        assert set(of_domain[0]["target_answer"]) - said, domain


def test_a_key_has_one_type_of_value(rows: list[Row]) -> None:
    types: dict[str, set[type]] = defaultdict(set)
    for row in rows:
        for key, value in row["target_answer"].items():
            types[key].add(type(value))
    assert all(len(found) == 1 for found in types.values()), types


def test_every_value_is_in_its_note_as_the_record_has_it(rows: list[Row]) -> None:
    for row in rows:
        for key, value in row["target_answer"].items():
            text = value if isinstance(value, str) else json.dumps(value)
            # The second formula: the value parts the note, and no part goes on with a digit.
            before, found, after = row["context"].partition(text)
            while found and (before[-1:].isalnum() or re.match(r"\w|\.\d", after)):
                more, found, after = after.partition(text)
                before += text + more
            assert found, f"{key} = {text} is not stated in: {row['context']}"


def test_no_note_comes_twice(rows: list[Row]) -> None:
    assert len({row["context"] for row in rows}) == len(rows)


def test_eval_rows_share_no_long_run_of_words_with_training_rows(
    files: dict[str, list[Row]],
) -> None:
    def runs(row: Row) -> set[str]:
        text = words(turn(row))
        return {" ".join(text[i : i + 13]) for i in range(len(text) - 12)}

    held_out = set().union(*map(runs, files["eval"]))
    assert not any(runs(row) & held_out for row in files["train"] + files["pool"])


def test_rows_are_short(rows: list[Row]) -> None:
    # About 0.45 tokens a character in these notes: 190 tokens with the chat template's own 35.
    for row in rows:
        assert len(row["context"]) + len(row["prompt"]) <= 320
        assert len(json.dumps(row["target_answer"])) <= 110


def test_files_are_small_enough_for_git() -> None:
    for path in FOLDER.iterdir():
        assert path.is_dir() or path.stat().st_size < 1_000_000


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    """The build's own checks; the module stands alone."""
    spec = importlib.util.spec_from_file_location("materials_checks", FOLDER / "checks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_builds_own_checks_accept_the_files(
    checks: ModuleType, files: dict[str, list[Row]]
) -> None:
    checks.check_rows(files, {name: len(rows) for name, rows in files.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": "A note without facts."}, "the note does not state"),
        ({"target_answer": "a sentence"}, "the record is no object"),
        ({"target_answer": {"sample": None}}, "the note does not state sample = None"),
        ({"group": "from eval"}, "share the elements"),
        ({"context": "from row 2"}, "the same note"),
    ],
)
def test_the_builds_own_checks_refuse_a_broken_row(
    checks: ModuleType, files: dict[str, list[Row]], change: Row, message: str
) -> None:
    broken = deepcopy(files)
    row = broken["train"][0]
    row.update(change)
    if row["group"] == "from eval":
        row["group"] = broken["eval"][0]["group"]
    if row["context"] == "from row 2":
        row.update(broken["train"][1])
    with pytest.raises(checks.BrokenExample, match=message):
        checks.check_rows(broken, {name: len(rows) for name, rows in broken.items()})


def test_build_without_mendeleev_says_how_to_install_it() -> None:
    # -S leaves the site packages out, so that the package is missing wherever the test runs.
    run = subprocess.run(
        [sys.executable, "-S", "-B", str(FOLDER / "build.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "pip install mendeleev==1.3.0" in run.stderr
    assert "Traceback" not in run.stderr
