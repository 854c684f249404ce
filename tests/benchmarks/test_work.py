from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.contest import work
from nexa.core.events import read_events
from nexa.core.identity import sha256_file
from tests.support.project import rows, write_rows


def conversation(*turns: str) -> dict[str, object]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]}


def test_the_work_is_what_nexa_would_learn_in_the_order_in_which_it_would(
    tmp_path: Path, tiny_llama: Path
) -> None:
    path = write_rows(tmp_path / "elements.jsonl", rows(range(20)))
    made = work.make(tmp_path / "work", path, tiny_llama, 4)
    assert made == work.read(tmp_path / "work")
    assert made.identity["rows_sha256"] == sha256_file(path)
    assert made.rows < 20  # a share is held out
    assert len(made.tokens) == made.rows // 4

    lines = (tmp_path / "work" / "rows.jsonl").read_text().splitlines()
    assert len(lines) == made.rows
    assert [turn["role"] for turn in json.loads(lines[0])["messages"]] == ["user", "assistant"]
    # Made once: the same question finds it, and prepares nothing again.
    log = tmp_path / "work" / work.PREPARED / "runs" / "logs"
    before = [read_events(each) for each in log.iterdir()]
    assert work.make(tmp_path / "work", path, tiny_llama, 4) == made
    assert [read_events(each) for each in log.iterdir()] == before


def test_rows_with_several_answers_are_refused(tmp_path: Path, tiny_llama: Path) -> None:
    made = [conversation(f"Ask {i}", "Answer", "Again", f"Again {i}") for i in range(8)]
    path = write_rows(tmp_path / "long.jsonl", made)
    with pytest.raises(SystemExit, match=r"\[1, 3\] of its 4 turns"):
        work.make(tmp_path / "work", path, tiny_llama, 2)
