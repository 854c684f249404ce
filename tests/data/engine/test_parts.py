"""Sources are cut at the ends of lines, and only where a file can be read from anywhere."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexa.core.errors import DataError, IntegrityError
from nexa.data.engine.parts import Part, parts_of, read_part
from nexa.data.loaders.jsonl import read_jsonl, read_stretch, stretches
from nexa.data.loaders.parquet import read_parquet
from nexa.data.sources import Source
from tests.data.build import record
from tests.data.conftest import WriteRows

LINES = st.lists(
    st.sampled_from([b'{"a": 1}', b"", b"{", b" \t", b'{"b": "\xc3\xa4"}', b"\xff", b'{"c": 1}\r']),
    min_size=1,
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.integers(1, 60), st.booleans(), st.booleans())
def test_stretches_have_the_lines_of_the_whole_file(
    tmp_path: Path, lines: list[bytes], size: int, ends: bool, bom: bool
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" * bom + b'{"z": 0}\n' + b"\n".join(lines) + b"\n" * ends)
    found = list(stretches(path, size))
    rows = [row for stretch in found for row in read_stretch(path, "n", stretch)]
    assert rows == list(read_jsonl(path, "n"))
    assert found[0].line == 1
    assert all(a.line + a.lines == b.line for a, b in pairwise(found))


def test_an_empty_file_has_no_stretch_and_a_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"")
    assert list(stretches(path, 10)) == []
    path.write_bytes(b"[1]")
    with pytest.raises(DataError, match="not JSON lines"):
        list(stretches(path, 10))


def test_only_plain_json_lines_are_cut(write_rows: WriteRows, tmp_path: Path) -> None:
    rows = [record(i) for i in range(20)]
    plain = write_rows(rows)
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    whole = tmp_path / "rows.json"
    whole.write_text(json.dumps(rows))
    sources = [(Source.of(path), "record") for path in (plain, packed, whole)]
    parts = list(parts_of(sources, part_bytes=1000))
    assert [part.number for part in parts] == list(range(len(parts)))
    names = [part.name for part in parts]
    assert names.count("rows.jsonl") > 3
    assert names[-2:] == ["rows.jsonl.gz", "rows.json"]
    for name in ("rows.jsonl", "rows.jsonl.gz", "rows.json"):
        lines = [line for part in parts if part.name == name for line in read_part(part)]
        assert [line.data for line in lines] == rows
    assert parts[0].place == f"rows.jsonl, lines 1 to {parts[0].stretch.lines}"  # type: ignore[union-attr]
    assert parts[-1].place == "rows.json"


@pytest.mark.parametrize(("part_bytes", "parts"), [(1, 4), (10**6, 1)])
def test_row_groups_of_parquet_are_parts(tmp_path: Path, part_bytes: int, parts: int) -> None:
    path = tmp_path / "rows.parquet"
    rows = [{"prompt": f"q{n}", "completion": "a"} for n in range(10)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    found = list(parts_of([(Source.of(path), "completion")], part_bytes))
    assert [part.place for part in found][-1].endswith("to 10")
    assert len(found) == parts
    lines = [line for part in found for line in read_part(part)]
    assert lines == list(read_parquet(path, "rows.parquet"))


def test_a_file_that_changed_is_not_read(write_rows: WriteRows) -> None:
    path = write_rows([record(1)])
    source = Source.of(path)
    path.write_text("{}\n")
    with pytest.raises(IntegrityError, match="was changed after the recipe was made"):
        next(parts_of([(source, "record")]))


def test_a_part_of_nothing_is_a_file_of_its_own() -> None:
    assert Part(0, "a.csv", Path("a.csv")).renamed == {}
