"""Rows that lie elsewhere are fetched once, told, and never with a secret."""

from __future__ import annotations

import http.server
import io
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from nexa.core import events
from nexa.core.errors import (
    AccessError,
    DataError,
    MissingExtra,
    NetworkError,
    StorageError,
)
from nexa.data import remote
from nexa.data.remote import address_of, fetch, local_path
from nexa.lm.derived import cache_root

ROW = b'{"prompt": "q", "completion": "a"}\n'


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in memory, emptied."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def put(system: Any, path: str, data: bytes = ROW) -> None:
    system.pipe_file(path, data)


class Answers(http.server.BaseHTTPRequestHandler):
    """A web server that says what a test has told it to."""

    status = 200
    headers_: ClassVar[dict[str, str]] = {}
    body = ROW
    garbage = False
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.garbage:
            self.wfile.write(b"no HTTP at all\r\n\r\n")
            return
        self.send_response(self.status)
        for name, value in self.headers_.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def web() -> Iterator[tuple[type[Answers], str]]:
    answers = type("Said", (Answers,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield answers, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


# -- what is an address ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "address"),
    [
        ("s3://bucket/rows.jsonl", "s3://bucket/rows.jsonl"),
        (Path("s3://bucket/rows.jsonl"), "s3://bucket/rows.jsonl"),  # one slash is left of two
        ("HTTPS://host/x", "https://host/x"),
        ("file:///tmp/x y", "file://tmp/x y"),  # read by `local_path`
        ("hf://org/name", None),
        ("org/name", None),
        ("C:/windows/path", None),
        ("rows.jsonl", None),
    ],
)
def test_an_address_is_told_from_a_path(reference: str | Path, address: str | None) -> None:
    assert address_of(reference) == address


def test_a_file_address_is_a_path_of_this_machine() -> None:
    address = address_of("file:///tmp/x%20y")
    assert address is not None
    assert local_path(address) == Path("/tmp/x y")
    assert local_path("s3://bucket/x") is None


@pytest.mark.parametrize(
    "address",
    ["https://me:hunter2@host/rows.jsonl", "https://host/rows.jsonl?X-Amz-Signature=hunter2&a=1"],
)
def test_an_address_with_a_secret_is_not_taken(address: str) -> None:
    with pytest.raises(DataError, match="given with a secret") as caught:
        fetch(address)
    assert "hunter2" not in str(caught.value)
    assert "https://host/rows.jsonl" in str(caught.value)
    assert not cache_root().exists()


# -- file systems ------------------------------------------------------------------------------


def test_a_file_is_fetched_once_until_it_changes(memory: Any) -> None:
    put(memory, "/lab/rows.jsonl")
    told: list[str] = []
    with events.listening(lambda event: told.append(f"{event['kind']} {event.get('task')}")):
        first = fetch("memory://lab/rows.jsonl")
        again = fetch("memory://lab/rows.jsonl")
    assert first == again
    assert told.count("progress.start fetching memory://lab/rows.jsonl") == 1
    assert first.path.read_bytes() == ROW
    assert (first.path.name, first.base) == ("rows.jsonl", "memory://lab")
    assert first.path.is_relative_to(cache_root() / "data")
    put(memory, "/lab/rows.jsonl", ROW * 2)
    assert fetch("memory://lab/rows.jsonl").path.read_bytes() == ROW * 2
    assert first.path.read_bytes() == ROW  # what a dataset was made from stays


def test_a_folder_is_its_data_files(memory: Any) -> None:
    for name in ("a.jsonl", "b/c.csv.gz", "b/.hidden.csv", "picture.png"):
        put(memory, f"/lab/{name}")
    found = fetch("memory://lab/")
    assert found.path == found.folder
    names = [p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*") if p.is_file()]
    assert sorted(names) == ["a.jsonl", "b/c.csv.gz"]
    assert found.base == "memory://lab"


def test_a_pattern_is_what_it_names(memory: Any) -> None:
    for name in ("x/part-1.jsonl", "y/part-1.jsonl", "y/other.jsonl"):
        put(memory, f"/lab/{name}")
    found = fetch("memory://lab/{x,y}/part-*.jsonl")
    names = [p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*.jsonl")]
    assert sorted(names) == ["x/part-1.jsonl", "y/part-1.jsonl"]
    assert found.base == "memory://lab"


def test_what_is_not_there_says_so(memory: Any) -> None:
    put(memory, "/lab/picture.png")
    with pytest.raises(DataError, match="there is no memory://lab/none"):
        fetch("memory://lab/none.jsonl")
    with pytest.raises(DataError, match="no data file is at memory://lab"):
        fetch("memory://lab")
    with pytest.raises(DataError, match="no data file is at"):
        fetch("memory://lab/*.jsonl")


def test_a_driver_that_is_not_installed_is_named_with_its_line() -> None:
    with pytest.raises(MissingExtra, match="s3:// needs a driver") as caught:
        fetch("s3://bucket/rows.jsonl")
    assert caught.value.fix == "pip install s3fs"
    with pytest.raises(MissingExtra) as caught:
        fetch("dropbox://x/rows.jsonl")
    assert caught.value.fix is None
    with pytest.raises(DataError, match="no address that rows can be read from"):
        fetch("nothing-known://x/rows.jsonl")


class Moody(MemoryFileSystem):
    """A file system that fails as it is told to."""

    protocol = "moody"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    error: ClassVar[Exception | None] = None
    size: ClassVar[int | None] = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("moody://", "memory://"))

    def info(self, path: str, **options: Any) -> Any:
        if Moody.error is not None:
            raise Moody.error
        told = super().info(path, **options)
        return told if Moody.size is None else {**told, "size": Moody.size}

    def isdir(self, path: str) -> bool:
        return False


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> type[Moody]:
    fsspec.register_implementation("moody", Moody, clobber=True)
    monkeypatch.setattr(Moody, "error", None)
    monkeypatch.setattr(Moody, "size", None)
    Moody.store.clear()
    Moody().pipe_file("/lab/rows.jsonl", ROW)
    return Moody


def test_what_was_fetched_last_is_taken_where_nobody_answers(
    moody: type[Moody], notes: list[str]
) -> None:
    first = fetch("moody://lab/rows.jsonl")
    moody.error = ConnectionError("no route to moody://lab/rows.jsonl")
    assert fetch("moody://lab/rows.jsonl") == first
    assert notes == [
        "moody://lab/rows.jsonl cannot be reached (ConnectionError: no route to "
        "moody://lab/rows.jsonl): what was fetched last is taken"
    ]
    with pytest.raises(NetworkError, match="nothing of it was fetched before"):
        fetch("moody://lab/other.jsonl")


def test_a_refusal_is_told_without_what_the_driver_said(moody: type[Moody]) -> None:
    moody.error = PermissionError("key AKIAEXAMPLE is wrong")
    with pytest.raises(AccessError, match="is not for us") as caught:
        fetch("moody://lab/rows.jsonl")
    assert "AKIA" not in str(caught.value)


def test_errors_of_a_drivers_own_are_known_once_it_is_in_use(
    moody: type[Moody], monkeypatch: pytest.MonkeyPatch
) -> None:
    class BotoCoreError(Exception):
        """As botocore has it: no OSError."""

    module = types.ModuleType("botocore.exceptions")
    module.BotoCoreError = BotoCoreError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "botocore.exceptions", module)
    moody.error = BotoCoreError("Unable to locate credentials")
    with pytest.raises(NetworkError) as caught:
        fetch("moody://lab/rows.jsonl")
    assert caught.value.found == "BotoCoreError: Unable to locate credentials"


def test_a_file_that_does_not_arrive_whole_is_not_kept(moody: type[Moody]) -> None:
    moody.size = 10_000
    with pytest.raises(NetworkError, match="did not arrive whole"):
        fetch("moody://lab/rows.jsonl")
    (home,) = (cache_root() / "data").iterdir()
    assert [path.name for path in home.iterdir()] == [".lock"]
    moody.size = 1 << 60
    with pytest.raises(StorageError, match="not enough disk space"):
        fetch("moody://lab/rows.jsonl")


def test_what_a_killed_fetch_left_is_cleared(moody: type[Moody]) -> None:
    first = fetch("moody://lab/rows.jsonl")
    left = first.folder.parent / ".half.x7"
    left.mkdir()
    (left / "rows.jsonl").write_bytes(b"torn")
    assert fetch("moody://lab/rows.jsonl") == first
    assert not left.exists()


def test_a_name_that_leads_outside_is_refused(moody: type[Moody]) -> None:
    with pytest.raises(DataError, match="names a file outside of itself"):
        remote._inside("../../home/rows.jsonl", "x")
    with pytest.raises(DataError, match="names a file outside of itself"):
        remote._inside("/etc/passwd", "x")


def test_a_cache_that_cannot_be_written_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEXA_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot write"):
        fetch("memory://lab/rows.jsonl")


# -- HTTP --------------------------------------------------------------------------------------


def test_a_web_address_is_fetched_once_by_its_mark(web: tuple[type[Answers], str]) -> None:
    answers, url = web
    answers.headers_ = {"ETag": '"one"', "Content-Length": str(len(ROW))}
    first = fetch(f"{url}/lab/rows.jsonl?part=1")
    assert (first.path.name, first.path.read_bytes()) == ("rows.jsonl", ROW)
    assert first.base == f"{url}/lab"
    assert fetch(f"{url}/lab/rows.jsonl?part=1") == first
    answers.headers_ = {"Last-Modified": "yesterday"}
    answers.body = ROW * 3
    assert fetch(f"{url}/lab/rows.jsonl?part=1").path.read_bytes() == ROW * 3
    assert answers.asked == 3


def test_without_a_mark_it_is_fetched_each_time(web: tuple[type[Answers], str]) -> None:
    answers, url = web
    assert fetch(f"{url}/").path.read_bytes() == ROW
    answers.body = ROW * 2
    again = fetch(f"{url}/")
    assert (again.path.name, again.path.read_bytes()) == ("rows", ROW * 2)


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AccessError), (403, AccessError), (404, DataError), (500, NetworkError)],
)
def test_a_refusal_of_a_web_server_is_told(
    web: tuple[type[Answers], str], status: int, error: type[Exception]
) -> None:
    answers, url = web
    answers.status = status
    with pytest.raises(error, match=r"127\.0\.0\.1") as caught:
        fetch(f"{url}/rows.jsonl")
    assert f"HTTP {status}" in str(caught.value)


def test_a_web_server_that_breaks_off_or_is_not_there_is_told(
    web: tuple[type[Answers], str],
) -> None:
    answers, url = web
    answers.headers_ = {"Content-Length": "5000", "ETag": "x"}
    with pytest.raises(NetworkError):
        fetch(f"{url}/rows.jsonl")
    with pytest.raises(NetworkError, match="cannot reach"):
        fetch("http://127.0.0.1:9/rows.jsonl")
    answers.garbage = True
    with pytest.raises(NetworkError, match="cannot reach"):
        fetch(f"{url}/rows.jsonl")


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(StorageError, match="cannot write /dev/full"),
    ):
        remote._copy(io.BytesIO(ROW), full, lambda _: None)
