"""What people hand in by mistake, through `nexa data prepare`: line and reason, never a traceback.

Good rows are kept, every other one is in rejects.jsonl, and the numbers add up.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa.cli.main import main
from nexa.core.records import Artifact, DatasetBody
from nexa.core.tiers import Tiers
from nexa.data.registry import read
from tests.support.project import rows, write_project, write_rows

GOOD = 40


@dataclass(frozen=True)
class Outcome:
    """How a command ended: what it said, and the dataset if there is one."""

    code: int
    out: str
    err: str
    dataset: Artifact[DatasetBody] | None
    rejects: list[dict[str, Any]]

    @property
    def body(self) -> DatasetBody:
        assert self.dataset is not None, self.err
        return self.dataset.body


Prepare = Callable[..., Outcome]


@pytest.fixture
def prepared(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Prepare:
    """Run `nexa data prepare` on a training file of these bytes."""

    folders = iter(tmp_path / f"elements{n}" for n in ("", 2))

    def run(content: bytes, name: str = "rows.jsonl", *words: str) -> Outcome:
        folder = next(folders)
        write_project(folder, tiny_llama, data={"train_path": f"./{name}"})
        (folder / name).write_bytes(content)
        monkeypatch.chdir(folder)
        code = main(["data", "prepare", *words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        assert "\x1b" not in said.err + said.out
        store = Tiers.of(folder).store
        if code:
            assert not read(folder / "dataset_registry.yaml")
            return Outcome(code, said.out, said.err, None, [])
        (made,) = (n for n in store.names("dataset") if not n.endswith("-eval"))
        dataset = store.get("dataset", made)
        lines = store.path(dataset, "rejects.jsonl").read_text().splitlines()
        rejects = [json.loads(line) for line in lines]
        kept = sum(split.rows for split in dataset.body.splits.values())
        assert dataset.body.rows_read == kept + sum(dataset.body.dropped.values())
        assert sum(dataset.body.dropped.values()) == len(rejects)
        return Outcome(code, said.out, said.err, dataset, rejects)

    return run


def lines_of(count: int = GOOD) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows(range(200, 200 + count))]


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def with_bad(bad: bytes, at: int = 10) -> bytes:
    """Good lines with a bad one among them, at the line `at + 1`."""
    good = lines_of()
    return joined([*good[:at], bad, *good[at:]])


def said(outcome: Outcome) -> str:
    return " ".join(outcome.err.split())


# -- files that are nothing ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet", "txt", "md"])
def test_an_empty_file_is_told_as_such(prepared: Prepare, suffix: str) -> None:
    outcome = prepared(b"", f"rows.{suffix}")
    assert outcome.code == 4
    assert f"rows.{suffix} is empty" in said(outcome)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "txt", "md"])
def test_a_binary_file_is_told_with_its_first_zero_byte(prepared: Prepare, suffix: str) -> None:
    outcome = prepared(b"\x7fELF\x02\x01\x01" + bytes(200), f"rows.{suffix}")
    assert outcome.code == 4
    assert "a binary file: a zero byte at 7" in said(outcome)


def test_a_parquet_file_that_is_none_is_told(prepared: Prepare) -> None:
    assert "is not Parquet found it begins with b'{" in said(prepared(b'{"a": 1}', "rows.parquet"))


def test_a_folder_without_data_is_told(prepared: Prepare, tmp_path: Path) -> None:
    (tmp_path / "elements" / "rows").mkdir(parents=True)
    (tmp_path / "elements" / "rows" / "picture.png").write_bytes(b"\x89PNG")
    outcome = prepared(joined(lines_of()), "rows/picture.png")
    assert outcome.code == 0  # a file that is named is read, whatever it is called
    assert outcome.body.rows_read == GOOD


# -- one bad row among good ones -----------------------------------------------------------------


def test_broken_json_at_line_317_is_named_and_the_rest_is_kept(prepared: Prepare) -> None:
    good = lines_of(400)
    outcome = prepared(joined([*good[:316], good[316][:-9], *good[317:]]))
    assert outcome.code == 0
    assert (outcome.body.rows_read, outcome.body.splits["train"].rows) == (400, 399)
    (reject,) = outcome.rejects
    assert (reject["line"], reject["reason"]) == (317, "malformed")
    assert reject["detail"].startswith("line 317: broken JSON: ")
    assert "1 of 400 rows left out: malformed 1" in said(outcome)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b'{"prompt": "q\xe9", "target_answer": "a"}', "not UTF-8: byte 0xe9 at 13"),
        (b'{"prompt": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "JSON that cannot be read"),
        (b'{"prompt": ' + b"[" * 200 + b"]" * 200 + b"}", "in each other more than 64 deep"),
        (b'{"prompt": NaN, "target_answer": "a"}', "NaN is no JSON number"),
        (b'{"prompt": "q", "target_answer": 1e999}', "1e999 is more than a number can hold"),
        (b'{"prompt": "q", "target_answer": -Infinity}', "-Infinity is no JSON number"),
        (b'{"prompt": "q", "target_answer": ' + b"9" * 5000 + b"}", "JSON that cannot be read"),
        (
            b'{"prompt": "q", "target_answer": "a", "quality_score": ' + b"9" * 400 + b"}",
            "'quality_score' is a number, not a finite number",
        ),
        (
            b'{"prompt": "q", "prompt": "r", "target_answer": "a"}',
            "key 'prompt' stands there twice",
        ),
        (b'{"prompt": "\\ud800", "target_answer": "a"}', "half a surrogate pair"),
        (b'{"prompt": "q"}', "no key 'target_answer' (the file is 'record'); it has 'prompt'"),
        (b'{"prompt": null, "target_answer": "a"}', "'prompt' is null, not a text"),
        (b"[1, 2]", "not an object but a list"),
        (b'"\x1b[31mred"', "broken JSON: Invalid control character"),
        (
            b'{"pr\\u001b[31mmpt": "q", "target_answer": "a"}',
            "key 'pr\\x1b[31mmpt' - did you mean 'prompt'?",
        ),
    ],
)
def test_a_bad_line_is_a_reject_with_its_reason(prepared: Prepare, bad: bytes, why: str) -> None:
    outcome = prepared(with_bad(bad))
    assert outcome.code == 0, outcome.err
    assert outcome.body.splits["train"].rows == GOOD
    (reject,) = outcome.rejects
    assert reject["line"] == 11
    assert why in reject["detail"]


def test_a_huge_integer_is_an_answer_like_any_other(prepared: Prepare) -> None:
    row = b'{"prompt": "What is it?", "target_answer": ' + b"9" * 60 + b', "id": ' + b"8" * 400
    outcome = prepared(with_bad(row + b"}"))
    assert outcome.body.splits["train"].rows == GOOD + 1
    assert outcome.rejects == []


def test_a_line_of_ten_megabytes_is_left_out(prepared: Prepare) -> None:
    huge = b'{"prompt": "' + b"long " * (2 << 20) + b'", "target_answer": "a"}'
    outcome = prepared(with_bad(huge))
    assert [(r["line"], r["detail"]) for r in outcome.rejects] == [
        (11, "line 11: longer than 8 MB")
    ]
    assert outcome.body.splits["train"].rows == GOOD


def test_an_id_that_is_used_twice_keeps_the_first_row(prepared: Prepare) -> None:
    made = [{**row, "id": f"e{i}"} for i, row in enumerate(rows(range(GOOD)))]
    made[20]["id"] = made[4]["id"]
    outcome = prepared(joined([json.dumps(row).encode() for row in made]))
    (reject,) = outcome.rejects
    assert (reject["line"], reject["reason"]) == (21, "id used twice")
    assert reject["detail"] == "id 'e4' is that of rows.jsonl:5"


def test_terminal_escapes_reach_no_terminal(prepared: Prepare) -> None:
    row = {
        "\x1b]0;owned\x07": "\x1b[2J",
        "prompt": "\x1b[31mred",
        "target_answer": "It is \x1b[0mred.",
    }
    outcome = prepared(with_bad(json.dumps(row).encode()))
    assert outcome.body.splits["train"].rows == GOOD + 1
    assert "\\x1b]0;owned" in outcome.err  # `prepared` has looked for the byte itself
    outcome = prepared(json.dumps({"\x1b[31m": 1}).encode())
    assert outcome.code == 14
    assert "it has '\\x1b[31m'" in said(outcome)


# -- files whose rows are all wrong --------------------------------------------------------------


def test_a_key_that_was_meant_is_named_with_its_line(prepared: Prepare) -> None:
    outcome = prepared(b'\n{"msgs": [{"role": "user", "content": "q"}]}\n')
    assert outcome.code == 14
    assert "line 2: key 'msgs' - did you mean 'messages'? Accepted shapes: " in said(outcome)
    outcome = prepared(b'{"msgs": []}\n', "rows.jsonl", "--json")
    assert json.loads(outcome.out)["error"]["exit_code"] == 14


def test_a_format_that_no_row_has_is_told_with_the_first_rows(
    prepared: Prepare, tmp_path: Path
) -> None:
    folder = tmp_path / "elements"
    prepared(joined(lines_of()))
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("data:", "data:\n  format: alpaca"))
    assert main(["data", "prepare"]) == 14


def test_a_file_in_another_encoding_is_named_by_it(prepared: Prepare) -> None:
    outcome = prepared(joined(lines_of()).decode().encode("utf-16"))
    assert outcome.code == 4
    assert "rows.jsonl is not JSON lines found UTF-16 text try iconv" in said(outcome)


# -- the same faults in the other formats --------------------------------------------------------


def table(records: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["question", "answer", "id"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def questions(count: int = GOOD) -> list[dict[str, Any]]:
    return [
        {"question": f'What is "{i}",\r\ntimes {i + 7}?', "answer": str(i * (i + 7)), "id": f"q{i}"}
        for i in range(count)
    ]


def test_bad_records_of_a_table_are_rejects_by_the_line_they_begin_at(prepared: Prepare) -> None:
    good = table(questions(30))
    bad = b'only one cell\r\na,b,c,d\r\n"x"y,z,w\r\ncaf\xe9,a,b\r\n"never closed,1,2\r\n'
    outcome = prepared(good + bad + b"What is last?,this,q99\r\n", "rows.csv")
    assert outcome.code == 0, outcome.err
    assert outcome.body.splits["train"].rows == 31
    # Each question takes two lines, and the header one.
    assert [(r["line"], r["detail"].partition(": ")[2]) for r in outcome.rejects] == [
        (62, "1 cells, but 3 columns: nothing for 'answer', 'id'"),
        (63, "4 cells, but 3 columns: a delimiter outside of quotes?"),
        (64, "broken CSV: ',' expected after '\"'"),
        (65, "not UTF-8: byte 0xe9 at 3"),
        (66, "broken CSV: a quote is opened here and never closed"),
    ]


def test_missing_columns_are_told(prepared: Prepare) -> None:
    outcome = prepared(b"question,reply\r\nq,a\r\n", "rows.csv")
    assert outcome.code == 14
    assert "line 2: key 'reply' - did you mean 'answer'?" in said(outcome)


def test_a_broken_element_of_a_list_costs_one_row(prepared: Prepare) -> None:
    text = json.dumps(questions(), indent=2)
    broken = text.replace('"answer": "44"', '"answer": "44', 1)
    outcome = prepared(broken.encode(), "rows.json")
    assert outcome.code == 0, outcome.err
    assert outcome.body.splits["train"].rows == GOOD - 1
    (reject,) = outcome.rejects
    assert reject["line"] == 2 + 4 * 5
    assert reject["detail"] == "line 22: broken JSON: a text does not end on its line (line 24)"


def test_rows_of_parquet_that_are_no_text_are_rejects(prepared: Prepare) -> None:
    made = [{**row, "id": row["id"], "quality_score": 0.5} for row in questions()]
    made[3]["quality_score"] = float("nan")
    made[5]["answer"] = None
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(made), sink)
    outcome = prepared(sink.getvalue(), "rows.parquet")
    assert [(r["line"], r["detail"].partition(": ")[2]) for r in outcome.rejects] == [
        (4, "column 'quality_score': nan is no JSON number"),
        (6, "'answer' is null, not a text"),
    ]
    cut = prepared(sink.getvalue()[:-30], "cut.parquet")
    assert cut.code == 4
    assert "cut.parquet is damaged, or not Parquet" in said(cut)


def test_a_gzip_that_was_cut_is_told_and_nothing_is_made(prepared: Prepare) -> None:
    whole = gzip.compress(joined(lines_of(400)), mtime=0)
    assert prepared(whole, "rows.jsonl.gz").body.rows_read == 400
    cut = prepared(whole[:-40], "cut.jsonl.gz")
    assert cut.code == 4
    assert "cut.jsonl.gz is broken as gzip" in said(cut)


def test_a_folder_of_mixed_files_is_read_each_by_its_own(prepared: Prepare, tmp_path: Path) -> None:
    folder = tmp_path / "elements" / "many"
    write_rows(folder / "a.jsonl", rows(range(GOOD)))
    (folder / "b.csv").write_bytes(b"\xef\xbb\xbf" + table(questions(5), ";"))
    (folder / "README.md").write_text("About these rows.")
    (folder / "c.json").write_text(json.dumps({"data": [{"text": "Iron melts."}, {"txt": "?"}]}))
    outcome = prepared(b"not data", "many/notes.txt")
    config = tmp_path / "elements" / "config.yaml"
    config.write_text(config.read_text().replace("./many/notes.txt", "./many"))
    assert main(["data", "prepare"]) == 0
    dataset = Tiers.of(tmp_path / "elements").store.get("dataset", "many")
    assert dataset.body.format == "record, question-answer, text"
    assert (dataset.body.rows_read, dataset.body.splits["train"].rows) == (GOOD + 7, GOOD + 6)
    assert outcome.code == 0
