"""The record of rounds: which pass goes on, where the next round begins, what is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.tiers import Tiers
from nexa.orchestrate.improve.book import Book, Round, held, read_book

CONFIG = "ab" * 32


def played(number: int, *, accepted: bool, tried: str | None = None) -> Round:
    return Round(number, f"run-{number}", accepted, "why", "d@v1", "d@v2", tried, "00" * 32)


def test_a_pass_without_an_end_goes_on_if_the_same_is_asked(tmp_path: Path) -> None:
    tiers = Tiers.of(tmp_path)
    book = read_book(tiers, CONFIG)
    assert not book.begin({"rows": 1})
    book.note_round(played(1, accepted=True))
    again = read_book(tiers, CONFIG)
    assert again.begin({"rows": 1})
    assert again.now.rounds == [played(1, accepted=True)]
    assert not again.begin({"rows": 2})
    again.end("all is done")
    ended = read_book(tiers, CONFIG)
    assert not ended.begin({"rows": 2})
    assert len(ended.passes) == 3
    assert [one.ended for one in ended.passes] == [None, "all is done", None]
    assert read_book(tiers, "cd" * 32).passes == []


def test_the_last_accepted_round_of_all_passes_counts(tmp_path: Path) -> None:
    book = Book(tmp_path / "book.json")
    book.begin({"rows": 1})
    assert (book.accepted, book.tried) == (None, None)
    book.note_round(played(1, accepted=True, tried="a"))
    assert book.tried is None
    book.end("done")
    book.begin({"rows": 2})
    book.note_round(played(2, accepted=False, tried="b"))
    assert book.accepted == played(1, accepted=True, tried="a")
    assert book.tried == "b"


def test_what_was_paid_before_is_noted_once(tmp_path: Path) -> None:
    book = Book(tmp_path / "book.json")
    book.begin({})
    book.note_journal("job.jsonl", 1.5)
    book.note_journal("job.jsonl", 2.5)
    assert book.now.journals == {"job.jsonl": 1.5}


def test_with_other_rows_the_rounds_before_are_none(tmp_path: Path) -> None:
    book = Book(tmp_path / "book.json")
    book.begin({"rows": 1})
    assert not book.stand_on("run-0", "aa")
    book.note_round(played(1, accepted=True))
    assert not book.stand_on("run-0", "aa")
    book.begin({"rows": 2})
    assert book.stand_on("run-9", "bb")
    assert (book.rounds, len(book.passes)) == ([], 1)
    assert json.loads(book.path.read_text())["base"] == {"run_id": "run-9", "dataset": "bb"}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": "other/1"}', '{"schema": "nexa.improve/1"}']
)
def test_a_broken_record_is_told_with_what_helps(tmp_path: Path, text: str) -> None:
    tiers = Tiers.of(tmp_path)
    path = read_book(tiers, CONFIG).path
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(IntegrityError, match="is not a record of rounds") as broken:
        read_book(tiers, CONFIG)
    assert "take it from git" in (broken.value.fix or "")


def test_a_folder_that_cannot_hold_the_lock_is_told(tmp_path: Path) -> None:
    (tmp_path / ".nexa").write_text("a file")
    with pytest.raises(StorageError), held(Tiers.of(tmp_path)):
        pass
