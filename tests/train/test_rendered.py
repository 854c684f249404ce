"""What is rendered once is read back as it was, or made anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nexa.core.events import Event, listening
from nexa.lm.resolve import ModelFiles
from nexa.train.batches import TokenRow
from nexa.train.rendered import KEPT_FILES, RenderedRows, rendered_rows
from tests.train.sample import notes, random_rows

ROWS = random_rows(5)
IDS = [row.row_id for row in ROWS]
TOKENIZER = {"tokenizer.json": "1" * 64}


class Renderer:
    """Gives the rows and counts how often it was asked."""

    def __init__(self, rows: list[TokenRow]) -> None:
        self.rows, self.asked = rows, 0

    def __call__(self) -> list[TokenRow]:
        self.asked += 1
        return self.rows


@pytest.fixture
def kept(tmp_path: Path) -> RenderedRows:
    return RenderedRows(tmp_path / "rendered", TOKENIZER)


def get(
    kept: RenderedRows,
    render: Callable[[], list[TokenRow]],
    *,
    content: str = "c",
    ids: list[str] = IDS,
) -> list[TokenRow]:
    return kept.get(ids, content=content, template="t", render=render)


def the_file(kept: RenderedRows) -> Path:
    [path] = kept.folder.iterdir()
    return path


def test_rows_are_rendered_once_and_come_back_equal(kept: RenderedRows) -> None:
    render = Renderer(ROWS)
    assert get(kept, render) == ROWS
    assert get(kept, render) == ROWS
    assert render.asked == 1


def test_other_content_or_another_tokenizer_is_rendered_anew(kept: RenderedRows) -> None:
    render = Renderer(ROWS)
    get(kept, render)
    get(kept, render, content="other")
    get(RenderedRows(kept.folder, {"tokenizer.json": "2" * 64}), render)
    assert render.asked == 3


def test_one_changed_byte_is_seen_and_said(kept: RenderedRows) -> None:
    render, events = Renderer(ROWS), list[Event]()
    get(kept, render)
    path = the_file(kept)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    with listening(events.append):
        assert get(kept, render) == ROWS
    assert render.asked == 2
    assert "is not what was written" in notes(events)[0]


def test_a_torn_file_is_made_anew(kept: RenderedRows) -> None:
    render, events = Renderer(ROWS), list[Event]()
    get(kept, render)
    the_file(kept).write_bytes(b"torn")
    with listening(events.append):
        assert get(kept, render) == ROWS
    assert "cannot be read" in notes(events)[0]
    assert get(kept, render) == ROWS
    assert render.asked == 2


def test_rows_of_another_number_are_made_anew(kept: RenderedRows) -> None:
    get(kept, Renderer(ROWS))
    fewer = Renderer(ROWS[:3])
    assert get(kept, fewer, ids=IDS[:3]) == ROWS[:3]
    assert fewer.asked == 1


def test_only_the_newest_files_stay(kept: RenderedRows) -> None:
    for number in range(KEPT_FILES + 2):
        get(kept, Renderer(ROWS), content=str(number))
        for path in kept.folder.iterdir():
            os.utime(path, (number, number) if path.stat().st_mtime > 1e6 else None)
    assert len(list(kept.folder.iterdir())) == KEPT_FILES


def test_where_nothing_can_be_written_the_rows_are_given_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "rendered").write_text("a file where the folder would be")
    events: list[Event] = []
    with listening(events.append):
        assert get(RenderedRows(tmp_path / "rendered", TOKENIZER), Renderer(ROWS)) == ROWS
    assert "are not kept" in notes(events)[0]


def test_a_folder_s_rows_are_known_by_the_tokenizer_s_files(
    base: ModelFiles, tmp_path: Path
) -> None:
    kept = rendered_rows(tmp_path, base)
    assert kept is not None
    assert "tokenizer.json" in kept.tokenizer
    assert "model.safetensors" not in kept.tokenizer
    assert rendered_rows(None, base) is None
