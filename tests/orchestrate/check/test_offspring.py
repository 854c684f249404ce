"""The child process: asked, killed, starved, orphaned; never left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from nexa.core.errors import CapacityError, ConfigError, NexaError
from nexa.orchestrate.check import rows
from nexa.orchestrate.check.offspring import Offspring, what_fits
from tests.orchestrate.check.made import flight

DEADLINE_S = 60
PARENT = """
import sys, time
from pathlib import Path
from nexa.orchestrate.check.offspring import Offspring
with Offspring(Path("config.yaml"), Path(sys.argv[1])) as child:
    print(child._process.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def gone(pid: int) -> bool:
    """Whether a process has ended; polled, with a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False


def test_a_child_that_the_system_killed_was_out_of_memory(scratch: Path) -> None:
    with Offspring(Path("config.yaml"), scratch) as child:
        child._process.send_signal(signal.SIGKILL)
        child._process.wait(DEADLINE_S)
        with pytest.raises(CapacityError, match="does not hold") as caught:
            child.memory({}, {})
    assert "ended by signal 9" in str(caught.value.found)
    assert "a smaller model" in str(caught.value.fix)


def test_a_child_that_may_take_little_memory_says_so_itself(
    tmp_path: Path, tiny_llama: Path
) -> None:
    made = flight(tmp_path, tiny_llama)
    rows.dataset(made)
    facts: dict[str, Any] = {}
    with (
        Offspring(
            tmp_path / "config.yaml", made.tiers.new_scratch("check"), lambda: -50_000_000
        ) as child,
        pytest.raises(CapacityError) as caught,
    ):
        child.memory(made.records, facts)
    assert "GB are free for it" in str(caught.value.found)


def test_what_the_child_finds_is_raised_as_what_it_is(tmp_path: Path, scratch: Path) -> None:
    with (
        Offspring(tmp_path / "config.yaml", scratch) as child,
        pytest.raises(ConfigError, match=r"there is no .*config\.yaml"),
    ):
        child.memory({}, {})


@pytest.mark.parametrize(
    ("complaint", "found"),
    [
        ("Traceback:\n one\n two\nKeyError: 'x'\n", "one\n two\nKeyError: 'x'"),
        ("", f"exit code {-signal.SIGTERM}"),
    ],
)
def test_a_child_that_ends_in_another_way_is_told_by_its_last_words(
    scratch: Path, complaint: str, found: str
) -> None:
    with Offspring(Path("config.yaml"), scratch) as child:
        child._process.send_signal(signal.SIGTERM)
        child._process.wait(DEADLINE_S)
        (scratch / "stderr").write_text(complaint)
        with pytest.raises(NexaError, match="ended without an answer") as caught:
            child.answer("merge")
    assert caught.value.found is not None
    assert caught.value.found.endswith(found)


def test_a_child_that_never_answers_is_not_waited_for(scratch: Path) -> None:
    with Offspring(Path("config.yaml"), scratch) as child:
        child.answer_wait_s = 0.01  # it has not even imported its libraries
        with pytest.raises(NexaError, match="gave no answer"):
            child.answer("memory")


def test_a_child_ends_with_a_parent_that_is_killed(scratch: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(scratch)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert gone(pid)
    assert not scratch.exists()


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (3_000_000_000, "training.micro_tokens: 1600 "),
        (1_400_000_000, "data.max_length: 320 and training.micro_tokens: 320"),
        (1_000_000_000, "a smaller model"),
    ],
)
def test_what_would_fit_follows_from_what_the_small_pass_took(limit: int, says: str) -> None:
    facts = {"held_bytes": 1_000_000_000, "bytes_a_token": 1e6, "longest_row_tokens": 500}
    assert says in what_fits(facts, limit)
    assert "a smaller model" in what_fits({}, limit)
