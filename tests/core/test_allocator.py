from __future__ import annotations

import ctypes
import os
import subprocess
import sys

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
