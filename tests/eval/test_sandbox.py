"""Programs that mean harm, run for real: each must do none, whatever comes of it itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nexa.core import events
from nexa.core.errors import EvalError
from nexa.eval import sandbox
from nexa.eval.sandbox import Limits, readable_folders, run_program, tell_isolation

QUICK = Limits(wall_s=20)
CONFINED = len(sandbox._means()) == 2
needs_confinement = pytest.mark.skipif(not CONFINED, reason="no Landlock or seccomp here")


def test_a_program_passes_by_coming_to_its_end() -> None:
    assert run_program("print('hello')\nassert 1 + 1 == 2", QUICK).outcome == "passed"
    failed = run_program("assert 1 + 1 == 3", QUICK)
    assert (failed.outcome, "AssertionError" in failed.tail) == ("failed", True)
    assert run_program("this is no Python", QUICK).outcome == "failed"


@pytest.mark.parametrize(
    "program",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "raise SystemExit",
        "print('a' * 5000)\nquit = exit = None\nimport os, signal\nsignal.alarm(1)\nsignal.pause()",
    ],
)
def test_a_program_that_ends_early_has_not_passed(program: str) -> None:
    assert run_program(program, QUICK).outcome == "failed"


def test_modules_of_the_standard_library_are_there_and_no_others() -> None:
    program = "import collections, hashlib, json, math, random, re, threading\n"
    program += "t = threading.Thread(target=print)\nt.start()\nt.join()"
    assert run_program(program, QUICK).outcome == "passed"
    other = run_program("import numpy", QUICK)
    assert "ModuleNotFoundError" in other.tail
    assert "ModuleNotFoundError" in run_program("import nexa", QUICK).tail
    assert "ModuleNotFoundError" in run_program("import sandboxed", QUICK).tail


def test_what_a_program_says_at_its_end_changes_nothing() -> None:
    program = "import atexit\natexit.register(print, 'bye')\nprint = None"
    assert run_program(program, QUICK).outcome == "passed"


def test_an_endless_loop_is_ended() -> None:
    assert run_program("while True: pass", Limits(wall_s=1)).outcome == "timeout"
    assert run_program("import time\ntime.sleep(60)", Limits(wall_s=1)).outcome == "timeout"
    by_processor_time = run_program("while True: pass", Limits(wall_s=30, cpu_s=1))
    assert by_processor_time.outcome == "failed"


def test_memory_and_files_have_an_end() -> None:
    hog = run_program("x = []\nwhile True: x.append(bytearray(10 ** 7))", QUICK)
    assert (hog.outcome, "MemoryError" in hog.tail) == ("failed", True)
    full = run_program("open('big', 'wb').write(bytes(10 ** 8))", QUICK)
    assert (full.outcome, "File too large" in full.tail) == ("failed", True)
    chatter = run_program("while True: print('x' * 1000)", QUICK)
    assert chatter.outcome == "failed"
    assert len(chatter.tail) <= sandbox.TAIL_BYTES
    assert (
        "Too many open files" in run_program("x = [open('f', 'w') for _ in range(99)]", QUICK).tail
    )


def test_a_program_has_a_folder_of_its_own_that_goes_with_it() -> None:
    program = "import os\nopen('own', 'w').write('x')\nprint(os.getcwd(), os.listdir())"
    ran = run_program(program, QUICK)
    assert ran.outcome == "passed"
    folder, _, listed = ran.tail.partition(" ")
    assert listed == "['own']"
    assert not Path(folder).exists()


def test_the_environment_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "never")
    told = run_program("import os\nprint(dict(os.environ))", QUICK).tail
    assert "SECRET_TOKEN" not in told
    assert "HOME" not in told


@needs_confinement
def test_the_environment_of_the_parent_is_not_there_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "never")
    for program in (
        "print(open(f'/proc/{os.getppid()}/environ').read())",
        "print(open(f'/proc/{os.getppid()}/mem', 'rb'))",
        "print(os.listdir('/proc'))",
    ):
        ran = run_program(f"import os\n{program}", QUICK)
        assert "Permission" in ran.tail
        assert "never" not in ran.tail


@needs_confinement
def test_a_fork_bomb_makes_no_process() -> None:
    bomb = "import os\nn = 0\nwhile n < 50:\n    n += 1\n    "
    for fork in ("os.fork()", "os.posix_spawn('/bin/true', ['true'], {})"):
        ran = run_program(bomb + fork, QUICK)
        assert (ran.outcome, "Operation not permitted" in ran.tail) == ("failed", True)
    spawned = run_program("import subprocess\nsubprocess.Popen(['/bin/true'])", QUICK)
    assert "Operation not permitted" in spawned.tail


@needs_confinement
def test_signals_to_others_are_not_sent() -> None:
    for target in ("os.getppid()", "1", "-1", "0", str(os.getpid())):
        ran = run_program(f"import os\nos.kill({target}, 9)", QUICK)
        assert (ran.outcome, "Operation not permitted" in ran.tail) == ("failed", True)


@needs_confinement
def test_the_network_is_not_there() -> None:
    for family in ("AF_INET", "AF_INET6", "AF_UNIX"):
        ran = run_program(f"import socket\nsocket.socket(socket.{family})", QUICK)
        assert "Operation not permitted" in ran.tail


@needs_confinement
def test_files_elsewhere_are_neither_written_nor_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("never")
    for program in (
        f"open({str(secret)!r}, 'w')",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"print(open({str(secret)!r}).read())",
        f"import os\nos.remove({str(secret)!r})",
        f"import os\nos.symlink({str(secret)!r}, 'link')\nprint(open('link').read())",
        f"import os\nos.link({str(secret)!r}, 'link')",
        f"import os\nprint(os.listdir({str(tmp_path)!r}))",
        "open('../output', 'a')",
        "print(open('/etc/passwd').read())",
        f"open({sys.executable!r}, 'a')",
    ):
        ran = run_program(program, QUICK)
        assert ran.outcome == "failed"
        assert "Error" in ran.tail
        assert "never" not in ran.tail.replace(str(secret), "")
    assert secret.read_text() == "never"
    assert os.listdir(tmp_path) == ["secret"]


@needs_confinement
def test_what_was_given_up_cannot_be_taken_back() -> None:
    program = (
        "import ctypes, resource\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.prctl(22, 0, 0, 0, 0) != 0\n"
        "assert libc.unshare(0x10000000) == -1\n"
        "assert libc.ptrace(0, 0, 0, 0) == -1\n"
        "for name in ('RLIMIT_AS', 'RLIMIT_CPU'):\n"
        "    try:\n"
        "        resource.setrlimit(getattr(resource, name), (1 << 40, 1 << 40))\n"
        "    except (ValueError, OSError):\n"
        "        continue\n"
        "    raise AssertionError(name)"
    )
    ran = run_program(program, QUICK)
    assert ran.outcome == "passed", ran.tail


@needs_confinement
def test_where_nothing_can_be_confined_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "readable_folders", lambda: ["/nowhere"])
    with pytest.raises(EvalError, match="could not be confined here, and was not run"):
        run_program("print('hello')", QUICK)


def test_what_does_not_confine_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append):
        assert tell_isolation() == sandbox._means()
        monkeypatch.setattr(sandbox, "_means", lambda: ("landlock",))
        assert tell_isolation() == ("landlock",)
    notes = [event["text"] for event in heard if event["kind"] == "note"]
    assert notes[-1].endswith("network and processes are open to it")
    assert len(notes) == 2 - CONFINED


def test_python_and_the_systems_libraries_may_be_read() -> None:
    folders = readable_folders()
    assert os.path.dirname(os.__file__) in folders
    assert all(os.path.isdir(folder) for folder in folders)
