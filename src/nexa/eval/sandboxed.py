"""The child of `nexa.eval.sandbox`: confines itself, then runs a program. Standard library only.

It is run by its path, without site-packages (`python -I -S`). What it gives up it cannot get back,
and neither can any code that runs after: limits that are hard, no new privileges, files and
directories by Landlock, system calls by a seccomp filter. Where the kernel has no Landlock or no
filter for this processor, `means` leaves it out, and the parent says so.

Sources: landlock(7), seccomp(2), linux/bpf_common.h, linux/audit.h.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

LANDLOCK, SECCOMP = "landlock", "seccomp"

# -- system calls --------------------------------------------------------------------------------

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # the latter: fail with EPERM
_X32 = 0x40000000  # x86-64's second table of calls
_CLONE_THREAD = 0x00010000
_ENOSYS = 0x00050026

# By number on x86-64 and on arm64. None: it has no such call.
_CALLS = {
    # Processes: another one, another program, or another's memory.
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    # Signals to others; whoever ends itself uses `exit`.
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    # The network, and sockets of other programs.
    "socket": (41, 198),
    "io_uring_setup": (425, 425),
    # What a program of a few lines has no need of.
    "mount": (165, 40),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
    "prlimit64": (302, 261),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "memfd_create": (319, 279),
}
# Machine -> (its number in linux/audit.h, column of the table, `clone`, `clone3`).
_MACHINES = {"x86_64": (0xC000003E, 0, 56, 435), "aarch64": (0xC00000B7, 1, 220, 435)}

# Rights by version of Landlock, lowest bit first; see landlock(7).
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_READ = 0b1101  # execute (shared libraries are mapped so), read a file, list a folder


def means(machine: str, libc: Any) -> tuple[str, ...]:
    """What this kernel confines a process with, beside limits."""
    landlock = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1) > 0
    found = {LANDLOCK: landlock, SECCOMP: machine in _MACHINES}
    return tuple(name for name, there in found.items() if there)


def seccomp_filter(machine: str) -> bytes:
    """The program that the kernel runs at every system call, as bytes of BPF.

    Threads may be made, processes may not: `clone` is looked at, `clone3` (whose flags cannot be)
    does not exist, so that the C library takes `clone`.
    """
    audit, column, clone, clone3 = _MACHINES[machine]
    refused = sorted(n for numbers in _CALLS.values() if (n := numbers[column]) is not None)
    load_arch, load_call, load_flags = (0x20, 0, 0, 4), (0x20, 0, 0, 0), (0x20, 0, 0, 16)
    refuse, allow = (0x06, 0, 0, _REFUSE), (0x06, 0, 0, _ALLOW)
    program = [load_arch, (0x15, 1, 0, audit), refuse, load_call]
    program += [(0x35, 0, 1, _X32), refuse]
    program += [(0x15, 0, 1, clone3), (0x06, 0, 0, _ENOSYS)]
    program += [(0x15, 0, 4, clone), load_flags, (0x45, 0, 1, _CLONE_THREAD), allow, refuse]
    for number in refused:
        program += [(0x15, 0, 1, number), refuse]
    return b"".join(struct.pack("HBBI", *line) for line in [*program, allow])


def landlock_rights(version: int) -> int:
    """Every right to files that this version of Landlock knows: what is not allowed is refused."""
    return (1 << _RIGHTS[min(version, max(_RIGHTS))]) - 1


def limit(limits: Mapping[str, int]) -> None:
    """Set hard limits, by the names that `resource` has for them."""
    for name, value in limits.items():
        _, hard = resource.getrlimit(getattr(resource, name))
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(getattr(resource, name), (least, least))


def confine(machine: str, libc: Any, readable: Sequence[str], writable: str) -> None:
    """Give up all but reading some folders and writing one.

    Raises:
        OSError: the kernel refuses.
    """
    _called(libc, libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    known = means(machine, libc)
    if LANDLOCK in known:
        _landlock(libc, readable, writable)
    if SECCOMP in known:
        program = seccomp_filter(machine)
        kept = ctypes.create_string_buffer(program, len(program))
        told = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(kept))
        _called(libc, libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, told, 0, 0))


def _landlock(libc: Any, readable: Sequence[str], writable: str) -> None:
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    every = landlock_rights(version)
    told = struct.pack("Q", every)
    rules = _called(libc, libc.syscall(_LANDLOCK_CREATE, told, ctypes.c_size_t(len(told)), 0))
    for path, rights in [*((folder, _READ) for folder in readable), (writable, every)]:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", rights, place)
        _called(libc, libc.syscall(_LANDLOCK_ADD, rules, 1, rule, 0))
        os.close(place)
    _called(libc, libc.syscall(_LANDLOCK_RESTRICT, rules, 0))
    os.close(rules)


def _called(libc: Any, result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def run(job: Mapping[str, Any], libc: Any) -> None:
    """Limit and confine this process, say that it is, then run the job's program as `__main__`."""
    limit(job["limits"])
    confine(os.uname().machine, libc, job["readable"], job["writable"])
    os.write(1, f"{job['ready']}\n".encode())
    code = compile(job["program"], "answer.py", "exec")
    exec(code, {"__name__": "__main__", "__builtins__": __builtins__})


if __name__ == "__main__":
    sys.path[:] = [
        place for place in sys.path if place != os.path.dirname(os.path.abspath(__file__))
    ]
    run(json.loads(sys.stdin.buffer.read()), ctypes.CDLL(None, use_errno=True))
