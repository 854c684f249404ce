"""A part becomes a stage file: filters first, then lengths; rejects are told with their places."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexa.core.plugins import Registry
from nexa.core.store import Store
from nexa.data.engine import stager
from nexa.data.engine.parts import parts_of
from nexa.data.filters.base import FilterMaker, FilterSpec, RowFilter, Verdict
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.rows import Row
from nexa.data.sources import sources_of
from nexa.lm.resolve import ModelFiles
from tests.data.build import content, record
from tests.data.conftest import WriteRows


class Words:
    """A filter for tests: drops rows with one word, takes another out of the others."""

    version = 1

    def __call__(self, options: Mapping[str, Any]) -> RowFilter:
        def judge(row: Row) -> Verdict | None:
            asked, said = row.content.messages[0]["content"], row.content.messages[1:]
            if options["drop"] in asked:
                return Verdict("bad word", f"has {options['drop']}")
            if options["mend"] in asked:
                changed = {"role": "user", "content": asked.replace(options["mend"], "").strip()}
                return Verdict(options["mend"], "", replace(row.content, messages=(changed, *said)))
            return None

        def judge_all(rows: Sequence[Row]) -> list[Verdict | None]:
            return [judge(row) for row in rows]

        return judge_all


@pytest.fixture
def filters(monkeypatch: pytest.MonkeyPatch) -> tuple[FilterSpec, ...]:
    table: Registry[FilterMaker] = Registry("filter", {"words": Words()})
    monkeypatch.setattr(stager, "FILTERS", table)
    return (
        FilterSpec("words", 1, (("drop", "awful"), ("mend", "uhm"))),
        FilterSpec("words", 1, (("drop", "terrible"), ("mend", "erm"))),
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_rows_go_through_every_filter_in_turn(
    write_rows: WriteRows, model: ModelFiles, store: Store, filters: tuple[FilterSpec, ...]
) -> None:
    asked = ["x uhm", "y awful", "z", "erm v uhm", "terrible uhm", "awful terrible"]
    path = write_rows([{"prompt": text, "completion": "a"} for text in asked] + ["{"])
    spec = PrepareSpec("x", sources_of(path), model, filters=filters)
    draft = prepare(spec, store=store)
    assert draft.body.dropped == {"bad word": 3, "malformed": 1}
    assert draft.body.mended == {"erm": 1, "uhm": 2}
    lineage = [json.loads(line) for line in content(draft, "lineage.jsonl").splitlines()]
    assert [line.get("mended") for line in lineage] == [["uhm"], None, ["uhm", "erm"]]
    rejects = [json.loads(line) for line in content(draft, "rejects.jsonl").splitlines()]
    assert [(r["line"], r["detail"]) for r in rejects[:3]] == [
        (2, "has awful"),
        (5, "has terrible"),
        (6, "has awful"),
    ]
    assert draft.body.rows_read == 7


def test_a_mended_row_is_the_row_that_it_became(
    write_rows: WriteRows, model: ModelFiles, store: Store, filters: tuple[FilterSpec, ...]
) -> None:
    rows = [{"prompt": text, "completion": "a"} for text in ("z", "z uhm", "q")]
    spec = PrepareSpec("x", sources_of(write_rows(rows)), model, filters=filters)
    draft = prepare(spec, store=store)
    assert draft.body.dropped == {"exact duplicate": 1}
    assert draft.body.mended is None  # the one that was mended is left out
    assert "mended" not in draft.body.model_dump(mode="json")


def test_a_part_tells_what_it_read(
    write_rows: WriteRows, model: ModelFiles, tmp_path: Path
) -> None:
    rows = [*(record(i, odd=1) for i in range(3)), "{", "[]", '{"x": 1}', "nan", {"prompt": 1}]
    sources = sources_of(write_rows(rows))
    (part,) = parts_of([(sources[0], "record")])
    heard: list[int] = []
    done = stager.Stager(stager.Job(model, tmp_path)).read(part, heard.append)
    assert (done.read, done.rows, heard) == (8, 3, [8])
    assert done.rejects == {"malformed": 5}
    assert [line.partition(": ")[0] for line in done.shown] == [
        f"rows.jsonl:{n}" for n in (4, 5, 6)
    ]
    assert done.unused == {"odd": 3, "x": 1}
    assert done.files == ["rows.jsonl"]
    assert [reject["line"] for reject in rows_of(tmp_path / "000000.rejects")] == [4, 5, 6, 7, 8]


def test_unused_keys_are_told_once_for_all_parts(
    write_rows: WriteRows, model: ModelFiles, store: Store, notes: list[str]
) -> None:
    path = write_rows([record(i, domian="x") for i in range(30)])
    prepare(PrepareSpec("x", sources_of(path), model, part_bytes=1000), store=store)
    assert "rows.jsonl: key 'domian' is not used (30 rows); did you mean 'domain'?" in notes


def test_a_file_of_blank_lines_is_empty(
    write_rows: WriteRows, model: ModelFiles, store: Store
) -> None:
    full, blank = write_rows([record(1)], "d/a.jsonl"), write_rows(["", "  "], "d/b.jsonl")
    spec = PrepareSpec("x", sources_of(full.parent), model, format="record")
    with pytest.raises(ValueError, match="is empty") as caught:
        prepare(spec, store=store)
    assert str(blank) in str(caught.value)
