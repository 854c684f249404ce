"""An upload killed -9 and run again: complete, verified, nothing sent twice that had arrived.

The Hub stops at a point of the protocol and says so; the uploading process, which is a real one,
is killed there. The slow variant sends a real model: the one in the folder that NEXA_TEST_MODEL
names, else SmolLM2 135M from its wheel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nexa.core.identity import sha256_bytes, sha256_file
from nexa.core.secrets import Secret
from nexa.publish import layout
from nexa.publish.hub_folder import folder_files
from nexa.publish.hub_remote import HubRemote
from tests.support.hub_emulator import HubEmulator
from tests.support.hub_wire import Moment

REPO = "tester/m"
TOKEN = "hf_" + "t" * 34
SLOW_S = 600
StopAt = Callable[[HubEmulator, Path], Moment]


def after_the_first_object(hub: HubEmulator, folder: Path) -> Moment:
    return hub.stop_at("POST", "/lfs/verify")


def in_the_middle_of_an_object(hub: HubEmulator, folder: Path) -> Moment:
    largest = max(folder_files(folder).values(), key=lambda path: path.stat().st_size)
    half = largest.stat().st_size // 2
    return hub.stop_at("PUT", sha256_file(largest), after_bytes=half)


def before_the_commit(hub: HubEmulator, folder: Path) -> Moment:
    return hub.stop_at("POST", "/api/validate-yaml")  # what the client asks between the two


MOMENTS = (after_the_first_object, in_the_middle_of_an_object, before_the_commit)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A publication with two large objects."""
    made = tmp_path / "publication"
    (made / "adapter").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(os.urandom(500_000))
    (made / "adapter" / "adapter_model.safetensors").write_bytes(os.urandom(200_000))
    (made / "README.md").write_text("---\nlicense: mit\n---\nA card\n")
    return sealed(made)


def sealed(folder: Path) -> Path:
    """Lay the two files into a folder by which a publication is known."""
    (folder / "nexa").mkdir()
    (folder / layout.RECORDS).write_bytes(b"{}\n")
    files = folder_files(folder)
    sums = layout.sums_text({name: sha256_file(path) for name, path in files.items()})
    (folder / layout.SUMS).write_bytes(sums)
    (folder / layout.ROOT).write_bytes(layout.root_text(b"{}\n", sums))
    return folder


def publishing(hub: HubEmulator, folder: Path) -> subprocess.Popen[str]:
    """A process that uploads."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.hub_publish", hub.url, REPO, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(f"{TOKEN}\n")
    process.stdin.flush()
    return process


def publish(hub: HubEmulator, folder: Path) -> str:
    """Upload to the end; what the process says."""
    with publishing(hub, folder) as process:
        told, errors = process.communicate(timeout=SLOW_S)
    assert process.returncode == 0, errors
    return told.strip()


def kill_at(moment: Moment, hub: HubEmulator, folder: Path) -> None:
    """Upload until the Hub says that it is there; then kill -9."""
    with publishing(hub, folder) as process:
        try:
            moment.wait(SLOW_S)
        finally:
            process.kill()
    moment.let_go()


def check_kill_and_resume(hub: HubEmulator, folder: Path, back: Path, stop_at: StopAt) -> None:
    """The whole story; every claim of it."""
    hub.add_token(TOKEN)
    remote = HubRemote(hub.url, Secret(TOKEN, "the test"))
    kill_at(stop_at(hub, folder), hub, folder)
    assert remote.fetch(REPO, back) is None  # a torn upload is no publication
    arrived = {oid for oid, sent in hub.uploads().items() if sent[-1].status == 200}
    before = {oid: len(sent) for oid, sent in hub.uploads().items()}

    assert publish(hub, folder) == "changed"
    files = folder_files(folder)
    assert remote.fetch(REPO, back) == back
    for name, path in files.items():
        assert sha256_file(back / name) == sha256_file(path)
    sizes = {sha256_file(path): path.stat().st_size for path in files.values()}
    for oid, sent in hub.uploads().items():
        assert [r.received for r in sent if r.status == 200] == [sizes[oid]]
        assert oid not in arrived or len(sent) == before[oid]
    assert len(hub.repo(REPO).commits) == 2
    assert publish(hub, folder) == "unchanged"


@pytest.mark.parametrize("stop_at", MOMENTS)
def test_an_upload_killed_anywhere_ends_whole_and_sends_nothing_twice(
    hub_emulator: HubEmulator, folder: Path, tmp_path: Path, stop_at: StopAt
) -> None:
    check_kill_and_resume(hub_emulator, folder, tmp_path / "back", stop_at)


def test_a_commit_that_arrived_stands_though_its_sender_died(
    hub_emulator: HubEmulator, folder: Path
) -> None:
    hub_emulator.add_token(TOKEN)
    kill_at(hub_emulator.stop_at("POST", "/commit/"), hub_emulator, folder)
    sent = hub_emulator.uploads()
    assert publish(hub_emulator, folder) in ("changed", "unchanged")
    assert hub_emulator.uploads() == sent
    files = {name: sha256_bytes(data) for name, data in hub_emulator.files(REPO).items()}
    for name, path in folder_files(folder).items():
        assert files[name] == sha256_file(path)


@pytest.fixture
def real_folder(tmp_path: Path) -> Path:
    """A publication of a real model."""
    from nexa.lm.resolve import resolve

    named = os.environ.get("NEXA_TEST_MODEL")
    found = Path(named) if named else resolve("smollm2-135m", source="wheel").folder
    made = tmp_path / "publication"
    shutil.copytree(found, made, ignore=shutil.ignore_patterns(".*", "nexa"))
    (made / "README.md").write_text("---\nlicense: apache-2.0\n---\nA card\n")
    return sealed(made)


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", MOMENTS)
def test_a_real_models_upload_killed_anywhere_ends_whole_and_sends_nothing_twice(
    hub_emulator: HubEmulator, real_folder: Path, tmp_path: Path, stop_at: StopAt
) -> None:
    check_kill_and_resume(hub_emulator, real_folder, tmp_path / "back", stop_at)
