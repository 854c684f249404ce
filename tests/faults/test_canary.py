"""A token made for this test goes everywhere a token goes, and is then looked for everywhere else.

Through login, training, publishing to a Hub that is emulated, a crash that shouts it and two
kill -9, each in a process of its own, while somebody reads what /proc tells of every process.
"""

from __future__ import annotations

import base64
import os
import random
import signal
import string
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest

from nexa.core.errors import AccessError
from nexa.core.secrets import MASK
from tests.session.processes import end, running_pid, short_folder
from tests.support.hub_emulator import HubEmulator
from tests.support.project import write_project
from tests.support.tiny import write_tiny_model

REPO = "ada/elements"


def new_token() -> str:
    """A token of the Hub's form that was never written down."""
    return "hf_" + "".join(random.choices(string.ascii_letters, k=34))


@dataclass
class World:
    """A machine's user: a home, a project, caches, and what their processes said."""

    root: Path
    runtime: Path
    hub: HubEmulator
    canary: str
    said: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def environment(self) -> dict[str, str]:
        """What the user's shell gives its children: no token."""
        places = {
            "HOME": "home",
            "TMPDIR": "tmp",
            "XDG_CACHE_HOME": "home/.cache",
            "NEXA_CACHE": "cache",
            "HF_HOME": "hf",
        }
        for name in places.values():
            (self.root / name).mkdir(parents=True, exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            "NEXA_RUNTIME": str(self.runtime),
            "HF_ENDPOINT": self.hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **{name: str(self.root / place) for name, place in places.items()},
        }

    def run(self, name: str, *words: str, typed: str = "", **environment: str) -> None:
        """One process of Nexa; what it says is kept as a user's shell would keep it: in a file."""
        log = self.root / f"{name}.log"
        with log.open("w") as file:
            done = subprocess.run(
                [sys.executable, "-m", *words],
                cwd=self.project,
                env={**self.environment, **environment},
                input=typed,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.said[name], self.codes[name] = log.read_text(), done.returncode

    def files_with_canary(self) -> list[str]:
        """Every file of the world that holds the token, plainly or in base64."""
        needles = [self.canary.encode(), self.canary[::-1].encode()]
        for shift in range(3):
            # The first and last letters of base64 depend on what stands around.
            needles.append(base64.b64encode(b"x" * shift + self.canary.encode())[4:44])
        return [
            str(path)
            for folder in (self.root, self.runtime, self.hub.folder)
            for path in folder.rglob("*")
            if path.is_file() and any(needle in path.read_bytes() for needle in needles)
        ]


@dataclass
class Watch:
    """Reads the command line and the environment of every process, over and over."""

    needle: bytes
    seen: set[str] = field(default_factory=set)
    hits: set[str] = field(default_factory=set)
    done: Event = field(default_factory=Event)

    def __call__(self) -> None:
        while not self.done.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    self._read(process / name)

    def _read(self, path: Path) -> None:
        try:
            text = path.read_bytes()
        except OSError:  # it has ended, or is another user's
            return
        if self.needle in text:
            self.hits.add(f"{path}: {text[:200]!r}")
        if path.name == "cmdline":
            self.seen.update(word for word in text.decode(errors="replace").split("\0") if word)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Watch]]:
    """The whole story, told once."""
    root = tmp_path_factory.mktemp("canary")
    with short_folder() as runtime, HubEmulator() as hub:
        world = World(root, runtime, hub, new_token())
        hub.add_token(world.canary, name="ada")
        write_project(world.project, write_tiny_model(root / "tiny-llama"))
        watch = Watch(world.canary.encode())
        thread = Thread(target=watch)
        thread.start()
        try:
            tell(world)
            yield world, watch
        finally:
            watch.done.set()
            thread.join()


def tell(world: World) -> None:
    """What the user does."""
    world.run("login", "nexa", "login", typed=world.canary + "\n")
    world.run("train", "nexa", "train", "-v")
    world.run("publish", "nexa", "publish", "--repo", REPO, "--allow", "no evidence", "-v")
    log = str(world.project / "runs" / "logs" / "crash.jsonl")
    world.run("crash", "tests.faults.crashing", log)
    world.run("debug", "tests.faults.crashing", log, NEXA_DEBUG="1")
    world.run("killed", "tests.faults.crashing", log, "--kill")
    end(running_pid(world.runtime), signal.SIGKILL)
    world.run("status", "nexa", "session", "status")


def test_every_step_of_the_story_was_taken(world: tuple[World, Watch]) -> None:
    told, _ = world
    assert told.codes == {
        "login": 0,
        "train": 0,
        "publish": 0,
        "crash": 70,
        "debug": 70,
        "killed": -signal.SIGKILL,
        "status": 0,
    }, told.said
    assert "ada" in told.said["login"]
    assert f"{told.canary[:5]}...{told.canary[-4:]}" in told.said["login"]
    assert "No session runs" in told.said["status"]
    assert "README.md" in told.hub.files(REPO)


def test_no_file_anywhere_holds_the_token(world: tuple[World, Watch]) -> None:
    told, _ = world
    assert told.files_with_canary() == []
    assert not [name for name, data in told.hub.files(REPO).items() if told.canary.encode() in data]


def test_the_search_would_find_it(world: tuple[World, Watch]) -> None:
    told, _ = world
    for text in (told.canary, base64.b64encode(f"user:{told.canary}".encode()).decode()):
        planted = told.root / "home" / "planted"
        planted.write_text(f"token={text}\n")
        assert told.files_with_canary() == [str(planted)]
        planted.unlink()


def test_no_command_line_and_no_environment_ever_held_it(world: tuple[World, Watch]) -> None:
    _, watch = world
    assert watch.hits == set()
    # It did look at the processes that had the token.
    assert {"nexa.session", "nexa", "publish", "tests.faults.crashing"} <= watch.seen


def test_a_crash_that_shouts_it_shows_a_mask_in_every_place(world: tuple[World, Watch]) -> None:
    told, _ = world
    for name in ("crash", "debug"):
        for word in ("note:", "said", "printed", "warned", "logged", "Bearer"):
            assert f"{word} {MASK}" in told.said[name].replace("note: note", "note:"), word
        assert "KeyError" in told.said[name]  # the thread's traceback
    assert "Traceback (most recent call last)" in told.said["debug"]
    log = (told.project / "runs" / "logs" / "crash.jsonl").read_text()
    assert log.count(MASK) == 9  # three of each of three processes


# -- tokens that may not ---------------------------------------------------------------------


def test_each_kind_of_bad_token_gets_a_line_of_its_own(world: tuple[World, Watch]) -> None:
    told, watch = world
    tokens = {"expired": new_token(), "revoked": new_token(), "readonly": new_token()}
    told.hub.add_token(tokens["expired"], state="expired")
    told.hub.add_token(tokens["revoked"], state="revoked")
    told.hub.add_token(tokens["readonly"], name="ada", role="read")
    lines = {}
    for name, token in {**tokens, "wrong": "not-a-hub-token"}.items():
        told.run(name, "nexa", "login", typed=token)
        if name == "readonly":
            assert told.codes[name] == 0
            told.run(name, "nexa", "publish", "--repo", REPO, "--allow", "no evidence")
        assert told.codes[name] == AccessError.exit_code, told.said[name]
        assert token not in told.said[name]
        lines[name] = next(line for line in told.said[name].splitlines() if "oken" in line)
    assert "expired" in lines["expired"]
    assert "revoked" in lines["revoked"]
    assert "read-only" in lines["readonly"]
    assert "begin with hf_" in lines["wrong"]
    assert len(set(lines.values())) == 4
    assert watch.hits == set()
