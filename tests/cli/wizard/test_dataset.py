from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.cli.wizard.dataset import Data, ask_data, ask_share
from nexa.core.errors import UsageError
from nexa.orchestrate.data_files import data_files, place_of
from tests.cli.wizard.typed import Person
from tests.support.hub_emulator import HubEmulator
from tests.support.project import rows, write_rows


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def whole(folder: Path) -> Path:
    write_rows(folder / "train.jsonl", rows(range(40)))
    write_rows(folder / "eval.jsonl", rows(range(100, 110)))
    write_rows(folder / "pool.jsonl", rows(range(200, 203)))
    return folder


def test_files_have_numbers_and_what_is_taken_is_shown_with_its_evidence(project: Path) -> None:
    whole(project / "elements")
    person = Person("")
    data = ask_data(person, None, project)
    assert data.reference == "./elements"
    assert "  1  ./elements  record, train.jsonl; held out: eval.jsonl" in person.seen
    assert "Format: record, 40 rows to train on" in person.seen
    assert "train.jsonl: 40 of the first 40 rows" in person.seen
    assert "Held out: eval.jsonl, 10 rows" in person.seen
    assert "Left out: pool.jsonl (a pool of rows for later rounds)" in person.seen
    assert '{"context": "The value of iron0 is' in person.seen
    shares = Person()
    assert ask_share(shares, None, data) is None
    assert shares.seen == ""
    assert ask_share(shares, 0.3, data) is None
    assert "so no share is set aside" in shares.seen


def test_a_bad_file_is_told_with_the_reason_and_asked_again(project: Path) -> None:
    (project / "bad.jsonl").write_text('{"msgs": 1}\n')
    write_rows(project / "good" / "mine.jsonl", rows(range(40)))
    (project / "good").rename(project / ".good")  # hidden: not offered, but it can be typed
    person = Person("bad.jsonl", ".good/mine.jsonl")
    assert ask_data(person, None, project).files.rows == 40
    assert "No data file was found" in person.seen
    assert "File, folder or Hub dataset: " in person.seen
    assert "'msgs'" in person.seen


def test_a_dataset_of_the_hub_is_fetched(project: Path, hub_emulator: HubEmulator) -> None:
    made = "".join(json.dumps(row) + "\n" for row in rows(range(40)))
    hub_emulator.add_repo("org/elements", {"data/train.jsonl": made.encode()}, kind="dataset")
    person = Person("org/nothing", "org/elements")
    data = ask_data(person, None, project)
    assert data.reference == "org/elements"
    assert data.files.rows == 40
    assert "org/nothing" in person.seen
    assert list(project.iterdir()) == []


def test_long_rows_are_cut_to_the_terminal(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    write_rows(project / "long.jsonl", [{**row, "prompt": "x" * 500} for row in rows(range(40))])
    write_rows(project / "short.jsonl", [{"prompt": f"{n}?", "completion": "!"} for n in range(20)])
    person = Person()
    ask_data(person, "long.jsonl", project)
    shown = [line for line in person.seen.splitlines() if line.startswith('    {"')]
    assert all(len(line) == 36 and line.endswith("...") for line in shown)
    monkeypatch.setenv("COLUMNS", "80")
    ask_data(person, "short.jsonl", project)
    assert '    {"prompt": "0?", "completion": "!"}\n' in person.seen


@pytest.fixture
def small(project: Path) -> Data:
    path = write_rows(project / "small.jsonl", rows(range(20)))
    return Data(str(path), data_files(place_of(path).path))


@pytest.mark.parametrize(("typed", "share"), [("", 0.1), ("0.25", 0.25), ("25%", 0.25)])
def test_a_share_is_a_number_or_percent(small: Data, typed: str, share: float) -> None:
    assert ask_share(Person(typed), None, small) == share


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("half", "'half' is no share"),
        ("0", "should be above 0"),
        ("nan", "should be above 0"),
        ("95%", "below 0.9"),
        ("1%", "too few rows"),
    ],
)
def test_a_share_that_leaves_nothing_is_told(small: Data, typed: str, reason: str) -> None:
    person = Person(typed, "0.5")
    assert ask_share(person, None, small) == 0.5
    assert reason in person.seen
    with pytest.raises(UsageError):
        ask_share(Person(asks=False), 7.0, small)
