"""What the doctor says of machines, libraries, disks, credentials and Hubs, good and bad."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from nexa.core import hardware, session_socket
from nexa.core.hardware import Limits, Machine
from nexa.core.secrets import Secret
from nexa.core.tiers import Tiers
from nexa.orchestrate.start import doctor
from nexa.orchestrate.start.doctor import Line
from nexa.session import clear, login, logout
from tests.support.hub_emulator import LOCAL_TOKEN, HubEmulator

HERE = Machine("cpu", 2, 24_000_000_000, (), bf16=True, system="Linux x86_64")


def states(lines: Iterable[Line]) -> dict[str, str]:
    return {line.name: line.state for line in lines}


def named(lines: Iterable[Line], name: str) -> Line:
    return next(line for line in lines if line.name == name)


def test_everything_is_looked_at_and_nothing_is_changed(tmp_path: Path) -> None:
    found = doctor.examine(tmp_path)
    sections = list(dict.fromkeys(line.section for line in found.lines))
    assert sections == [
        *("machine", "software", "storage", "caches", "extras", "credentials", "session")
    ]
    assert found.broken == []
    assert json.loads(json.dumps(found.to_json()))["broken"] == 0
    assert list(tmp_path.iterdir()) == []


# -- the machine ---------------------------------------------------------------------------------


def test_a_good_machine_is_told_plainly() -> None:
    assert set(states(doctor.machine(HERE)).values()) == {"ok"}


def test_what_makes_a_machine_slow_or_small_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "container_limits", lambda: Limits(2_000_000_000, 0, 1.5))
    small = replace(HERE, memory_bytes=2_000_000_000, bf16=False, gpus=("A100",))
    lines = list(doctor.machine(small))
    assert states(lines) == {
        "processor": "ok",
        "memory": "note",
        "bfloat16": "note",
        "GPU": "note",
    }
    assert named(lines, "processor").value.endswith(", the container allows 1.5")
    assert "2.0 GB, the container's limit" in named(lines, "memory").value
    assert hardware.this_machine().cores >= 1


# -- libraries -----------------------------------------------------------------------------------


def test_a_missing_or_an_old_library_is_broken_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = list(
        doctor.software(["no-such-library>=2", "click>=99", 'pytest>=1; extra == "test"', "click"])
    )
    assert named(lines, "no-such-library").fix == "pip install 'no-such-library>=2'"
    assert named(lines, "click").value.endswith(", >=99 is needed")
    assert "pytest" not in states(lines)
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (99, 0))
    assert named(doctor.software([]), "python").fix == "Python 99.0 or later"


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        ({"huggingface-hub": "2.4.0", "click": "8.1.7"}, "needs click 8.4.2"),
        ({"transformers": "5.23.0", "huggingface-hub": "0.36.0"}, "needs huggingface-hub 1"),
        ({"transformers": "5.23.0", "huggingface-hub": "2.4.0", "click": "8.5.1"}, None),
        ({}, None),
    ],
)
def test_versions_that_do_not_go_together_are_named(
    versions: dict[str, str], says: str | None
) -> None:
    lines = list(doctor.clashes(doctor.CLASHES, versions.get))
    assert [says in line.value for line in lines if says] == ([True] if says else [])
    assert all(line.state == "broken" and line.fix for line in lines)


def test_an_extra_that_is_missing_comes_with_its_install_line() -> None:
    needs = ['no-such-library; extra == "test"', 'click; extra == "dev"', "rich"]
    lines = list(doctor.extras(needs))
    assert named(lines, "test").value == "missing: no-such-library"
    assert str(named(lines, "test").fix).startswith("pip install 'nexa-compute[test]'")
    assert named(lines, "dev").value == "installed (1 packages)"


# -- storage -------------------------------------------------------------------------------------


def test_each_tier_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    lines = list(doctor.storage(Tiers.of(tmp_path)))
    assert list(states(lines)) == ["scratch", "store", "ledger", "durable"]
    assert list(tmp_path.iterdir()) == []


def test_a_tier_that_cannot_be_written_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)  # root may write anywhere
    lines = list(doctor.storage(Tiers.of(tmp_path)))
    assert set(states(lines).values()) == {"broken"}
    assert "Permission denied" in lines[0].value


@pytest.mark.parametrize(("free", "state"), [(1 << 20, "broken"), (10**9, "note"), (10**10, "ok")])
def test_little_room_is_told_before_it_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    monkeypatch.setattr(doctor, "free_bytes", lambda _: free)
    assert set(states(doctor.storage(Tiers.of(tmp_path))).values()) == {state}


def test_durable_storage_elsewhere_needs_an_address_that_is_known(tmp_path: Path) -> None:
    known = Tiers.of(tmp_path, {"NEXA_DURABLE": "memory://x"})
    assert named(doctor.storage(known), "durable").state == "ok"
    unknown = Tiers.of(tmp_path, {"NEXA_DURABLE": "nowhere://x"})
    assert named(doctor.storage(unknown), "durable").state == "broken"


def test_a_cache_is_measured_by_its_files_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "one").write_bytes(b"x" * 10)
    os.link(folder / "one", folder / "again")
    (folder / "gone").symlink_to("nowhere")
    assert doctor.size_of(folder) == 10 + len("nowhere")
    assert doctor.hub_cache({"HF_HUB_CACHE": str(folder)}) == folder
    assert doctor.hub_cache({"HF_HOME": str(tmp_path)}) == folder
    assert doctor.hub_cache({"XDG_CACHE_HOME": "/c"}) == Path("/c/huggingface/hub")
    lines = list(doctor.caches(Tiers.of(tmp_path), {"HF_HUB_CACHE": str(folder)}))
    assert named(lines, "the Hub's").value == f"{folder}, 0.00 GB"
    assert named(lines, "this project").value.endswith(", empty")

    def vanished(_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(doctor.os, "lstat", vanished)  # a file that goes while it is looked at
    assert doctor.size_of(folder) == 0


# -- credentials, session, the Hub ---------------------------------------------------------------


def test_a_token_is_told_by_its_source_alone(tmp_path: Path) -> None:
    [none] = doctor.credentials({"HF_HOME": str(tmp_path)})
    assert none.value == "none; local work needs none"
    [found] = doctor.credentials({"HF_TOKEN": LOCAL_TOKEN})
    assert (found.value, found.state) == ("from the environment (HF_TOKEN)", "ok")
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    [broken] = doctor.credentials({"HF_HOME": str(tmp_path)})
    assert (broken.state, bool(broken.fix)) == ("broken", True)


def test_the_session_is_told_by_what_it_holds() -> None:
    [before] = doctor.session()
    assert before.value == "not running; nexa login starts it"
    login(Secret(LOCAL_TOKEN, "a test"), validate=False)
    try:
        [holding] = doctor.session()
        assert holding.value == "holds a token for 8.0 hours more"
        clear()
        [empty] = doctor.session()
        assert empty.value == "running, without a token"
    finally:
        logout()


def test_a_session_that_talks_nonsense_is_broken() -> None:
    path = session_socket.socket_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"nonsense\r\n\r\n")

        thread = Thread(target=answer)
        thread.start()
        [line] = doctor.session()
        thread.join()
    assert (line.state, line.section) == ("broken", "session")


def test_the_hub_is_asked_only_when_it_is_wanted(tmp_path: Path, hub_emulator: HubEmulator) -> None:
    doctor.examine(tmp_path)
    assert hub_emulator.requests == []
    hub_emulator.add_token(LOCAL_TOKEN)
    network = {"HF_ENDPOINT": hub_emulator.url, "HF_HOME": str(tmp_path)}
    for status in (503, None):  # a refusal is an answer, too
        if status:
            hub_emulator.plan_fault("GET", "/api/models", status, 1)
        [anonymous] = doctor.hub(network)
        assert (anonymous.state, anonymous.value) == ("ok", "answers")
    [known] = doctor.hub({**network, "HF_TOKEN": LOCAL_TOKEN})
    assert known.value == "knows the token of tester (write)"
    [unknown] = doctor.hub({**network, "HF_TOKEN": "hf_" + "other" * 6})
    assert (unknown.state, bool(unknown.fix)) == ("broken", True)


def test_a_hub_out_of_reach_is_broken_with_its_way_out(tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    found = doctor.examine(tmp_path, network=True, environment={**os.environ, **environment})
    assert [line.section for line in found.broken] == ["network"]
    assert "HF_ENDPOINT" in str(found.broken[0].fix)
