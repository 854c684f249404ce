from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import IntegrityError, ModelError, StorageError
from nexa.lm import derived


def fill(folder: Path) -> Mapping[str, Any]:
    (folder / "model.safetensors").write_bytes(b"weights")
    return {"quantisation": "Q4_1"}


def keep(make: Any = fill, *, size_bytes: int = 10) -> Path:
    return derived.keep("key", make, size_bytes=size_bytes, purpose="a test")


def test_a_folder_is_made_once_and_says_what_it_is() -> None:
    assert derived.find("key") is None
    folder = keep()
    assert keep(lambda _: pytest.fail("made twice")) == folder == derived.find("key")
    told = derived.about(folder)
    assert told["quantisation"] == "Q4_1"
    assert list(told["files"]) == ["model.safetensors"]
    assert stat.S_IMODE((folder / "model.safetensors").stat().st_mode) == 0o444


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep().is_relative_to(tmp_path / "nexa-cache")
    monkeypatch.delenv("NEXA_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert derived.cache_root() == tmp_path / "home" / ".cache" / "nexa"


def test_only_a_derived_folder_has_a_marker(tmp_path: Path) -> None:
    (tmp_path / derived.MARKER).write_text("{}")
    assert derived.about(tmp_path) == {}
    (derived.place("none")).mkdir(parents=True)
    assert derived.about(derived.place("none")) == {}


def test_a_spoilt_marker_is_named() -> None:
    folder = keep()
    (folder / derived.MARKER).write_text("{")
    with pytest.raises(IntegrityError, match="it is made again"):
        derived.about(folder)


def test_a_failure_leaves_nothing() -> None:
    def fail(folder: Path) -> Mapping[str, Any]:
        fill(folder)
        raise ModelError("not a model")

    with pytest.raises(ModelError, match="not a model"):
        keep(fail)
    assert derived.find("key") is None
    assert [path.name for path in derived.place("key").parent.iterdir()] == [".key.lock"]


def test_a_full_disk_is_said_before_and_while_it_happens() -> None:
    with pytest.raises(StorageError, match="not enough disk space for a test"):
        keep(size_bytes=1 << 60)

    def fill_up(_: Path) -> Mapping[str, Any]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match="No space left"):
        keep(fill_up)

    def told(_: Path) -> Mapping[str, Any]:
        raise StorageError("told already")

    with pytest.raises(StorageError, match="told already"):
        keep(told)


def test_a_cache_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEXA_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot write"):
        keep()


KILLED = """
import os, signal
from nexa.lm import derived
def make(folder):
    (folder / "model.safetensors").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
derived.keep("key", make, size_bytes=1, purpose="a test")
"""


def test_a_kill_leaves_nothing_torn_and_the_next_one_clears_up() -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert derived.find("key") is None
    models = derived.place("key").parent
    assert len(list(models.glob(".key.*/"))) == 1
    folder = keep()
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert list(models.glob(".key.*/")) == []


def test_a_folder_that_lost_its_marker_is_made_again() -> None:
    folder = keep()
    (folder / derived.MARKER).unlink()
    (folder / "stray").write_text("")
    assert derived.find("key") is None
    assert keep() == folder
    assert not (folder / "stray").exists()


def test_who_waits_for_another_process_takes_what_that_one_made() -> None:
    """Two make the same folder: the second finds it when it gets the lock."""
    keeping = "derived.keep('key', lambda folder: 1 / 0, size_bytes=1, purpose='')"
    waiting = f"from nexa.lm import derived; {keeping}"
    second: list[subprocess.Popen[bytes]] = []

    def make(folder: Path) -> Mapping[str, Any]:
        second.append(subprocess.Popen([sys.executable, "-c", waiting]))
        return fill(folder)

    keep(make)
    assert second[0].wait() == 0
