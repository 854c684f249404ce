"""A source is the file that the recipe names, and every line of it is a row or a reject."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import DataError, IntegrityError
from nexa.core.identity import stable
from nexa.data.rows import Reject, Row
from nexa.data.sources import Source, files_of, read_source, sources_of, tell_shape
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


def test_a_file_that_is_gone_since_says_so(write_rows: WriteRows) -> None:
    (source,) = sources_of(write_rows(["{}"]))
    source.path.unlink()
    with pytest.raises(DataError, match="cannot read"):
        list(read_source(source, "completion"))


def test_of_many_unused_keys_the_first_are_told(write_rows: WriteRows, notes: list[str]) -> None:
    (source,) = sources_of(write_rows([{"text": "a", **{f"k{i:02}": i for i in range(20)}}]))
    list(read_source(source, "text"))
    assert len(notes) == 9
    assert notes[0] == "rows.jsonl: key 'k00' is not used (1 rows)"
    assert notes[-1] == "rows.jsonl: 12 more keys are not used"


def test_a_folder_without_files_is_those_below_it(write_rows: WriteRows, tmp_path: Path) -> None:
    write_rows(["{}"], "d/main/train.jsonl")
    write_rows(["{}"], "d/extra/train.jsonl")
    write_rows(["{}"], "d/.cache/old.jsonl")
    write_rows(["{}"], "d/main/dataset_info.json")
    write_rows(["text"], "d/main/about.txt")
    sources = sources_of(tmp_path / "d")
    assert [source.name for source in sources] == ["extra/train.jsonl", "main/train.jsonl"]
    write_rows(["{}"], "d/top.jsonl.gz")
    assert [source.name for source in sources_of(tmp_path / "d")] == ["top.jsonl.gz"]


def test_prose_is_data_where_there_is_nothing_else(write_rows: WriteRows, tmp_path: Path) -> None:
    write_rows(["text"], "d/b.md")
    write_rows(["text"], "d/a.txt")
    write_rows(["text"], "d/README.md")
    write_rows(["text"], "d/LICENSE.txt")
    assert [path.name for path in files_of(tmp_path / "d")] == ["a.txt", "b.md"]


def test_a_file_of_the_hubs_cache_is_named_with_its_commit(write_rows: WriteRows) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    path = write_rows(["{}"], f"datasets--org--name/snapshots/{commit}/data/train.jsonl")
    assert Source.of(path).name == f"hf://org/name@{commit}/data/train.jsonl"


def test_what_else_a_file_may_be_is_told(write_rows: WriteRows) -> None:
    both = {"question": "q", "answer": "a", "text": "t"}
    path = write_rows([both, both, {"text": "t"}, {"x": 1}])
    shape, sample, why = tell_shape(path)
    assert (shape, len(sample)) == ("question-answer", 4)
    assert why == (
        "2 of the first 4 rows have the keys question, answer; ambiguous: 1 are 'text', "
        "2 of them would do as 'text', too (data.format decides)"
    )


def test_keys_of_a_second_set_are_the_evidence(write_rows: WriteRows) -> None:
    path = write_rows([{"query": "q", "response": "a"}])
    assert tell_shape(path)[2] == "1 of the first 1 rows have the keys query, response"


def test_a_source_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        Source.of(tmp_path)
