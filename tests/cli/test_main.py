from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import subprocess
import sys
import threading
from typing import Any

import pytest

from nexa import __version__
from nexa.cli import main as shell
from nexa.cli.lazy import LazyGroup
from nexa.cli.main import COLLECT_AFTER, INTERRUPTED, UNEXPECTED, leave, main, run
from nexa.core.errors import UsageError


@pytest.fixture(autouse=True)
def _sample_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell under test, over commands that end in every way."""
    table = {
        "Samples": {
            "finish": ("tests.cli.sample:finish", "End in a chosen way."),
            "group": ("tests.cli.sample:group", "A group of samples."),
        }
    }
    monkeypatch.setattr(shell, "app", LazyGroup("nexa", table, help="Samples."))
    monkeypatch.delenv("NEXA_DEBUG", raising=False)


def test_a_good_end_is_0_with_the_result_on_stdout_and_the_rest_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["finish", "well"]) == 0
    out, err = capsys.readouterr()
    assert out == "ended well\n"
    assert "counting: 2 rows in" in err
    assert "note: a note" in err
    assert "hidden" not in err


def test_quiet_leaves_only_the_result_and_verbose_tells_every_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["finish", "well", "-q"])
    assert capsys.readouterr() == ("ended well\n", "")
    main(["finish", "well", "-v"])
    assert "other.kind  detail=hidden" in capsys.readouterr().err


def test_json_is_one_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    main(["finish", "well", "--json"])
    assert json.loads(capsys.readouterr().out) == {"end": "well"}


def test_an_error_is_three_lines_on_stderr_and_the_exit_code_of_its_class(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["finish", "data"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "row \\x1b[31m7 is bad\n  found  no target\n  try    mend it\n"


def test_an_error_that_is_an_oserror_too_keeps_its_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["finish", "storage"]) == 11
    assert capsys.readouterr().err == "cannot write out\n  found  0 GB free\n"


def test_with_json_an_error_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finish", "data", "--json"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "DataError"
    assert error["exit_code"] == 4
    assert error["found"] == "no target"
    assert error["fix"] == "mend it"


def test_a_json_flag_behind_a_double_dash_is_an_argument(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["finish", "--", "--json"]) == 0
    assert capsys.readouterr().out == "ended --json\n"


def test_debug_shows_the_traceback_of_a_known_error_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEXA_DEBUG", "1")
    assert main(["finish", "data"]) == 4
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["finish"], ["finish", "a", "b"], ["finish", "a", "--bad"]])
def test_a_wrong_call_is_2_and_points_to_the_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert "try    nexa finish --help" in capsys.readouterr().err


def test_a_mistyped_command_is_2_and_names_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["finsh"]) == 2
    assert capsys.readouterr().err == "there is no command 'nexa finsh'\n  try    nexa finish\n"
    assert main(["group", "finsh"]) == 2
    assert "try    nexa group finish" in capsys.readouterr().err


def test_a_mistake_of_nexas_own_is_short_and_says_how_to_see_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["finish", "mistake"]) == UNEXPECTED
    err = capsys.readouterr().err
    assert err.startswith("nexa failed unexpectedly: ZeroDivisionError: [redacted]\n")
    assert "try    the same command with -v" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("flag", ["-v", "--verbose", "-vq"])
def test_verbose_shows_the_traceback_of_a_mistake_without_its_secrets(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["finish", "mistake", flag]) == UNEXPECTED
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "hf_a" not in err


def test_ctrl_c_is_130_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finish", "stop"]) == INTERRUPTED
    assert capsys.readouterr().err.strip() == "stopped; what was finished is kept"


def test_a_command_may_choose_its_exit_code() -> None:
    assert main(["finish", "exit"]) == 3


def test_a_reader_that_has_gone_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["finish", "pipe"])
    assert caught.value.code == 1
    assert capsys.readouterr().err == ""


def test_a_reader_that_goes_early_leaves_no_complaint() -> None:
    script = f"{sys.executable} -m nexa --help | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_reader_that_goes_before_the_last_flush_is_no_error_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    assert main(["finish", "exit"]) == 3


def test_a_closed_stdout_is_flushed_quietly() -> None:
    code = (
        "import os, sys\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "from nexa.cli.main import main\n"
        "sys.exit(main(['--help']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nexa", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == UsageError.exit_code
    assert "there is no command 'nexa nonsense'" in done.stderr


def test_the_process_ends_with_the_exit_code_of_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: list[int] = []
    monkeypatch.setattr(sys, "argv", ["nexa", "finish", "exit"])
    monkeypatch.setattr(shell, "leave", lambda code, end: end(code))
    before = gc.get_threshold()
    try:
        run(ends.append)
        assert gc.get_threshold() == COLLECT_AFTER
    finally:
        gc.set_threshold(*before)
    assert ends == [3]


ENDING = """
import atexit, sys, threading, time, weakref
from nexa.cli.main import leave

class Held: ...
held = Held()
weakref.finalize(held, print, "finalizer")
atexit.register(print, "atexit")
thread = threading.Thread(target=lambda: (time.sleep(0.1), print("thread")))
thread.start()
print("error", file=sys.stderr)
"""


def test_the_end_waits_for_threads_and_calls_what_was_registered_for_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{ENDING}leave(5)"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (5, "error\n")
    assert done.stdout.splitlines() == ["thread", "atexit", "finalizer"]


class Gone(io.StringIO):
    def flush(self) -> None:
        raise BrokenPipeError(32, "broken pipe")


@pytest.mark.parametrize(("stdout", "exits"), [(None, []), (io.StringIO(), []), (Gone(), [6])])
def test_the_end_pushes_out_what_was_printed_or_leaves_the_complaint_to_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, stdout: io.StringIO | None, exits: list[int]
) -> None:
    # pytest itself goes on after this end.
    monkeypatch.setattr(threading, "_shutdown", lambda: None)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: None)
    monkeypatch.setattr(sys, "stdout", stdout)
    ends: list[int] = []
    left: list[Any] = []
    try:
        leave(6, ends.append)
    except SystemExit as error:
        left.append(error.code)
    assert (ends, left) == ([] if exits else [6], exits)


def test_the_version_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nexa", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"nexa, version {__version__}\n"


def test_without_words_the_command_line_itself_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nexa", "finish", "well"])
    assert main() == 0
    assert capsys.readouterr().out == "ended well\n"


def test_the_module_has_the_same_entry() -> None:
    assert importlib.import_module("nexa.__main__").run is run
