"""Nexa behind a real pseudo-terminal, in a folder of its own, with nothing of the user's around."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pexpect

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 120  # a deadline for a busy machine, no measure
NOT_TAKEN = ("NO_COLOR", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")
STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

# The questions in their order, as far as they need to be recognised.
TOKEN = r"Token \(not shown\): "
MODEL = r"(?:Number, alias|Alias).* or Hub id.*: "
SOURCE = r"differ in weights \[\d\]: "
DATA = r"older or Hub dataset.*: "
NAME = r"Name of the trained model.*: "
METHOD = r"Method \[\d\]: "
MODE = r"Where \[\d\]: "
SHARE = r"Share of the rows to set aside \[.*\]: "
PUBLISH = r"Publish \[\d\]: "
REPO = r"Repository \[.*\]: "
PRIVATE = r"Private .*: "
START = r"Start \[yes\]: "
EXISTING = r"What becomes of it \[\d\]: "


class Screen:
    """A terminal with a program in it: `answer` waits for a question and types."""

    def __init__(
        self,
        folder: Path,
        words: list[str],
        *,
        columns: int = 100,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.child = pexpect.spawn(
            sys.executable,
            words,
            cwd=str(folder),
            env=quiet_environment(folder, environment or {}),
            timeout=TIMEOUT_S,
            encoding="utf-8",
            dimensions=(50, columns),
        )
        self._parts: list[str] = []

    def wait(self, pattern: str) -> str:
        """What is shown up to and with the first match."""
        self.child.expect(pattern)
        shown = f"{self.child.before}{self.child.after}"
        self._parts.append(shown)
        return shown

    def answer(self, question: str, text: str) -> str:
        """Wait for a question and answer it; what was shown until then."""
        shown = self.wait(question)
        self.child.sendline(text)
        return shown

    def end(self) -> int:
        """Wait for the end; the exit code."""
        self.child.expect(pexpect.EOF)
        self._parts.append(self.child.before)
        self.child.close()
        return int(self.child.exitstatus)

    @property
    def raw(self) -> str:
        """Everything that was shown, with what steers the terminal."""
        return "".join(self._parts)

    @property
    def text(self) -> str:
        """Everything that was shown, as plain lines."""
        return STEERING.sub("", self.raw).replace("\r\n", "\n")


def quiet_environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The test's environment, with a home of the test's own beside the folder."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name not in NOT_TAKEN}
    kept |= {"HOME": str(home), "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    return {**kept, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **more}


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below one, hidden ones too, with what is in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
