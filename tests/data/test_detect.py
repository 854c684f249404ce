"""The format is told from the rows, with the evidence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa.core.errors import DataError
from nexa.data.detect import count_rows, detect
from tests.data.build import record
from tests.data.conftest import WriteRows

CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def test_a_file_is_told_by_its_rows_and_counted(write_rows: WriteRows) -> None:
    path = write_rows(["broken", *[record(i) for i in range(300)], "", "{}"])
    found = detect(path)
    assert found.format == "record"
    assert found.files == (path,)
    assert found.rows == 302
    assert found.rows_by_file == {"rows.jsonl": 302}
    assert found.evidence == (
        "rows.jsonl: 199 of the first 200 rows have the keys prompt, target_answer",
    )
    assert found.first == tuple(record(i) for i in range(3))


def test_a_folder_is_its_data_files_by_name(write_rows: WriteRows, tmp_path: Path) -> None:
    write_rows([CHAT], "d/b.jsonl")
    write_rows([{"prompt": "q", "completion": "a"}] * 2, "d/a.ndjson")
    write_rows(["not data"], "d/README.md")
    (tmp_path / "d" / "more.jsonl").mkdir()
    found = detect(tmp_path / "d")
    assert [path.name for path in found.files] == ["a.ndjson", "b.jsonl"]
    assert found.format == "completion, messages"
    assert found.rows == 3


def test_keys_that_were_meant_are_named(write_rows: WriteRows) -> None:
    path = write_rows(["broken", {"msgs": []}])
    with pytest.raises(DataError, match="no row has a shape") as caught:
        detect(path)
    assert str(caught.value.found).startswith("line 2: key 'msgs' - did you mean 'messages'?")


def test_a_file_of_broken_lines_says_how_the_first_is_broken(write_rows: WriteRows) -> None:
    with pytest.raises(DataError, match="no row has a shape") as caught:
        detect(write_rows(["broken", "also broken"]))
    assert str(caught.value.found).startswith("line 1: broken JSON")


def test_a_path_that_is_nowhere_names_the_nearest(write_rows: WriteRows, tmp_path: Path) -> None:
    write_rows([CHAT], "train.jsonl")
    with pytest.raises(DataError, match="there is no") as caught:
        detect(tmp_path / "trian.jsonl")
    assert caught.value.fix == str(tmp_path / "train.jsonl")
    with pytest.raises(DataError, match="there is no") as caught:
        detect(tmp_path / "nowhere" / "x.jsonl")
    assert caught.value.fix is None


def test_a_folder_without_data_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no data file") as caught:
        detect(tmp_path)
    assert caught.value.found == "an empty folder"
    (tmp_path / "README.txt").touch()
    with pytest.raises(DataError) as caught:
        detect(tmp_path)
    assert caught.value.found == "README.txt"


@pytest.mark.parametrize("rows", [3, 200, 450])
def test_every_format_is_counted_and_told(tmp_path: Path, rows: int) -> None:
    made = [{"question": f"What is {i}?", "answer": f"It, is {i}"} for i in range(rows)]
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "x.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in made)
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "x.json").write_text(json.dumps(made))
    (tmp_path / "x.csv").write_text(
        "question,answer\n" + "".join(f'"{r["question"]}","{r["answer"]}"\n' for r in made)
    )
    found = detect(tmp_path)
    assert set(found.rows_by_file.values()) == {rows}
    assert (found.format, found.rows) == ("question-answer", 4 * rows)
    assert len(found.first) == 3
    assert [count_rows(path) for path in found.files] == [rows] * 4


def test_files_of_one_name_are_told_by_their_folders(write_rows: WriteRows, tmp_path: Path) -> None:
    one = write_rows([CHAT], "d/a/train.jsonl")
    two = write_rows([CHAT], "d/b/train.jsonl")
    assert set(detect(tmp_path / "d").rows_by_file) == {str(one), str(two)}


def test_a_file_that_is_gone_cannot_be_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        count_rows(tmp_path / "gone.jsonl")
