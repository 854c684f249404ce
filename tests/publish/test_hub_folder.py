from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import GateError, StorageError, UsageError
from nexa.core.events import Event, listening
from nexa.publish.hub import Placed
from nexa.publish.hub_folder import HubFolder, folder_files

ROOT = {"nexa/ROOT": b"root"}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in folder_files(folder).items()}


def test_a_repository_holds_exactly_what_was_published(tmp_path: Path) -> None:
    hub = HubFolder(tmp_path / "hub")
    source = tmp_path / "weights"
    source.write_bytes(b"weights")

    first = hub.publish("me/it", {**ROOT, "a": source, "old": b"gone soon"})
    second = hub.publish("me/it", {**ROOT, "a": source, "b/c": b"new"})

    assert first.changed
    assert second.changed
    assert contents(Path(second.location)) == {**ROOT, "a": b"weights", "b/c": b"new"}
    assert sorted(p.name for p in Path(second.location).parent.iterdir()) == [".it.lock", "it"]


def test_the_same_content_again_changes_nothing(tmp_path: Path) -> None:
    hub = HubFolder(tmp_path)
    location = Path(hub.publish("me/it", {**ROOT, "a": b"1"}).location)
    inode = location.stat().st_ino

    assert hub.publish("me/it", {**ROOT, "a": b"1"}) == Placed(str(location), changed=False)
    assert location.stat().st_ino == inode


def test_editing_a_published_file_never_reaches_its_source(tmp_path: Path) -> None:
    source = tmp_path / "blob"
    source.write_bytes(b"sealed")
    location = Path(HubFolder(tmp_path / "hub").publish("me/it", {**ROOT, "a": source}).location)

    (location / "a").write_bytes(b"edited")

    assert source.read_bytes() == b"sealed"


def test_a_failure_leaves_the_previous_publication_untouched(tmp_path: Path) -> None:
    hub = HubFolder(tmp_path)
    location = Path(hub.publish("me/it", {**ROOT, "a": b"1"}).location)
    impossible = {**ROOT, "a": b"2", "a/b": b"a file below a file"}

    with pytest.raises(StorageError, match="cannot write"):
        hub.publish("me/it", impossible)

    assert contents(location) == {**ROOT, "a": b"1"}
    assert sorted(p.name for p in location.parent.iterdir()) == [".it.lock", "it"]


def test_after_a_kill_between_the_two_renames_the_previous_one_comes_back(tmp_path: Path) -> None:
    hub = HubFolder(tmp_path)
    location = Path(hub.publish("me/it", {**ROOT, "a": b"1"}).location)
    location.rename(location.with_name(".it.previous"))
    (location.with_name(".it.new")).mkdir()

    assert not hub.publish("me/it", {**ROOT, "a": b"1"}).changed
    assert contents(location) == {**ROOT, "a": b"1"}


def test_after_a_kill_behind_the_second_rename_the_new_one_stays(tmp_path: Path) -> None:
    hub = HubFolder(tmp_path)
    location = Path(hub.publish("me/it", {**ROOT, "a": b"2"}).location)
    previous = location.with_name(".it.previous")
    previous.mkdir()
    (previous / "a").write_bytes(b"1")

    assert not hub.publish("me/it", {**ROOT, "a": b"2"}).changed
    assert not previous.exists()


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    hub = HubFolder(tmp_path)
    (tmp_path / "me" / "it").mkdir(parents=True)
    (tmp_path / "me" / "it" / "thesis.tex").write_text("years of work")

    with pytest.raises(GateError, match=r"thesis\.tex"):
        hub.publish("me/it", ROOT)

    assert (tmp_path / "me" / "it" / "thesis.tex").exists()


def test_a_file_or_a_link_in_the_place_of_a_repository_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "file").write_text("")
    (tmp_path / "me" / "link").symlink_to(tmp_path)

    for repo in ("me/file", "me/link"):
        with pytest.raises(GateError, match="is not a folder"):
            HubFolder(tmp_path).publish(repo, ROOT)


def test_a_link_among_published_files_is_made_a_file_again(tmp_path: Path) -> None:
    hub = HubFolder(tmp_path)
    location = Path(hub.publish("me/it", {**ROOT, "a": b"1"}).location)
    (location / "a").rename(tmp_path / "moved")
    (location / "a").symlink_to(tmp_path / "moved")

    assert hub.publish("me/it", {**ROOT, "a": b"1"}).changed
    assert not (location / "a").is_symlink()


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexa.core.store.free_bytes", lambda path: 0)

    with pytest.raises(StorageError, match="not enough disk space for the publication"):
        HubFolder(tmp_path).publish("me/it", ROOT)


def test_a_name_that_is_no_owner_and_name_is_refused(tmp_path: Path) -> None:
    for repo in ("elements", "../passwd", "me/..", "me/a/b", "-me/x", "me/a..b"):
        with pytest.raises(UsageError, match="not a repository's name"):
            HubFolder(tmp_path).publish(repo, ROOT)


def test_a_hub_below_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("")

    with pytest.raises(StorageError, match="cannot write"):
        HubFolder(tmp_path / "hub").publish("me/it", ROOT)


def test_a_folder_has_no_private_repositories_and_says_so(tmp_path: Path) -> None:
    heard: list[Event] = []
    with listening(heard.append):
        HubFolder(tmp_path).publish("me/it", {**ROOT, "a": b"1"}, private=True)
    assert "no private repositories" in heard[0]["text"]


def test_a_repository_is_fetched_where_it_lies(tmp_path: Path) -> None:
    hub = HubFolder(tmp_path)
    assert hub.fetch("me/it", tmp_path / "elsewhere") is None
    location = hub.publish("me/it", {**ROOT, "a": b"1"}).location
    assert hub.location("me/it") == location
    assert hub.fetch("me/it", tmp_path / "elsewhere") == Path(location)
    assert not (tmp_path / "elsewhere").exists()
