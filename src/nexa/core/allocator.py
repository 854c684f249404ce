"""How the C library hands out memory, tuned for training on a CPU.

Training asks for the same large tensors again and again. glibc's defaults give each one back to
the kernel when it is freed, and the next request pays for fresh, zeroed pages: 13 to 25 % of a
LoRA step on two cores. Kept in the heap, pages are written once.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import psutil

from nexa.core.hardware import available_memory_bytes

# The numbers of mallopt(3) parameters, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
NEVER = 2**31 - 1
TOP_PAD_BYTES = 256 << 20  # the heap grows by this much at a time
MADV_POPULATE_WRITE = 23  # of madvise(2), from Linux 5.14: the kernel makes the pages itself
PART_BYTES = 64 << 20
MOST_OF_FREE = 1 / 3  # of the memory that is free, for what is asked for ahead of its use


def keep_pages(library: Any = None) -> Literal["kept", "system"]:
    """Tell glibc to keep freed pages: no mmap, no trim, one arena. Call before large allocations.

    The process stays at its peak memory until it ends. Does nothing, and says "system", where the
    C library is not glibc or where the environment has NEXA_ALLOCATOR=system. `library` is the
    loaded C library, this process's own if left out.
    """
    if os.environ.get("NEXA_ALLOCATOR") == "system" or not sys.platform.startswith("linux"):
        return "system"
    mallopt = getattr(library or ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return "system"
    settings = {
        M_MMAP_MAX: 0,
        M_TRIM_THRESHOLD: NEVER,
        M_TOP_PAD: TOP_PAD_BYTES,
        M_ARENA_MAX: 1,
    }
    # 1 is success; a C library whose mallopt is a stub answers 0.
    taken = [mallopt(name, value) for name, value in settings.items()]
    return "kept" if all(taken) else "system"


def prefault(size_bytes: int) -> threading.Thread:
    """Have the pages of the first step made now, in a thread, while something else is waited for.

    The kernel zeroes each page when it is first written, which costs about 1.4 s a gigabyte: half
    of a first step. This takes `size_bytes` from the heap, has them written, and gives them back to
    the heap, which keeps them where `keep_pages` was called (where it does nothing, so does this).
    Never more than a third of the memory that is free.

    Returns:
        The thread, a daemon that has begun; nobody needs to wait for it.
    """
    size = min(size_bytes, int(available_memory_bytes() * MOST_OF_FREE))
    thread = threading.Thread(target=_prefault, args=(size,), name="prefault", daemon=True)
    thread.start()
    return thread


def _prefault(size: int, library: Any = None) -> None:
    """Take, write, give back; nothing where the heap does not keep it or has no room for it."""
    library = library or ctypes.CDLL(None)  # whose calls let other threads run
    if size <= 0 or keep_pages(library) == "system":
        return
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    begin = library.malloc(size)
    if begin is None:
        return
    _write_pages(library, begin, size)
    library.free(begin)


def _write_pages(library: Any, begin: int, size: int) -> None:
    """Have every whole page of a piece of memory made, a part at a time.

    Between two parts other threads can change the memory map, which the kernel locks meanwhile.
    """
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    page = mmap.PAGESIZE
    first, end = -(-begin // page) * page, (begin + size) // page * page
    for part in range(first, end, PART_BYTES):
        length = min(PART_BYTES, end - part)
        if library.madvise(part, length, MADV_POPULATE_WRITE):  # an older kernel does not know it
            ctypes.memset(part, 0, length)


class _HeapCount(ctypes.Structure):
    """The result of mallinfo2(3), from glibc 2.33: ten sizes in the order of malloc.h."""

    _fields_ = [  # as ctypes wants it
        ("sizes", ctypes.c_size_t * 10)
    ]


MAPPED, IN_USE = 4, 7  # hblkhd and uordblks among the ten


def in_use_bytes(library: Any = None) -> int:
    """Bytes that the process has taken from the heap and not given back; 0 where nobody counts."""
    ask = getattr(library or ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0
    ask.restype = _HeapCount
    sizes = ask().sizes
    return int(sizes[MAPPED] + sizes[IN_USE])


def restart_peak(process: Path = Path("/proc/self")) -> int:
    """Bytes held now; the peak is counted from here on, where the system can (Linux)."""
    with contextlib.suppress(OSError):  # elsewhere the peak is that of the whole process
        (process / "clear_refs").write_text("5", encoding="ascii")
    return int(psutil.Process().memory_info().rss)


def peak_bytes(process: Path = Path("/proc/self")) -> int:
    """The most memory that this process has held at once, since `restart_peak` if it was called."""
    status = process / "status"
    if status.exists():
        lines = status.read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
