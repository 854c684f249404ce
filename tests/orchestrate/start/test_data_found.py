from __future__ import annotations

from pathlib import Path

import pytest

from nexa.orchestrate.start import data_found
from nexa.orchestrate.start.data_found import DataOffer, data_offers
from tests.support.project import rows, write_rows

ROWS = rows(range(20))


def paths(project: Path) -> list[str]:
    return [offer.path for offer in data_offers(project)]


def test_folders_with_a_held_out_file_come_first_then_files_then_prose(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Some prose.\n\nAnd some more of it.\n")
    write_rows(tmp_path / "b.jsonl", ROWS)
    write_rows(tmp_path / "whole" / "train.jsonl", ROWS)
    write_rows(tmp_path / "whole" / "test.jsonl", ROWS)
    assert data_offers(tmp_path) == [
        DataOffer("./whole", "record, train.jsonl; held out: test.jsonl"),
        DataOffer("./b.jsonl", "record"),
        DataOffer("./a.txt", "text"),
    ]


def test_the_folder_itself_can_be_the_data(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", ROWS)
    write_rows(tmp_path / "eval.jsonl", ROWS)
    assert paths(tmp_path) == ["."]


def test_what_is_no_data_is_passed_over(tmp_path: Path, tiny_llama: Path) -> None:
    for folder in (".hidden", ".nexa", "output", "runs", "a/node_modules", "a/b/c/d"):
        write_rows(tmp_path / folder / "rows.jsonl", ROWS)
    write_rows(tmp_path / ".rows.jsonl", ROWS)
    (tmp_path / "model").symlink_to(tiny_llama)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "tokenizer.json").write_bytes((tiny_llama / "tokenizer.json").read_bytes())
    (tmp_path / "package.json").write_text('{"name": "x"}')
    (tmp_path / "README.txt").write_text("Read me.\n")
    (tmp_path / "requirements.txt").write_text("torch\n")
    (tmp_path / "empty.jsonl").touch()
    assert paths(tmp_path) == []


def test_two_files_without_a_held_out_one_are_two_offers(tmp_path: Path) -> None:
    write_rows(tmp_path / "one.jsonl", ROWS)
    write_rows(tmp_path / "two.jsonl", ROWS)
    write_rows(tmp_path / "same" / "train.jsonl", ROWS)
    write_rows(tmp_path / "same" / "more.jsonl", ROWS)
    write_rows(tmp_path / "bad" / "eval.jsonl", ROWS)
    (tmp_path / "bad" / "train.jsonl").write_text("{}\n")
    assert paths(tmp_path) == [
        *("./one.jsonl", "./two.jsonl", "./bad/eval.jsonl"),
        *("./same/more.jsonl", "./same/train.jsonl"),
    ]


def test_names_that_cannot_be_shown_are_not_offered(tmp_path: Path) -> None:
    write_rows(tmp_path / "\x1b[31mred.jsonl", ROWS)
    write_rows(tmp_path / "caf\udce9.jsonl", ROWS)
    write_rows(tmp_path / "\u202ereversed" / "rows.jsonl", ROWS)
    write_rows(tmp_path / "café.jsonl", ROWS)
    assert paths(tmp_path) == ["./café.jsonl"]


def test_a_folder_that_cannot_be_read_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_offers(tmp_path / "none") == []
    write_rows(tmp_path / "a" / "rows.jsonl", ROWS)
    monkeypatch.setattr(data_found, "MOST_FOLDERS", 1)
    assert paths(tmp_path) == []


def test_only_so_many_are_looked_at_and_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        write_rows(tmp_path / f"{number:02}.jsonl", ROWS)
    assert len(paths(tmp_path)) == data_found.MOST_OFFERS
    monkeypatch.setattr(data_found, "MOST_LOOKED_AT", 2)
    assert paths(tmp_path) == ["./00.jsonl", "./01.jsonl"]
