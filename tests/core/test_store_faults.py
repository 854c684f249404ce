"""The store under faults: kill -9 at any moment, two writers at once, no room, no permission."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import StorageError
from nexa.core.records import Artifact
from nexa.core.store import (
    Store,
    free_bytes,
    link_or_copy,
    nearest_existing,
    require_space,
    storage_error,
    write_atomic,
)
from tests.core.samples import seal, suite_body

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def python(script: str, *words: object, **options: Any) -> subprocess.Popen[str]:
    """Another process with this checkout's code."""
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, **options)


def hidden(folder: Path) -> list[str]:
    """Leftovers of writes that did not come to their end."""
    return [path.name for path in folder.rglob(".*") if path.name != ".lock"]


# -- kill -9 -------------------------------------------------------------------------------------


def test_a_kill_at_any_touch_of_the_file_system_tears_nothing(tmp_path: Path) -> None:
    before = Store(tmp_path / "first" / ".nexa" / "store")
    old = seal(before, body=suite_body(rows=1), files={"a.bin": b"old", "b.bin": b"same"})
    (tmp_path / "first" / "scratch.bin").write_bytes(os.urandom(50_000))
    for touch in range(60):
        shutil.copytree(tmp_path / "first", tmp_path / "killed" / str(touch))
    command = [sys.executable, "-m", "tests.core.crash", "seal", str(tmp_path / "killed")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    killed = int(done.stdout)
    assert 15 < killed < 60
    for touch in range(killed + 1):
        folder = tmp_path / "killed" / str(touch)
        store = Store(folder / ".nexa" / "store")
        assert_whole(store)
        assert store.get("suite", "metals@v1") == old
        again = seal(  # the same command once more
            store,
            body=suite_body(rows=2),
            files={"a.bin": b"new" * 9999, "b.bin": folder / "scratch.bin"},
        )
        assert again == store.get("suite", "metals")
        assert len(store.versions("suite", "metals")) == 2
        assert_whole(store)


SEALING = """
import os, sys
from pathlib import Path
from nexa.core.store import Store
from tests.core.samples import seal, suite_body
store = Store(Path(sys.argv[1]))
who, count = int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for n in range(count):
    made = seal(store, body=suite_body(rows=1000 * who + n), files={"x.bin": os.urandom(200_000)})
    print(made.version, made.digest, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_what_a_process_said_it_sealed_is_there_after_kill_9(store: Store, seed: int) -> None:
    said = []
    with python(SEALING, store.root, 0, 10_000, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        for _ in range(random.Random(seed).randrange(1, 12)):
            said.append(process.stdout.readline().split())
        process.send_signal(signal.SIGKILL)
    for version, digest in said:
        assert store.get("suite", f"metals@{version}").digest == digest
    assert_whole(store)
    assert seal(store).version == f"v{len(store.versions('suite', 'metals'))}"


def test_two_processes_sealing_at_once_both_keep_every_version(store: Store) -> None:
    count = 15
    both = [python(SEALING, store.root, who, count, stdin=subprocess.PIPE) for who in (1, 2)]
    for process in both:
        assert process.stdout is not None
        process.stdout.readline()
    answers = [process.communicate("go\n")[0] for process in both]
    said = dict(line.split() for answer in answers for line in answer.splitlines())
    assert [process.returncode for process in both] == [0, 0]
    assert store.versions("suite", "metals") == [f"v{n}" for n in range(1, 2 * count + 1)]
    assert {version: store.get("suite", f"metals@{version}").digest for version in said} == said
    assert len(said) == 2 * count
    assert_whole(store)


def assert_whole(store: Store) -> None:
    """Every name leads to a record that is its digest, and every byte of it is there."""
    for kind in ("suite", "dataset"):
        for name in store.names(kind):
            for version in store.versions(kind, name):
                sealed = store.get(kind, f"{name}@{version}")
                assert store.verify(sealed) == []
    for recipe in (store.root / "recipes").glob("[0-9a-f]*"):
        made = store.made_by(recipe.name)
        assert made is None or isinstance(made, Artifact)


# -- space and permission ------------------------------------------------------------------------


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    write_atomic(path, b"old", mode=0o400)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert hidden(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_a_storage_error(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    inside = tmp_path / "file" / "x"
    for work in (
        lambda: write_atomic(inside, b""),
        lambda: link_or_copy(tmp_path / "file", inside),
        lambda: Store(inside).put(tmp_path / "file"),
        lambda: seal(Store(inside)),
        lambda: seal(Store(inside), files={}),
        lambda: store.checkout(seal(store), inside),
    ):
        with pytest.raises(StorageError) as caught:
            work()
        assert str(tmp_path / "file") in caught.value.what
        assert caught.value.fix == "make the folder writable or choose another one"


def test_a_target_that_cannot_be_replaced_is_a_storage_error_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "target" / "full").mkdir(parents=True)
    with pytest.raises(StorageError, match="target"):
        write_atomic(tmp_path / "target", b"x")
    assert hidden(tmp_path) == []


def test_a_full_disk_is_told_as_one_and_tears_nothing(store: Store, tmp_path: Path) -> None:
    kept = seal(store)
    (tmp_path / "big").write_bytes(bytes(200_000))
    script = """
import json, resource, sys
from pathlib import Path
from nexa.core.errors import StorageError
from nexa.core.store import Store, write_atomic
from tests.core.samples import seal, suite_body
store, big = Store(Path(sys.argv[1])), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
told = []
for work in (
    lambda: store.put(bytes(300_000)),
    lambda: store.put(big),
    lambda: write_atomic(big, bytes(300_000)),
    lambda: seal(store, body=suite_body(rows=2), files={"a": b"small", "big": big}),
):
    try:
        work()
    except StorageError as error:
        told.append([error.exit_code, error.what, error.found, error.fix])
print(json.dumps(told))
"""
    with python(script, store.root, tmp_path / "big") as process:
        told = json.loads(process.communicate()[0])
    assert len(told) == 4
    for code, what, found, fix in told:
        assert code == 11
        assert "File too large" in what
        assert "GB free there" in found
        assert fix.startswith("free some space")
    assert (tmp_path / "big").stat().st_size == 200_000
    assert hidden(tmp_path) == []
    assert store.versions("suite", "metals") == ["v1"]
    assert store.verify(kept) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_and_no_permission_are_told_apart(tmp_path: Path, code: int) -> None:
    full = storage_error(tmp_path / "x", OSError(code, os.strerror(code)))
    assert os.strerror(code) in full.what
    assert "GB free there" in str(full.found)
    denied = storage_error(tmp_path / "x", OSError(errno.EACCES, "Permission denied"))
    assert denied.found is None
    assert "writable" in str(denied.fix)


@pytest.mark.root
def test_a_disk_that_really_is_full(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        store = Store(disk / "store")
        with pytest.raises(StorageError, match="No space left"):
            store.put(os.urandom(4 << 20))
        (tmp_path / "big").write_bytes(os.urandom(4 << 20))
        with pytest.raises(StorageError, match="No space left"):
            store.put(tmp_path / "big")
        with pytest.raises(StorageError, match="not enough disk space for suite metals"):
            seal(store)
        assert hidden(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_cannot_end_does_not_start(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 0, "nothing")
    with pytest.raises(StorageError) as caught:
        require_space(tmp_path, 10**18, "the merged model")
    assert caught.value.what == "not enough disk space for the merged model"
    assert "1000000000.00 GB needed" in str(caught.value.found)


def test_free_space_is_that_of_the_nearest_folder_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert nearest_existing(Path("a/b/c")) == tmp_path
    assert free_bytes(Path("a/b/c")) > 0
