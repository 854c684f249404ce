from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nexa.core import allocator

ASK = "from nexa.core.allocator import keep_pages; print(keep_pages())"


def ask(**environment: str) -> str:
    """The answer of a fresh interpreter: the setting is for the life of a process."""
    known = {k: v for k, v in os.environ.items() if k != "NEXA_ALLOCATOR"}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**known, **environment}, capture_output=True, text=True
    )
    return done.stdout.strip() or done.stderr


class Library:
    """A C library that writes down what it is asked."""

    def __init__(self, answer: int) -> None:
        self.answer = answer
        self.asked: dict[int, int] = {}

    def mallopt(self, name: int, value: int) -> int:
        self.asked[name] = value
        return self.answer


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc")
def test_glibc_is_told_to_keep_freed_pages() -> None:
    assert ask() == "kept"


def test_the_user_can_keep_the_systems_own_allocator() -> None:
    assert ask(NEXA_ALLOCATOR="system") == "system"


def test_no_memory_is_mapped_or_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXA_ALLOCATOR", raising=False)
    library = Library(1)
    assert allocator.keep_pages(library) == "kept"
    assert library.asked[allocator.M_MMAP_MAX] == 0
    assert library.asked[allocator.M_TRIM_THRESHOLD] == allocator.NEVER
    assert library.asked[allocator.M_ARENA_MAX] == 1


def test_the_users_wish_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXA_ALLOCATOR", "system")
    library = Library(1)
    assert allocator.keep_pages(library) == "system"
    assert not library.asked


@pytest.mark.parametrize("library", [Library(0), object()])
def test_another_c_library_is_left_alone(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXA_ALLOCATOR", raising=False)
    assert allocator.keep_pages(library) == "system"


# -- pages made ahead ----------------------------------------------------------------------------

HEAP = """
import sys
from nexa.core.allocator import keep_pages, prefault
import psutil
held = psutil.Process().memory_info
keep_pages()
before = held().rss
prefault({size}).join()
made = held().rss - before
filled = bytearray({size} * 9 // 10)
print(made, held().rss - before - made, filled[0])
"""
SIZE = 200_000_000
GLIBC = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc"
)


def heap(size: int, **environment: str) -> tuple[int, int]:
    """Bytes that a fresh interpreter held more after `prefault`, and more when it used them."""
    known = {k: v for k, v in os.environ.items() if k != "NEXA_ALLOCATOR"}
    done = subprocess.run(
        [sys.executable, "-c", HEAP.format(size=size)],
        env={**known, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    made, more, _ = map(int, done.stdout.split())
    return made, more


@GLIBC
def test_pages_are_made_ahead_stay_and_are_used() -> None:
    made, more = heap(SIZE)
    assert made == pytest.approx(SIZE, rel=0.05)
    assert more < SIZE / 20


def test_the_user_can_have_no_pages_made() -> None:
    made, more = heap(SIZE, NEXA_ALLOCATOR="system")
    assert made < SIZE / 20
    assert more == pytest.approx(SIZE * 0.9, rel=0.1)


@GLIBC
def test_never_more_is_taken_than_a_third_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "available_memory_bytes", lambda: 3 * allocator.PART_BYTES)
    asked: list[int] = []
    monkeypatch.setattr(allocator, "_prefault", asked.append)
    allocator.prefault(1 << 50).join()
    assert asked == [allocator.PART_BYTES]


class Heap(Library):
    """A C library whose heap is a piece of memory of ours."""

    def __init__(self, *, madvise: int, room: bool = True) -> None:
        super().__init__(1)
        self.memory = ctypes.create_string_buffer(b"\x07" * 3 * mmap.PAGESIZE)
        self.calls: list[str] = []
        self.malloc = self.named("malloc", ctypes.addressof(self.memory) if room else None)
        self.madvise = self.named("madvise", madvise)
        self.free = self.named("free", None)

    def named(self, name: str, answer: int | None) -> Any:
        def call(*_args: int) -> int | None:
            self.calls.append(name)
            return answer

        return call


def test_an_older_kernel_has_its_pages_written_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXA_ALLOCATOR", raising=False)
    library = Heap(madvise=-1)
    allocator._prefault(3 * mmap.PAGESIZE, library)
    assert library.calls == ["malloc", "madvise", "free"]
    # Whole pages alone: what lies beside them may be somebody else's.
    assert 2 * mmap.PAGESIZE <= bytes(library.memory).count(0) <= 3 * mmap.PAGESIZE + 1


def test_the_kernel_makes_the_pages_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXA_ALLOCATOR", raising=False)
    library = Heap(madvise=0)
    allocator._prefault(3 * mmap.PAGESIZE, library)
    assert library.calls == ["malloc", "madvise", "free"]
    assert bytes(library.memory).count(0) <= 1


def test_a_heap_without_room_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXA_ALLOCATOR", raising=False)
    library = Heap(madvise=0, room=False)
    allocator._prefault(mmap.PAGESIZE, library)
    assert library.calls == ["malloc"]


def test_nothing_is_asked_for_where_nothing_is_kept() -> None:
    library = Heap(madvise=0)
    allocator._prefault(0, library)
    library.answer = 0
    allocator._prefault(1 << 20, library)
    assert library.calls == []


# -- counting ------------------------------------------------------------------------------------


@GLIBC
def test_what_is_taken_from_the_heap_is_counted_while_it_is_held() -> None:
    before = allocator.in_use_bytes()
    piece = ctypes.create_string_buffer(50_000_000)
    assert allocator.in_use_bytes() - before == pytest.approx(50_000_000, rel=0.05)
    del piece
    assert allocator.in_use_bytes() - before < 5_000_000


def test_a_c_library_that_does_not_count_says_nothing() -> None:
    assert allocator.in_use_bytes(object()) == 0


def test_the_peak_can_be_counted_from_now_on(tmp_path: Path) -> None:
    held = allocator.restart_peak()
    piece = bytearray(30_000_000)
    assert allocator.peak_bytes() >= held > 10_000_000
    del piece
    assert allocator.restart_peak(tmp_path / "none") > 10_000_000


def test_the_peak_is_that_of_this_process(tmp_path: Path) -> None:
    assert allocator.peak_bytes() > 10_000_000
    assert allocator.peak_bytes(tmp_path) > 10_000_000  # where the system has no /proc
    (tmp_path / "status").write_text("Name: x\nVmHWM:\t    12 kB\n")
    assert allocator.peak_bytes(tmp_path) == 12 * 1024
