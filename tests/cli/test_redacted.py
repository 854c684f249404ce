"""Whatever a process prints, whoever prints it: the redactor stands before both streams."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from nexa.cli.redacted import RedactedStream, redact_streams
from nexa.core.secrets import MASK

TOKEN = "hf_" + "strea" * 7
# Everything that is not nexa's own and writes to the terminal all the same.
NOISY = """
import logging, sys, threading, traceback, warnings
from nexa.cli.main import main
assert main(["--version"]) == 0
token = "hf_" + "strea" * 7
print("printed", token)
sys.stdout.writelines(["lines ", token, chr(10)])
logging.getLogger("third.party").warning("logged %s", token)
logging.getLogger("third.party").addHandler(logging.StreamHandler())
logging.getLogger("third.party").error("handled", exc_info=ValueError(token))
warnings.warn(f"warned {token}")
thread = threading.Thread(target=lambda: 1 / len(token[:0]), name=f"in {token}")
thread.start(), thread.join()
class Dying:
    def __del__(self):
        raise RuntimeError(f"dying {token}")
Dying()
from tqdm import tqdm
list(tqdm([1], desc=f"bar {token}"))
raise SystemError(f"raised {token}")
"""


def test_no_print_warning_record_bar_or_traceback_of_anyone_shows_a_secret() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True)
    shown = done.stdout + done.stderr
    assert TOKEN not in shown
    for word in ("printed", "lines", "logged", "handled", "warned", "in", "dying", "bar"):
        assert f"{word} {MASK}" in shown or f"{word}\n" in shown, word
    assert f"SystemError: raised {MASK}" in shown
    assert done.returncode == 1


def test_all_but_writing_is_the_streams_own() -> None:
    under = io.StringIO()
    stream = RedactedStream(under)
    assert stream.write(f"a {TOKEN}") == len(f"a {TOKEN}")
    stream.writelines(["b", "c"])
    assert under.getvalue() == f"a {MASK}bc"
    assert not stream.isatty()
    assert stream.encoding is under.encoding


def test_it_is_put_there_once_and_needs_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    under = io.StringIO()
    monkeypatch.setattr(sys, "stdout", under)
    monkeypatch.setattr(sys, "stderr", None)  # a process whose error stream is closed
    redact_streams()
    redact_streams()
    print("once", TOKEN)
    assert under.getvalue() == f"once {MASK}\n"
    assert sys.stderr is None
