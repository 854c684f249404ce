"""The tiers: what is committed is whole, wherever durable storage is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from nexa.core.errors import IntegrityError, MissingExtra, StorageError, UsageError
from nexa.core.identity import sha256_bytes, sha256_file
from nexa.core.tiers import MARKER, Tiers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {"adapter_model.safetensors": b"weights", "config/adapter_config.json": b"{}"}
    for name, data in made.items():
        path = tmp_path / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return {name: tmp_path / "work" / name for name in made}


def of(folder: Path, **environment: str) -> Tiers:
    return Tiers.of(folder, environment)


def test_by_default_everything_is_in_the_project(tmp_path: Path) -> None:
    tiers = of(tmp_path)
    assert tiers.scratch == tmp_path / ".nexa" / "scratch"
    assert tiers.durable == str(tmp_path / ".nexa" / "durable")
    assert tiers.store.root == tmp_path / ".nexa" / "store"
    assert tiers.hub == tmp_path / ".nexa" / "hub"
    assert tiers.manifests == tmp_path / "runs" / "manifests"
    assert tiers.logs == tmp_path / "runs" / "logs"
    assert list(tmp_path.iterdir()) == []  # to know is not to make


def test_the_environment_moves_scratch_and_durable(tmp_path: Path) -> None:
    tiers = of(
        tmp_path,
        NEXA_SCRATCH=str(tmp_path / "fast"),
        NEXA_DURABLE=str(tmp_path / "mnt" / "durable"),
    )
    assert tiers.scratch == tmp_path / "fast"
    assert tiers.durable_place("manifests/r.json") == str(tmp_path / "mnt/durable/manifests/r.json")
    assert of(tmp_path, NEXA_SCRATCH="", NEXA_DURABLE="") == of(tmp_path)


def test_the_real_environment_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXA_DURABLE", "memory://lab")
    assert Tiers.of(tmp_path).durable == "memory://lab"


def test_each_piece_of_work_has_a_scratch_folder_of_its_own(tmp_path: Path) -> None:
    one, other = (of(tmp_path).new_scratch("merge") for _ in range(2))
    assert one != other
    assert one.is_dir()
    assert one.parent == tmp_path / ".nexa" / "scratch"


def test_scratch_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        of(tmp_path, NEXA_SCRATCH=str(tmp_path / "file" / "scratch")).new_scratch("merge")


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_commit_to_a_folder_has_all_files_and_their_digests(
    tmp_path: Path, files: dict[str, Path], form: str
) -> None:
    tiers = of(tmp_path, NEXA_DURABLE=form.format(tmp_path / "durable"))
    assert tiers.durable_is_local
    address = tiers.commit(files, "checkpoints/run")
    assert address == str(tmp_path / "durable" / "checkpoints" / "run")
    marker = json.loads(Path(address, MARKER).read_bytes())
    assert marker == {"files": {name: sha256_file(path) for name, path in files.items()}}
    for name, path in files.items():
        assert Path(address, name).read_bytes() == path.read_bytes()


def test_a_commit_to_an_fsspec_address_is_the_same(tmp_path: Path, files: dict[str, Path]) -> None:
    durable = f"memory://lab-{os.getpid()}/{tmp_path.name}/"
    tiers = of(tmp_path, NEXA_DURABLE=durable)
    assert not tiers.durable_is_local
    tiers.commit(files, "checkpoints/run")
    assert tiers.commit(files, "checkpoints/run") == f"{durable}checkpoints/run"
    with fsspec.open(f"{durable}checkpoints/run/{MARKER}") as file:
        marker = json.loads(file.read())
    for name, path in files.items():
        with fsspec.open(f"{durable}checkpoints/run/{name}") as file:
            assert file.read() == path.read_bytes()
        assert marker["files"][name] == sha256_file(path)
    assert tiers.write(b"{}", "manifests/r.json") == f"{durable}manifests/r.json"
    with fsspec.open(f"{durable}manifests/r.json") as file:
        assert file.read() == b"{}"


def append(path: Path) -> None:
    """A change that reads what is there and writes more."""
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"row\n")


@pytest.mark.parametrize("durable", ["{}/durable", "memory://board-{}"])
def test_a_durable_file_is_changed_where_it_is_or_fetched_and_put_back(
    tmp_path: Path, durable: str
) -> None:
    tiers = of(tmp_path, NEXA_DURABLE=durable.format(tmp_path))
    for rows in (1, 2):
        address = tiers.update("evals/reports/board", append)
        assert address == tiers.durable_place("evals/reports/board")
        with fsspec.open(address) as file:
            assert file.read() == b"row\n" * rows
    if not tiers.durable_is_local:
        assert list(tiers.scratch.iterdir()) == []


@pytest.mark.parametrize("durable", ["{}/durable", "memory://kept-{}"])
def test_a_change_that_fails_leaves_the_durable_file_as_it_was(
    tmp_path: Path, durable: str
) -> None:
    tiers = of(tmp_path, NEXA_DURABLE=durable.format(tmp_path))
    address = tiers.write(b"old", "board")

    def fail(path: Path) -> None:
        assert path.read_bytes() == b"old"
        raise StorageError("the change itself failed")

    with pytest.raises(StorageError, match="the change itself failed"):
        tiers.update("board", fail)
    with fsspec.open(address) as file:
        assert file.read() == b"old"


class Lossy(MemoryFileSystem):
    """Durable storage that keeps only the beginning of a file."""

    protocol = "lossy"

    def put_file(self, lpath: str, rpath: str, **_: object) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes()[:3])


class Broken(fsspec.AbstractFileSystem):
    """Durable storage that cannot be reached."""

    protocol = "broken"

    def exists(self, path: str, **_: object) -> bool:
        raise ConnectionRefusedError(111, "Connection refused")

    def pipe_file(self, path: str, value: bytes, **_: object) -> None:
        raise PermissionError("the bucket is somebody else's")


@pytest.fixture
def bad_storage() -> None:
    for system in (Lossy, Broken):
        fsspec.register_implementation(system.protocol, system, clobber=True)


@pytest.mark.usefixtures("bad_storage")
def test_what_did_not_arrive_whole_is_not_committed(tmp_path: Path, files: dict[str, Path]) -> None:
    tiers = of(tmp_path, NEXA_DURABLE=f"lossy://{tmp_path.name}")
    with pytest.raises(StorageError, match="did not arrive whole") as caught:
        tiers.commit(files, "checkpoints/run")
    assert str(caught.value.found).startswith("3 of 7 bytes")
    assert not Lossy().exists(f"{tmp_path.name}/checkpoints/run/{MARKER}")


@pytest.mark.usefixtures("bad_storage")
def test_storage_that_cannot_be_reached_is_a_storage_error(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    tiers = of(tmp_path, NEXA_DURABLE="broken://bucket")
    with pytest.raises(StorageError, match=r"bucket/a/COMMITTED\.json: Connection refused"):
        tiers.commit(files, "a")
    with pytest.raises(StorageError, match="broken://bucket/b: the bucket is somebody else's"):
        tiers.write(b"", "b")
    with pytest.raises(StorageError, match="broken://bucket/c: Connection refused"):
        tiers.update("c", append)


def test_an_address_that_nothing_can_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NEXA_DURABLE=bogus://x"):
        of(tmp_path, NEXA_DURABLE="bogus://x").write(b"", "a")


def test_an_address_whose_package_is_missing_says_so(tmp_path: Path) -> None:
    fsspec.register_implementation("absent", "nexa_no_such_package.System", clobber=True)
    with pytest.raises(MissingExtra, match="NEXA_DURABLE=absent://x"):
        of(tmp_path, NEXA_DURABLE="absent://x").write(b"", "a")


def test_a_local_commit_that_cannot_be_written_is_a_storage_error(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    (tmp_path / "file").touch()
    tiers = of(tmp_path, NEXA_DURABLE=str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot write"):
        tiers.commit(files, "a")
    with pytest.raises(StorageError, match="cannot write"):
        tiers.update("a/b", append)


def test_across_file_systems_a_commit_is_a_copy(tmp_path: Path, files: dict[str, Path]) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    durable = shared / f"nexa-test-{os.getpid()}"
    try:
        address = Path(of(tmp_path, NEXA_DURABLE=str(durable)).commit(files, "run"))
        assert (address / "adapter_model.safetensors").read_bytes() == b"weights"
    finally:
        shutil.rmtree(durable, ignore_errors=True)


def test_a_kill_at_any_moment_never_leaves_a_marker_over_other_bytes(tmp_path: Path) -> None:
    first = tmp_path / "first"
    for name in ("a.bin", "b.bin"):
        (first / name).parent.mkdir(parents=True, exist_ok=True)
        (first / name).write_bytes(b"old " + name.encode())
        (first / f"new-{name}").write_bytes(b"new " + name.encode())
    of(first).commit({name: first / name for name in ("a.bin", "b.bin")}, "checkpoints/run")
    for touch in range(40):
        shutil.copytree(first, tmp_path / "killed" / str(touch))
    command = [sys.executable, "-m", "tests.core.crash", "commit", str(tmp_path / "killed")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    killed = int(done.stdout)
    assert 8 < killed < 40
    states = set()
    for touch in range(killed + 1):
        folder = tmp_path / "killed" / str(touch) / ".nexa" / "durable" / "checkpoints" / "run"
        if not (folder / MARKER).exists():
            states.add("uncommitted")
            continue
        digests = json.loads((folder / MARKER).read_bytes())["files"]
        assert {name: sha256_file(folder / name) for name in digests} == digests
        states.add("old" if digests["a.bin"] == sha256_bytes(b"old a.bin") else "new")
    assert states == {"old", "uncommitted", "new"}


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_what_was_committed_is_listed_fetched_and_removed(
    tmp_path: Path, files: dict[str, Path], place: str
) -> None:
    durable = str(tmp_path / "durable") if place == "folder" else f"memory://{tmp_path.name}-f"
    tiers = of(tmp_path / "project", NEXA_DURABLE=durable)
    assert tiers.committed("state") == []
    for name in ("b", "a"):
        tiers.commit({"x.bin": files["adapter_model.safetensors"]}, f"state/{name}")
    tiers.write(b"never committed", "state/c/x.bin")
    assert tiers.committed("state") == ["a", "b"]
    fetched = tiers.fetch("state/a", tmp_path / "fetched" / "a")
    assert (fetched / "x.bin").read_bytes() == b"weights"
    tiers._remove("state/a/x.bin")
    tiers.write(b"other", "state/a/x.bin")
    with pytest.raises(IntegrityError, match=r"state/a: x\.bin is not what was committed"):
        tiers.fetch("state/a", tmp_path / "again")
    tiers.remove("state/a")
    tiers.remove("state/never")
    assert tiers.committed("state") == ["b"]


@pytest.mark.parametrize("where", ["folder", "memory://nexa-read"])
def test_what_was_committed_can_be_listed_and_read(
    tmp_path: Path, files: dict[str, Path], where: str
) -> None:
    durable = str(tmp_path / "durable") if where == "folder" else where
    tiers = of(tmp_path, NEXA_DURABLE=durable)
    assert tiers.names() == tiers.names("checkpoints/r") == []
    tiers.commit(files, "checkpoints/r")
    tiers.write(b"{}", "manifests/r.json")
    inside = [f"checkpoints/r/{name}" for name in sorted([MARKER, *files])]
    assert tiers.names("checkpoints/r") == inside
    assert tiers.names() == [*inside, "manifests/r.json"]
    assert tiers.read("manifests/r.json") == b"{}"
    assert tiers.digest(inside[1]) == sha256_bytes(b"weights")
    for look in (tiers.read, tiers.digest):
        with pytest.raises(StorageError, match="r2"):
            look("manifests/r2.json")
