"""The emulated Hub where no test of Nexa's own goes: other endpoints of the real client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub import errors as hub_errors

from tests.support.hub_emulator import LOCAL_TOKEN, HubEmulator

TOKEN = "hf_" + "t" * 34


@pytest.fixture
def api(hub_emulator: HubEmulator) -> HfApi:
    return HfApi(endpoint=hub_emulator.url, token=hub_emulator.add_token(TOKEN))


def test_what_a_repository_was_and_is_can_be_looked_up(
    api: HfApi, hub_emulator: HubEmulator
) -> None:
    files = {"a/b/c.txt": b"c", "model.safetensors": b"w"}
    first = hub_emulator.add_repo("tester/m", files)
    api.create_tag("tester/m", tag="v1")
    api.create_tag("tester/m", tag="v1", exist_ok=True)
    second = hub_emulator.add_commit("tester/m", {"a/b/d.txt": b"d"})
    refs = api.list_repo_refs("tester/m")
    assert [ref.target_commit for ref in (*refs.branches, *refs.tags)] == [second, first]
    assert [commit.commit_id for commit in api.list_repo_commits("tester/m")][:2] == [second, first]
    assert {entry.path for entry in api.list_repo_tree("tester/m", "a", recursive=True)} == {
        *("a/b", "a/b/c.txt", "a/b/d.txt"),
    }
    tagged = [entry.path for entry in api.list_repo_tree("tester/m", revision="v1")]
    assert tagged == [".gitattributes", "a", "model.safetensors"]
    (info,) = api.get_paths_info("tester/m", ["model.safetensors", "none"])
    assert info.lfs.size == 1  # type: ignore[union-attr]
    with pytest.raises(hub_errors.EntryNotFoundError):
        list(api.list_repo_tree("tester/m", "none"))
    with pytest.raises(hub_errors.RevisionNotFoundError):
        api.model_info("tester/m", revision="v9")


def test_a_repository_goes_with_its_files(api: HfApi, hub_emulator: HubEmulator) -> None:
    hub_emulator.add_repo("tester/m", {"a.txt": b"a"})
    api.create_commit("tester/m", [CommitOperationDelete("a.txt")], commit_message="less")
    with pytest.raises(hub_errors.RemoteEntryNotFoundError):
        api.create_commit("tester/m", [CommitOperationDelete("a.txt")], commit_message="less")
    with pytest.raises(hub_errors.RemoteEntryNotFoundError):
        api.hf_hub_download("tester/m", "a.txt")
    api.delete_repo("tester/m")
    with pytest.raises(hub_errors.RepositoryNotFoundError):
        api.delete_repo("tester/m")


def test_what_a_token_may_not_is_refused(hub_emulator: HubEmulator) -> None:
    hub_emulator.add_repo("tester/m", {"a.txt": b"a"})
    reader = HfApi(endpoint=hub_emulator.url, token=hub_emulator.add_token(TOKEN, role="read"))
    for action in (
        lambda: reader.create_repo("tester/n"),
        lambda: reader.delete_repo("tester/m"),
        lambda: reader.create_tag("tester/m", tag="v1"),
    ):
        with pytest.raises(hub_errors.HfHubHTTPError) as caught:
            action()
        assert caught.value.response.status_code == 403
    nobody = HfApi(endpoint=hub_emulator.url, token=False)
    for action in (
        lambda: nobody.create_repo("tester/n"),
        lambda: nobody.create_tag("tester/m", tag="v1"),
    ):
        with pytest.raises(hub_errors.HfHubHTTPError) as caught:
            action()
        assert caught.value.response.status_code == 401


def test_a_piece_of_a_file_can_be_had(api: HfApi, hub_emulator: HubEmulator) -> None:
    from huggingface_hub.utils import get_session

    commit = hub_emulator.add_repo("tester/m", {"a.txt": b"0123456789"})
    address = f"{hub_emulator.url}/tester/m/resolve/main/a.txt"
    piece = get_session().get(address, headers={"Range": "bytes=2-4"})
    assert (piece.status_code, piece.content) == (206, b"234")
    assert piece.headers["X-Repo-Commit"] == commit
    assert get_session().get(address, headers={"Range": "bytes=10-"}).status_code == 416


def break_it() -> None:
    with HubEmulator() as hub:
        hub.add_repo("tester/m", {"a.safetensors": b"a"})
        next(path for path in hub.folder.iterdir()).unlink()
        with pytest.raises(hub_errors.HTTPError):  # type: ignore[attr-defined]
            HfApi(endpoint=hub.url, token=False).hf_hub_download("tester/m", "a.safetensors")


def test_a_fault_of_the_emulator_itself_fails_the_test(
    hub_emulator: HubEmulator,
) -> None:
    with pytest.raises(AssertionError, match="the emulator itself failed"):
        break_it()


def test_it_stands_alone_as_a_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.hub_emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            api = HfApi(endpoint=url, token=LOCAL_TOKEN)
            api.create_repo("tester/m")
            there = snapshot_download("tester/m", endpoint=url, token=False, local_dir=tmp_path)
            assert (Path(there) / ".gitattributes").is_file()
        finally:
            process.terminate()
