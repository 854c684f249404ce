"""The store: what is sealed stays, whole, whoever is killed and whatever flips."""

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
from hypothesis import given, settings
from hypothesis import strategies as st

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.identity import fingerprint, sha256_bytes
from nexa.core.records import Artifact
from nexa.core.store import (
    Store,
    UnknownArtifact,
    free_bytes,
    link_or_copy,
    nearest_existing,
    require_space,
    storage_error,
    write_atomic,
)
from tests.core.samples import dataset_body, seal, suite_body

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


# -- blobs ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.binary(max_size=3000))
def test_bytes_and_a_file_of_the_same_bytes_are_one_blob(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    store = Store(folder / "store")
    (folder / "file").write_bytes(data)
    assert store.put(folder / "file") == store.put(data) == sha256_bytes(data)
    assert store.blob(sha256_bytes(data)).read_bytes() == data
    assert len([p for p in (store.root / "blobs").rglob("*") if p.is_file()]) == 1


def test_a_blob_is_read_only_and_apart_from_the_file_it_came_from(
    store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"first")
    blob = store.blob(store.put(source))
    source.write_bytes(b"changed later")
    assert blob.read_bytes() == b"first"
    assert blob.stat().st_mode & 0o777 == 0o444
    assert store.blob(store.put(b"bytes")).stat().st_mode & 0o777 == 0o444


def test_an_artifact_gets_its_readable_names_back(store: Store, tmp_path: Path) -> None:
    sealed = seal(store, files={"model/config.json": b"{}", "README.md": b"hello"})
    folder = store.checkout(sealed, tmp_path / "out")
    assert (folder / "model" / "config.json").read_bytes() == b"{}"
    assert (folder / "README.md").read_bytes() == b"hello"
    assert store.checkout(sealed, folder) == folder  # again, over what is there
    assert hidden(folder) == []


def test_a_leftover_of_a_killed_run_is_never_written_through(store: Store, tmp_path: Path) -> None:
    old = seal(store, files={"m": b"old weights"})
    new = seal(store, files={"m": b"new weights"})
    out = tmp_path / "out"
    out.mkdir()
    # A run with this process id was killed between link and rename; ids come again.
    os.link(store.path(old, "m"), out / f".m.{os.getpid()}")
    store.checkout(new, out)
    assert (out / "m").read_bytes() == b"new weights"
    assert store.verify(old) == []


def test_across_file_systems_a_file_is_copied(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    target = shared / f"nexa-test-{os.getpid()}" / "target"
    try:
        link_or_copy(source, target)
        assert target.read_bytes() == b"bytes"
        assert target.stat().st_ino != source.stat().st_ino
    finally:
        shutil.rmtree(target.parent)


def test_a_file_that_an_artifact_does_not_have(store: Store) -> None:
    sealed = seal(store, files={"a": b"1", "b": b"2"})
    with pytest.raises(UnknownArtifact, match=r"suite/metals@v1 has no file 'c'\n  found  a, b"):
        store.path(sealed, "c")


# -- names, versions, recipes --------------------------------------------------------------------


def test_new_contents_are_a_new_version_and_old_ones_stay(store: Store) -> None:
    first, second = (seal(store, body=suite_body(rows=rows)) for rows in (1, 2))
    assert (first.version, second.version) == ("v1", "v2")
    assert store.get("suite", "metals") == second
    assert store.get("suite", "metals@v1") == first
    assert store.get("suite", "suite/metals@v1") == first
    assert store.names("suite") == ["metals"]
    assert store.versions("suite", "metals") == ["v1", "v2"]
    assert store.by_digest(first.digest) == first


def test_the_same_record_keeps_its_version(store: Store) -> None:
    first = seal(store)
    seal(store, body=suite_body(rows=9))
    assert seal(store) == first
    assert store.versions("suite", "metals") == ["v1", "v2"]


def test_equal_bytes_from_another_recipe_are_another_artifact(store: Store) -> None:
    one, other = seal(store, recipe="one"), seal(store, recipe="other")
    assert one.digest != other.digest
    assert (one.version, other.version) == ("v1", "v2")
    assert one.files == other.files


def test_one_record_under_two_names_answers_to_both(store: Store) -> None:
    one = seal(store, name="one", recipe="same")
    two = seal(store, name="two", recipe="same")
    assert one.digest == two.digest
    assert store.get("suite", "one").label == "suite/one@v1"
    assert store.get("suite", "two").label == "suite/two@v1"


def test_ten_versions_sort_by_number(store: Store) -> None:
    for rows in range(1, 12):
        seal(store, body=suite_body(rows=rows))
    assert store.versions("suite", "metals")[-2:] == ["v10", "v11"]
    assert store.get("suite", "metals").version == "v11"


def test_a_removed_version_does_not_cost_another_its_name(store: Store) -> None:
    for rows in (1, 2):
        seal(store, body=suite_body(rows=rows))
    (store.root / "names" / "suite" / "metals" / "v1").unlink()
    assert seal(store, body=suite_body(rows=3)).version == "v3"
    assert store.get("suite", "metals@v2").body.rows == 2


def test_strangers_in_the_names_folder_are_passed_over(store: Store) -> None:
    seal(store)
    for name in ("v1~", "v1.orig", ".v2.x", "vv"):
        (store.root / "names" / "suite" / "metals" / name).write_text("?")
    assert store.versions("suite", "metals") == ["v1"]


def test_an_unknown_name_gets_the_nearest(store: Store) -> None:
    with pytest.raises(UnknownArtifact, match="no suite at all"):
        store.get("suite", "metals")
    seal(store)
    with pytest.raises(UnknownArtifact) as caught:
        store.get("suite", "metal")
    assert (caught.value.found, caught.value.fix) == ("metals", "suite/metals")
    with pytest.raises(UnknownArtifact, match="has no version v7\n  found  v1"):
        store.get("suite", "metals@v7")
    with pytest.raises(UnknownArtifact) as far:
        store.get("suite", "zzz")
    assert far.value.fix is None


def test_a_digest_may_be_shortened_while_it_is_the_only_one(store: Store) -> None:
    sealed = seal(store)
    assert store.by_digest(sealed.digest[:12]) == sealed
    with pytest.raises(UnknownArtifact, match="no records begin with"):
        store.by_digest("0" * 64)
    for rows in range(20):
        seal(store, body=suite_body(rows=rows))
    with pytest.raises(UnknownArtifact, match=r"\d+ records begin with"):
        store.by_digest("")


def test_a_recipe_finds_what_it_made(store: Store) -> None:
    recipe = fingerprint("freeze", 1, "spec", {})
    assert store.made_by(recipe) is None
    sealed = seal(store, recipe="spec")
    assert store.made_by(recipe) == sealed


def test_a_recipe_whose_bytes_or_record_are_gone_has_made_nothing(store: Store) -> None:
    recipe = fingerprint("freeze", 1, "spec", {})
    sealed = seal(store, recipe="spec")
    blob = store.path(sealed, "prompts.jsonl")
    blob.unlink()
    assert store.made_by(recipe) is None
    assert seal(store, recipe="spec") == sealed  # made again: the same version
    assert store.made_by(recipe) == sealed
    (store.root / "records" / "suite" / f"{sealed.digest}.json").unlink()
    assert store.made_by(recipe) is None
    (store.root / "recipes" / recipe).write_text("torn")
    assert store.made_by(recipe) is None


# -- what flips, what is missing -----------------------------------------------------------------


def test_a_flipped_bit_is_named(store: Store) -> None:
    sealed = seal(store, files={"a": b"alpha", "b": b"beta"})
    assert store.verify(sealed) == []
    flip(store.path(sealed, "b"), 0)
    assert store.verify(sealed) == ["suite/metals@v1: b is not what was sealed"]


def test_a_missing_blob_is_named(store: Store) -> None:
    sealed = seal(store, files={"a": b"alpha", "b": b"beta"})
    store.path(sealed, "a").unlink()
    assert store.verify(sealed) == ["suite/metals@v1: a is missing"]
    with pytest.raises(IntegrityError, match="the bytes of a are gone"):
        store.path(sealed, "a")


def test_no_flipped_bit_of_a_record_goes_unseen(store: Store) -> None:
    sealed = seal(store)
    record = store.root / "records" / "suite" / f"{sealed.digest}.json"
    whole = record.read_bytes()
    unseen = []
    for place in range(len(whole)):
        flip(record, place)
        problem = reading_problem(store, sealed.digest)
        if problem is None:
            unseen.append(place)
        else:
            assert str(record) in problem.what
            assert problem.fix
        record.write_bytes(whole)
    # The two labels are no evidence, and no digest covers them.
    labels = b"".join(whole[place : place + 1] for place in unseen)
    assert labels == b"metalsv1"
    assert store.by_digest(sealed.digest) == sealed


def test_a_name_whose_record_is_gone_is_an_integrity_error(store: Store) -> None:
    sealed = seal(store)
    (store.root / "records" / "suite" / f"{sealed.digest}.json").unlink()
    with pytest.raises(IntegrityError, match="cannot read the record"):
        store.get("suite", "metals")


def reading_problem(store: Store, digest: str) -> IntegrityError | None:
    """What reading a record complains about."""
    try:
        store.by_digest(digest)
    except IntegrityError as error:
        return error
    return None


def flip(path: Path, place: int) -> None:
    """Turn the lowest bit of one byte, whatever the file's mode."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


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


def test_a_body_of_another_kind_is_stored_the_same_way(store: Store) -> None:
    sealed = seal(store, kind="dataset", name="Plasma v1", body=dataset_body(), files={})
    assert sealed.label == "dataset/plasma-v1@v1"
    assert store.get("dataset", "plasma-v1").body == dataset_body()
