from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nexa.core.errors import IntegrityError, StorageError
from nexa.lm import journal as journal_module
from nexa.lm.client import Completion
from nexa.lm.journal import HEADER, Entries, Journal, read_journal


def answer(text: str = "so") -> Completion:
    return Completion(text, "stop", "m-1", 3, 4, 0.5, {"without": ["seed"]})


def keep(journal: Journal, key: str, text: str = "so", cost_usd: float | None = 0.25) -> None:
    """Send and answer one."""

    async def story() -> None:
        number = journal.sent(key, 0.5)
        digest = "d" * 64
        await journal.answered(
            number, key, answer(text), prompt_sha256=digest, attempts=2, cost_usd=cost_usd
        )

    asyncio.run(story())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "journal.jsonl"


@pytest.fixture
def written(path: Path) -> Path:
    """A journal with two answers, a refusal, and a request without any outcome."""
    with Journal.open(path) as journal:
        keep(journal, "k1", "first\u2028line \ud800")
        refused, lost, _open = (journal.sent(key, 0.5) for key in ("k2", "k3", "k4"))
        journal.failed(refused, "k2", "status 500", billed=False)
        journal.failed(lost, "k3", "time is over", billed=True)
        keep(journal, "k2", cost_usd=None)
    return path


def test_a_journal_gives_back_what_was_kept(written: Path) -> None:
    entries = read_journal(written)
    assert set(entries.answers) == {"k1", "k2"}
    assert entries.completion("k1") == answer("first\u2028line \ud800")
    assert entries.completion("k3") is None
    line = entries.answers["k1"]
    told = [line[name] for name in ("prompt_sha256", "attempts", "cost_usd")]
    assert told == ["d" * 64, 2, 0.25]
    assert line["at"].endswith("+00:00")
    assert (entries.paid_usd, entries.lost, entries.lost_usd) == (0.25, 2, 1.0)
    assert (entries.spent_usd, entries.sent) == (1.25, 5)


def test_no_file_is_an_empty_journal(path: Path) -> None:
    assert read_journal(path) == Entries()


def test_a_journal_torn_anywhere_keeps_its_whole_lines_and_can_be_written_on(
    written: Path,
) -> None:
    data = written.read_bytes()
    for size in range(len(data)):
        written.write_bytes(data[:size])
        whole = data[:size].rfind(b"\n") + 1
        before = read_journal(written)
        assert before.size_bytes == (whole if whole >= len(HEADER) else 0)
        with Journal.open(written) as journal:
            journal.sent("k9", None)
        assert written.read_bytes().startswith(data[:whole] or HEADER)
        after = read_journal(written)
        assert after.answers == before.answers
        assert after.lost == before.lost + 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"a file of somebody's\n", "is no journal of requests"),
        (HEADER + b"{broken\n", "line 2 of the journal cannot be read"),
        (HEADER + b'{"sent": 1, "key": "k", "most_usd": 1}\n[]\n', "line 3"),
        (HEADER + b'{"answered": 1, "key": "k"}\n', "line 2"),
        (HEADER + b'{"sent": 1, "most_usd": 0}\n{"answered": 1, "key": "k"}\n', "line 3"),
    ],
)
def test_what_cannot_be_read_is_never_written_to(path: Path, content: bytes, what: str) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=what), Journal.open(path):
        pass
    assert path.read_bytes() == content


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        read_journal(tmp_path)
    with pytest.raises(StorageError, match="cannot write"), Journal.open(tmp_path):
        pass


def test_two_writers_of_one_journal_are_refused(path: Path) -> None:
    opening = (
        "import sys; from pathlib import Path; from nexa.lm.journal import Journal\n"
        "with Journal.open(Path(sys.argv[1])): print('open')"
    )
    words = [sys.executable, "-c", opening, str(path)]
    with Journal.open(path):
        with pytest.raises(StorageError, match="another process is asking"), Journal.open(path):
            pass
        other = subprocess.run(words, capture_output=True, text=True, check=False)
        assert other.returncode == 1
        assert "another process is asking with this journal" in other.stderr
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.stdout == "open\n"


def test_many_answers_share_a_flush_and_each_is_on_the_disk_when_it_is_handed_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        flushed.append(path.stat().st_size)

    async def story(journal: Journal) -> None:
        async def one(key: str) -> None:
            number = journal.sent(key, 0.0)
            await journal.answered(
                number, key, answer(), prompt_sha256="", attempts=1, cost_usd=0.0
            )
            end = path.read_bytes().index(f'"answered": {number},'.encode())
            assert flushed[-1] > end

        await asyncio.gather(*(one(f"k{i}") for i in range(100)))

    with Journal.open(path) as journal:
        monkeypatch.setattr(journal_module.os, "fsync", fsync)
        asyncio.run(story(journal))
    assert len(flushed) < 20


def test_a_full_disk_leaves_no_torn_line_and_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def write(handle: int, data: memoryview) -> int:
        if len(data) > 20:
            return real(handle, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal.open(path) as journal:
        keep(journal, "k1")
        whole = path.read_bytes()
        monkeypatch.setattr(journal_module.os, "write", write)
        with pytest.raises(StorageError, match=r"No space left(.|\n)*GB free"):
            journal.sent("k2", 0.5)
        monkeypatch.undo()
        assert path.read_bytes() == whole
        journal.sent("k3", 0.5)
    assert json.loads(path.read_bytes().splitlines()[-1])["key"] == "k3"


def test_a_flush_that_fails_is_no_kept_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def failing() -> None:
        with Journal.open(path) as journal:
            monkeypatch.setattr(journal_module.os, "fsync", fsync)
            keep(journal, "k1")

    with pytest.raises(StorageError, match="Input/output"):
        failing()
