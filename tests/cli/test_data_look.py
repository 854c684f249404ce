"""`nexa data show|diff|lineage|report`: what is in a dataset, and where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexa.cli.main import main
from nexa.data import look
from nexa.orchestrate.merge_data import merge_data
from tests.support.project import Finished, rows, write_rows

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def merged(project: Finished, capsys: Captured) -> Finished:
    """A project whose dataset has two versions: five rows were added, two were not."""
    new = write_rows(project.root / "new.jsonl", [*rows(range(300, 305)), *rows([3, 102])])
    merge_data("elements", [new], project.config)
    capsys.readouterr()
    return project


def told(words: list[str], capsys: Captured) -> dict[str, Any]:
    assert main([*words, "--json", "-q"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# -- show ----------------------------------------------------------------------------------------


def test_a_dataset_is_shown_with_some_of_its_rows(project: Finished, capsys: Captured) -> None:
    assert main(["data", "show", "elements", "--rows", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("dataset/elements@v1\n")
    assert "split train" in out
    assert "made from" in out
    assert "train.jsonl:1)" in out
    assert "  user: The value of iron0 is 100 units." in out
    assert '  assistant: {"name": "iron0", "value": 100}' in out


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--domain", "gases", "--rows", "2"], ["gold1", "argon3"]),
        (["--text", "ARGON3 ", "--split", "train"], ["argon3"]),
        (["--text", "no such words"], []),
        (["--rows", "0"], []),
    ],
)
def test_rows_are_chosen(
    project: Finished, capsys: Captured, words: list[str], ids: list[str]
) -> None:
    found = told(["data", "show", "elements", *words], capsys)
    assert [row["group"] for row in found["rows"]] == ids


def test_one_row_is_shown_by_its_id(project: Finished, capsys: Captured) -> None:
    (first,) = told(["data", "show", "elements", "--rows", "1"], capsys)["rows"]
    found = told(["data", "show", "elements", "--id", first["row_id"]], capsys)
    assert found["rows"] == [first]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--split", "tran"], "has no split 'tran'"),
        (["--domain", "gasses"], "has no domain 'gasses'"),
        (["--id", "nothing like it"], "has no row 'nothing like it'"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    project: Finished, capsys: Captured, words: list[str], complaint: str
) -> None:
    assert main(["data", "show", "elements", *words]) == 4
    assert complaint in capsys.readouterr().err


def test_a_mistyped_id_is_told_with_the_nearest(project: Finished, capsys: Captured) -> None:
    (first,) = told(["data", "show", "elements", "--rows", "1"], capsys)["rows"]
    assert main(["data", "show", "elements", "--id", first["row_id"][:-1]]) == 4
    assert f"the nearest id is '{first['row_id']}'" in capsys.readouterr().err


def test_of_many_ids_the_first_are_compared_with_a_mistyped_one(
    project: Finished, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "MOST_NEAR", 1)
    assert main(["data", "show", "elements", "--id", "nothing like it"]) == 4
    assert "found  40 rows, such as " in capsys.readouterr().err


def test_rows_that_were_left_out_are_shown_with_their_reason(
    merged: Finished, capsys: Captured
) -> None:
    assert main(["data", "show", "elements", "--dropped"]) == 0
    out = capsys.readouterr().out
    assert "\nnew.jsonl:6: exact duplicate\n" in out
    assert "\nnew.jsonl:7: leaks a held-out row\n" in out
    found = told(["data", "show", "elements", "--dropped", "--rows", "1"], capsys)
    assert len(found["rejects"]) == 1
    assert found["rows"] == []


# -- diff ----------------------------------------------------------------------------------------


def test_two_versions_are_compared(merged: Finished, capsys: Captured) -> None:
    found = told(["data", "diff", "elements@v1", "elements@v2"], capsys)
    assert found["added"]["count"] == len(found["added"]["samples"]) == 5
    assert [found[kind]["count"] for kind in ("removed", "changed", "moved")] == [0, 0, 0]
    assert found["same"] == 40
    assert found["domains"] == {"gases": [20, 22], "metals": [20, 23]}
    assert found["dropped"] == {"exact duplicate": [0, 1], "leaks a held-out row": [0, 1]}
    assert main(["data", "diff", "elements@v2", "elements@v1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("dataset/elements@v2 -> dataset/elements@v1\n")
    assert "rows removed           5  " in out
    assert "domain gases   22 -> 20" in out


# -- lineage -------------------------------------------------------------------------------------


def test_versions_are_told_back_to_the_files(merged: Finished, capsys: Captured) -> None:
    assert main(["data", "lineage", "elements"]) == 0
    first, second, source = capsys.readouterr().out.splitlines()
    assert first.startswith("dataset/elements@v2  45 rows  [merge_data]  ")
    assert second.startswith("  dataset/elements@v1  40 rows  [prepare]  ")
    assert source.startswith("    train.jsonl  ")


def test_a_row_is_told_back_to_its_line(merged: Finished, capsys: Captured) -> None:
    (new,) = told(["data", "show", "elements", "--text", "iron304 "], capsys)["rows"]
    found = told(["data", "lineage", "elements", new["row_id"]], capsys)["row"]
    assert (found["origin"], found["first_version"]) == ("new.jsonl:5", "dataset/elements@v2")
    (old,) = told(["data", "show", "elements", "--text", "iron0 "], capsys)["rows"]
    assert main(["data", "lineage", "elements", old["row_id"]]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["origin", "train.jsonl:1"] in lines
    assert ["first_version", "dataset/elements@v1"] in lines


def test_a_row_that_is_not_there_has_no_lineage(project: Finished, capsys: Captured) -> None:
    assert main(["data", "lineage", "elements", "nowhere"]) == 4
    assert "has no row 'nowhere'" in capsys.readouterr().err


# -- report --------------------------------------------------------------------------------------


def test_the_page_of_a_dataset_shows_counts_drops_and_rows(
    merged: Finished, capsys: Captured
) -> None:
    assert main(["data", "report", "elements"]) == 0
    assert capsys.readouterr().out == "Saved: elements-v2.html\n"
    page = Path("elements-v2.html").read_text()
    assert "45 of 47 rows kept" in page
    assert "leaks a held-out row" in page
    assert "<code>new.jsonl:6</code>" in page
    assert "The value of " in page
    assert "<td>dataset/elements@v1</td>" in page
    assert "<script" not in page


def test_the_page_of_a_dataset_without_drops_goes_where_it_should(
    project: Finished, capsys: Captured, tmp_path: Path
) -> None:
    found = told(["data", "report", "elements", "-o", str(tmp_path / "page.html")], capsys)
    assert found["path"] == str(tmp_path / "page.html")
    assert "No row was left out." in (tmp_path / "page.html").read_text()


def test_of_many_rows_left_out_for_one_reason_the_page_shows_the_first(
    project: Finished, capsys: Captured
) -> None:
    again = write_rows(project.root / "new.jsonl", [*rows([300]), *rows(range(7))])
    merge_data("elements", [again], project.config)
    capsys.readouterr()
    assert main(["data", "report", "elements", "-q"]) == 0
    page = Path("elements-v2.html").read_text()
    assert [page.count(f"<code>new.jsonl:{line}</code>") for line in (2, 6, 7)] == [1, 1, 0]
