"""Scratch folders go: at the end, and after a kill when the next one is made."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nexa.core.errors import StorageError
from nexa.data.engine.scratch import ScratchFolder


def test_a_folder_is_gone_with_all_that_it_holds(tmp_path: Path) -> None:
    folder = ScratchFolder(tmp_path / "scratch")
    (folder.path / "x").write_text("y")
    folder.remove()
    folder.remove()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        ScratchFolder(tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    (tmp_path / "other").mkdir()
    alive = ScratchFolder(tmp_path)
    mine = ScratchFolder(tmp_path)
    assert not left.exists()
    assert alive.path.exists()
    alive.remove()
    mine.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_without_a_place_it_is_among_the_temporary_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = ScratchFolder(None)
    assert folder.path.parent == tmp_path
    folder.remove()


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        ScratchFolder(tmp_path / "file")
