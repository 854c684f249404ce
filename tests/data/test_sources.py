"""A source is the file that the recipe names, and every line of it is a row or a reject."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import DataError, IntegrityError
from nexa.core.identity import stable
from nexa.data.rows import Reject, Row
from nexa.data.sources import Source, read_source, sources_of
from tests.data.conftest import WriteRows


def test_a_sources_place_is_no_part_of_the_recipe(write_rows: WriteRows) -> None:
    here = Source.of(write_rows(["{}"], "a/x.jsonl"))
    there = Source.of(write_rows(["{}"], "b/x.jsonl"))
    assert here.path != there.path
    assert stable(here) == stable(there)


def test_lines_are_rows_or_rejects_by_number(write_rows: WriteRows) -> None:
    good = {"prompt": "q", "completion": "a"}
    lines = [good, "{", {"prompt": "q", "completions": "a"}, {"prompt": "q", "completion": 3}, "[]"]
    (source,) = sources_of(write_rows([*lines[:4], {"prompt": "x", "completion": "y"}, lines[4]]))
    items = list(read_source(source, "completion"))
    assert [type(item) for item in items] == [Row, Reject, Reject, Reject, Row, Reject]
    details = [item.detail for item in items if isinstance(item, Reject)]
    assert details[0].startswith("line 2: broken JSON")
    assert details[1].startswith("line 3: key 'completions' - did you mean 'completion'?")
    assert details[2] == "line 4: 'completion' is a number, not a text"
    assert details[3] == "line 6: not an object but a list"


def test_a_key_that_is_not_used_is_told_once(write_rows: WriteRows, notes: list[str]) -> None:
    row = {"prompt": "q", "completion": "a", "qualty_score": 1, "url": "x"}
    (source,) = sources_of(write_rows([row, row]))
    assert len(list(read_source(source, "completion"))) == 2
    assert notes == [
        "rows.jsonl: key 'qualty_score' is not used (2 rows); did you mean 'quality_score'?",
        "rows.jsonl: key 'url' is not used (2 rows)",
    ]


def test_a_file_that_changed_since_is_refused(write_rows: WriteRows) -> None:
    path = write_rows(["{}"])
    (source,) = sources_of(path)
    path.write_text("{} \n")
    with pytest.raises(IntegrityError, match="was changed after"):
        list(read_source(source, "completion"))


def test_a_source_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        Source.of(tmp_path)
