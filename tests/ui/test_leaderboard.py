from __future__ import annotations

import io
from dataclasses import asdict, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa.core.errors import IntegrityError
from nexa.ui.leaderboard import (
    FIRST_VERSION_FIELDS,
    Entry,
    append,
    board_name,
    from_parquet,
    read,
    read_all,
    to_parquet,
)
from tests.ui.entry import ENTRY

DAY = date(2026, 1, 2)
FULL = replace(
    ENTRY,
    missing=2,
    bound_low=0.375,
    bound_high=0.5,
    red_flag_count=1,
    contaminated_rows=2,
    contaminated_ids=("row1", "row2"),
)


def first_version(made: list[dict[str, Any]], **types: pa.DataType) -> bytes:
    """A file as the first version wrote it: fewer columns, no digest."""
    kinds = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
    columns = [
        (f.name, types.get(f.name, kinds.get(str(f.type), pa.string())))
        for f in fields(Entry)[:FIRST_VERSION_FIELDS]
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(made, schema=pa.schema(columns)), buffer)
    return buffer.getvalue()


def old_row(**changes: Any) -> dict[str, Any]:
    names = [f.name for f in fields(Entry)[:FIRST_VERSION_FIELDS]]
    return {name: value for name, value in asdict(ENTRY).items() if name in names} | changes


def test_entries_are_added_to_the_days_board_and_read_back(tmp_path: Path) -> None:
    other = replace(FULL, model_digest="b" * 64, mean=0.75)
    board = tmp_path / board_name(DAY)

    append(board, [ENTRY])
    assert append(board, [other]) == board

    assert board.name == "leaderboard_2026-01-02.parquet"
    assert read(board) == [ENTRY, other]
    assert sorted(p.name for p in tmp_path.iterdir()) == [board.name]


def test_the_same_model_scored_the_same_way_is_entered_once(tmp_path: Path) -> None:
    again = replace(ENTRY, run_id="2026-01-02-999999-ffff")
    board = append(tmp_path / board_name(DAY), [ENTRY])

    before = board.read_bytes()
    append(board, [ENTRY])
    assert board.read_bytes() == before
    append(board, [again])
    assert read(board) == [again]


def test_a_model_asked_again_keeps_what_its_training_said_and_adds_what_is_new(
    tmp_path: Path,
) -> None:
    asked = replace(
        ENTRY, run_id="later", role="other", verdict="", tokens_trained=0, cost_usd=0.0, missing=0
    )
    board = append(tmp_path / board_name(DAY), [ENTRY])

    append(board, [asked])
    assert read(board) == [replace(ENTRY, missing=0)]
    changed = replace(asked, mean=0.625)
    append(board, [changed])
    assert read(board) == [changed]


def test_all_days_are_one_board_with_the_newest_entry_of_each(tmp_path: Path) -> None:
    newer = replace(ENTRY, run_id="later")
    append(tmp_path / board_name(DAY), [ENTRY])
    append(tmp_path / board_name(date(2026, 1, 3)), [newer])

    assert read_all(tmp_path) == [newer]
    assert read_all(tmp_path / "empty") == []


def test_a_board_of_the_first_version_is_read_and_what_it_lacks_is_not_known(
    tmp_path: Path,
) -> None:
    board = tmp_path / board_name(DAY)
    board.write_bytes(first_version([old_row()]))

    assert read(board) == [ENTRY]
    append(board, [replace(FULL, model_digest="b" * 64)])
    assert [entry.missing for entry in read(board)] == [None, 2]


def test_an_empty_board_is_a_board(tmp_path: Path) -> None:
    (tmp_path / "board.parquet").write_bytes(to_parquet([]))

    assert read(tmp_path / "board.parquet") == []


def test_a_file_that_is_no_board_is_refused(tmp_path: Path) -> None:
    (tmp_path / "leaderboard_1.parquet").write_bytes(b"no")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "leaderboard_2.parquet")
    few = pa.table({"created": pa.array([], pa.string())})
    pq.write_table(few, tmp_path / "leaderboard_3.parquet")

    with pytest.raises(IntegrityError, match="cannot read the leaderboard"):
        read(tmp_path / "leaderboard_1.parquet")
    with pytest.raises(IntegrityError, match="is not a leaderboard\n  found  a: int64"):
        read(tmp_path / "leaderboard_2.parquet")
    with pytest.raises(IntegrityError, match="columns are missing"):
        read(tmp_path / "leaderboard_3.parquet")
    with pytest.raises(IntegrityError, match="cannot read the leaderboard"):
        read(tmp_path / "leaderboard_4.parquet")


@pytest.mark.parametrize("change", [{"mean": [0.99]}, {"mean": [float("nan")]}, {"missing": [-1]}])
def test_a_row_that_another_hand_changed_is_noticed(change: dict[str, list[Any]]) -> None:
    table = pq.read_table(io.BytesIO(to_parquet([FULL])))
    for name, values in change.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)

    with pytest.raises(IntegrityError, match="was changed after it was written"):
        from_parquet(buffer.getvalue(), "board")


def test_a_board_of_a_later_version_is_left_to_a_later_nexa() -> None:
    table = pq.read_table(io.BytesIO(to_parquet([FULL])))
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"nexa.leaderboard": b"9"}), buffer)

    with pytest.raises(IntegrityError, match="version 9, this Nexa reads 1 and 2"):
        from_parquet(buffer.getvalue(), "board")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (old_row(model=None), "row 1: a value is missing\n  found  model"),
        (old_row(role="champion"), "no such role\n  found  'champion'"),
        (old_row(low=0.75, high=0.25), "this is no score"),
        (old_row(mean=float("inf")), "this is no score\n  found  inf"),
    ],
)
def test_a_forged_row_of_the_first_version_is_refused(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(IntegrityError, match=complaint):
        from_parquet(first_version([row]), "board")


def test_a_column_of_another_type_is_refused() -> None:
    with pytest.raises(IntegrityError, match="not a leaderboard\n  found  rows: string"):
        from_parquet(first_version([old_row(rows="12")], rows=pa.string()), "board")
