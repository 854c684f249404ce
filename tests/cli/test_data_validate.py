from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from nexa.cli.main import main

Captured = pytest.CaptureFixture[str]

GOOD = {"prompt": "q", "completion": "a"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_good_rows_end_with_0(here: Path, capsys: Captured) -> None:
    write(here / "rows.jsonl", GOOD, {**GOOD, "extra": 1})
    assert main(["data", "validate", "rows.jsonl"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "rows.jsonl is checked as sft: 2 of the first 2 rows have the keys prompt"
    )
    assert "key 'extra' is not used (1 rows)" in out
    assert "every row is good" in out


def test_bad_rows_end_with_the_code_of_data(here: Path, capsys: Captured) -> None:
    write(here / "rows.jsonl", GOOD, *[{"prompt": " ", "completion": 3}] * 3)
    (here / "empty.jsonl").write_text("")
    assert main(["data", "validate", "rows.jsonl", "empty.jsonl", "--limit", "2"]) == 4
    out = capsys.readouterr().out
    assert "  rows.jsonl:2  /completion  is a number" in out
    assert "  and 1 more bad rows (--limit 0 tells all)" in out
    assert "         3  empty at /prompt" in out
    assert "empty.jsonl is empty" in out
    assert "rows.jsonl:4" not in out
    assert main(["data", "validate", "rows.jsonl", "--limit", "0"]) == 4
    assert "rows.jsonl:4" in capsys.readouterr().out


def test_patterns_folders_and_addresses_are_their_files(here: Path, capsys: Captured) -> None:
    for name in ("a/x.jsonl", "b/x.jsonl", "b/deep/y.jsonl"):
        write(here / name, GOOD)
    words = ["data", "validate", "a/x.jsonl", "b/**/*.jsonl", f"file://{here}/a", "--json", "-q"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] >= 3
    assert {file["file"] for file in report["files"]} >= {
        "a/x.jsonl",
        "b/x.jsonl",
        "b/deep/y.jsonl",
    }


def test_a_type_and_a_schema_are_told_apart(here: Path, capsys: Captured) -> None:
    write(here / "rows.jsonl", GOOD)
    write(here / "own.json", {"required": ["k"]})
    assert main(["data", "validate", "rows.jsonl", "--type", "chat"]) == 4
    assert main(["data", "validate", "rows.jsonl", "--schema", "own.json"]) == 4
    assert "(row)  has no 'k'" in capsys.readouterr().out
    assert main(["data", "validate", "rows.jsonl", "--type", "x", "--schema", "own.json"]) == 2
    assert main(["data", "validate", "rows.jsonl", "--type", "chatt"]) == 2
    assert "try    chat" in capsys.readouterr().err
    assert main(["data", "validate", "none.jsonl"]) == 4


def test_a_schema_can_be_taken_and_changed(here: Path, capsys: Captured) -> None:
    assert main(["data", "schema"]) == 0
    assert "hypothesis" in capsys.readouterr().out
    assert main(["data", "schema", "--json"]) == 0
    for name in json.loads(capsys.readouterr().out):
        assert main(["data", "schema", name]) == 0
        schema = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator.check_schema(schema)
    (here / "own.json").write_text(json.dumps(schema))
    write(here / "rows.jsonl", {"prompt": "q", "target": "a", "id": 1})
    assert main(["data", "validate", "rows.jsonl", "--schema", "own.json"]) == 0
    assert main(["data", "schema", "hypotesis"]) == 2
