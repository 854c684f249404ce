from __future__ import annotations

import os
import resource
import struct
from pathlib import Path
from typing import Any

import pytest

from nexa.eval import sandboxed
from nexa.eval.sandboxed import LANDLOCK, SECCOMP

AUDIT_X86, AUDIT_ARM = 0xC000003E, 0xC00000B7
ALLOW, REFUSE, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026


class Kernel:
    """The C library's two calls, of a kernel with this version of Landlock; nothing is given up.

    What a process gives up it cannot get back: the real calls run in the tests of `sandbox`.
    """

    def __init__(self, landlock: int = 7, fails: str = "") -> None:
        self.landlock = landlock
        self.fails = fails
        self.asked: list[str] = []
        self.rules: list[int] = []
        self.handled = 0

    def prctl(self, option: int, *more: Any) -> int:
        name = {38: "no new privileges", 22: "filter"}[option]
        self.asked.append(name)
        return -1 if self.fails == name else 0

    def syscall(self, number: int, *more: Any) -> int:
        if number == 444 and more[0] is None:
            return self.landlock
        name = {444: "create", 445: "add", 446: "restrict"}[number]
        self.asked.append(name)
        if number == 444:
            (self.handled,) = struct.unpack("Q", more[0])
            return os.dup(0)
        if number == 445:
            rights, place = struct.unpack("=Qi", more[2])
            assert place > 0
            self.rules.append(rights)
        return -1 if self.fails == name else 0


def verdict(program: bytes, audit: int, call: int, flags: int = 0) -> int:
    """What a filter says of a system call: an interpreter of the instructions it is made of."""
    lines = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    data = {0: call, 4: audit, 16: flags}
    value, at = 0, 0
    while True:
        code, yes, no, k = lines[at]
        at += 1
        if code == 0x20:
            value = data[k]
        elif code == 0x06:
            return int(k)
        else:
            true = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[code]
            at += yes if true else no


@pytest.mark.parametrize(
    ("machine", "audit", "calls"),
    [
        ("x86_64", AUDIT_X86, {"read": 0, "write": 1, "exit": 60, "execve": 59, "socket": 41}),
        ("aarch64", AUDIT_ARM, {"read": 63, "write": 64, "exit": 93, "execve": 221, "socket": 198}),
    ],
)
def test_a_filter_refuses_what_reaches_beyond_the_process(
    machine: str, audit: int, calls: dict[str, int]
) -> None:
    program = sandboxed.seccomp_filter(machine)
    for name, number in calls.items():
        expected = ALLOW if name in ("read", "write", "exit") else REFUSE
        assert verdict(program, audit, number) == expected
    clone = 56 if machine == "x86_64" else 220
    assert verdict(program, audit, clone, 0x00010000) == ALLOW  # a thread
    assert verdict(program, audit, clone, 17) == REFUSE  # a process
    assert verdict(program, audit, 435) == ENOSYS
    assert verdict(program, 0x40000003, 1) == REFUSE  # a call of another kind of processor
    assert verdict(program, audit, 0x40000001) == REFUSE


def test_every_right_that_landlock_knows_is_taken() -> None:
    assert [bin(sandboxed.landlock_rights(v)).count("1") for v in (1, 2, 3, 4, 5, 9)] == [
        13, 14, 15, 15, 16, 16,
    ]  # fmt: skip


def test_a_process_may_read_some_folders_and_write_one(tmp_path: Path) -> None:
    kernel = Kernel()
    (tmp_path / "own").mkdir()
    sandboxed.confine("x86_64", kernel, [str(tmp_path)], str(tmp_path / "own"))
    assert kernel.asked == ["no new privileges", "create", "add", "add", "restrict", "filter"]
    assert kernel.rules == [0b1101, kernel.handled]


def test_what_a_kernel_does_not_have_is_left_out_and_told(tmp_path: Path) -> None:
    old = Kernel(landlock=-1)
    assert sandboxed.means("x86_64", old) == (SECCOMP,)
    assert sandboxed.means("riscv64", Kernel()) == (LANDLOCK,)
    assert sandboxed.means("riscv64", old) == ()
    sandboxed.confine("riscv64", old, [], str(tmp_path))
    assert old.asked == ["no new privileges"]


@pytest.mark.parametrize("fails", ["no new privileges", "add", "restrict", "filter"])
def test_a_kernel_that_refuses_stops_the_program(tmp_path: Path, fails: str) -> None:
    with pytest.raises(OSError, match="Errno"):
        sandboxed.confine("x86_64", Kernel(fails=fails), [], str(tmp_path))


def test_limits_are_hard_and_never_above_those_there_are() -> None:
    """Of core files, which no test of this process writes: hard limits stay."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = (1 << 40) if hard == resource.RLIM_INFINITY else hard
    sandboxed.limit({"RLIMIT_CORE": most})
    assert resource.getrlimit(resource.RLIMIT_CORE) == (most, most)
    sandboxed.limit({"RLIMIT_CORE": most + 1})
    assert resource.getrlimit(resource.RLIMIT_CORE) == (most, most)


def test_a_job_is_run_as_a_program_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    program = (
        f"assert __name__ == '__main__'\nwith open({str(out)!r}, 'w') as file: file.write('ran')\n"
    )
    job = {"limits": {}, "readable": [], "writable": str(tmp_path), "program": program}
    sandboxed.run({**job, "ready": "word"}, Kernel(landlock=-1))
    assert out.read_text() == "ran"
    assert capfd.readouterr().out == "word\n"
