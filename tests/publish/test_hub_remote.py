from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import (
    AccessError,
    GateError,
    IntegrityError,
    NetworkError,
    StorageError,
    UsageError,
)
from nexa.core.identity import sha256_bytes
from nexa.core.secrets import Secret
from nexa.lm.hub_retry import Patience
from nexa.publish import layout
from nexa.publish.hub_remote import KEPT, HubRemote
from tests.publish.remote import ADAPTER, CARD, REPO, TOKEN, WEIGHTS, Files, notes, publication
from tests.support.hub_emulator import HubEmulator


def as_token(remote: HubRemote, value: str) -> HubRemote:
    return HubRemote(remote.endpoint, Secret(value, "the test"), remote.patience)


# -- to and fro ------------------------------------------------------------------------------


def test_a_publication_is_one_commit_and_comes_back_as_it_was(
    remote: HubRemote, hub_emulator: HubEmulator, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(WEIGHTS)
    files = publication() | {"model.safetensors": weights}
    told = notes(lambda: remote.publish(REPO, files, private=True))
    assert told == [f"made the private repository {hub_emulator.url}/{REPO}"]
    repo = hub_emulator.repo(REPO)
    assert repo.private
    assert [commit.title for commit in repo.commits] == ["initial commit", "Publish with nexa"]
    folder = remote.fetch(REPO, tmp_path / "back")
    assert folder == tmp_path / "back"
    for name, data in publication().items():
        assert (folder / name).read_bytes() == data
    assert (folder / ".gitattributes").is_file()


def test_the_same_again_changes_nothing_and_sends_nothing(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    assert remote.publish(REPO, publication()).changed
    before = len(hub_emulator.requests)
    again = remote.publish(REPO, publication())
    assert (again.changed, again.location) == (False, f"{hub_emulator.url}/{REPO}")
    asked = [(r.method, r.path) for r in hub_emulator.requests[before:]]
    info = ("GET", f"/api/models/{REPO}")
    assert asked == [("GET", "/api/whoami-v2"), info, info]


def test_only_what_changed_is_sent_and_what_is_no_more_goes(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    remote.publish(REPO, publication(extra=b"old"))
    sent = hub_emulator.uploads()
    changed = publication(CARD + b"more\n")
    assert remote.publish(REPO, changed).changed
    assert hub_emulator.uploads() == sent
    assert hub_emulator.files(REPO).keys() == {*changed, ".gitattributes"}
    assert hub_emulator.files(REPO)["README.md"] == CARD + b"more\n"


# -- what is there already -------------------------------------------------------------------


@pytest.mark.parametrize(("there", "asked"), [(True, False), (False, True)])
def test_another_visibility_is_told_and_left(
    remote: HubRemote, hub_emulator: HubEmulator, there: bool, asked: bool
) -> None:
    hub_emulator.add_repo(REPO, {}, private=there)
    (told,) = notes(lambda: remote.publish(REPO, publication(), private=asked))
    assert "stays so" in told
    assert hub_emulator.repo(REPO).private is there


def test_what_nexa_did_not_publish_is_refused_unless_it_is_allowed(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    hub_emulator.add_repo(REPO, {f"{n}.txt": b"mine" for n in range(6)})
    with pytest.raises(
        GateError, match=r"did not publish(.|\n)*0\.txt(.|\n)*\.\.\.(.|\n)*another --repo"
    ):
        remote.publish(REPO, publication())
    told = notes(lambda: remote.publish(REPO, publication(), allow_foreign=True))
    assert any("0.txt, 1.txt" in text for text in told)
    assert hub_emulator.files(REPO).keys() == {*publication(), ".gitattributes"}


def test_a_file_laid_into_a_publication_by_hand_is_foreign(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    remote.publish(REPO, publication(extra=b"old"))
    hub_emulator.add_commit(REPO, {"photo.txt": b"mine"})
    with pytest.raises(GateError, match=r"found +photo\.txt\n"):
        remote.publish(REPO, publication())


def test_a_root_without_its_list_vouches_for_nothing_else(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    hub_emulator.add_repo(REPO, {layout.ROOT: b"?", "photo.txt": b"mine"})
    with pytest.raises(GateError, match=r"photo\.txt"):
        remote.publish(REPO, publication())


def test_a_name_is_owner_and_name(remote: HubRemote, tmp_path: Path) -> None:
    for action in (
        lambda: remote.location("m"),
        lambda: remote.publish("../m", {}),
        lambda: remote.fetch("a/b/c", tmp_path),
    ):
        with pytest.raises(UsageError, match="OWNER/NAME"):
            action()


def test_there_is_nothing_to_fetch_where_nothing_was_published(
    remote: HubRemote, hub_emulator: HubEmulator, tmp_path: Path
) -> None:
    assert remote.fetch(REPO, tmp_path / "back") is None
    assert HubRemote(remote.endpoint, None, remote.patience).fetch(REPO, tmp_path / "back") is None
    hub_emulator.add_repo(REPO, {"model.safetensors": WEIGHTS})
    assert remote.fetch(REPO, tmp_path / "back") is None
    assert not (tmp_path / "back").exists()


def test_what_did_not_come_as_it_is_there_is_refused(
    remote: HubRemote, hub_emulator: HubEmulator, tmp_path: Path
) -> None:
    remote.publish(REPO, publication())
    stored = next(Path(hub_emulator.folder).glob(sha256_bytes(WEIGHTS)))
    stored.write_bytes(b"x" + WEIGHTS[1:])
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        remote.fetch(REPO, tmp_path / "back")


# -- who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "role", "said"),
    [
        ("expired", "write", "has expired"),
        ("revoked", "write", "was revoked"),
        ("valid", "read", "read-only"),
    ],
)
def test_a_token_that_may_not_is_refused_before_anything_is_made(
    remote: HubRemote, hub_emulator: HubEmulator, state: str, role: str, said: str
) -> None:
    token = hub_emulator.add_token("hf_" + "x" * 34, role=role, state=state)
    with pytest.raises(AccessError, match=said) as caught:
        as_token(remote, token).publish(REPO, publication())
    assert KEPT in str(caught.value)
    assert token not in str(caught.value)
    assert not hub_emulator.has_repo(REPO)


def test_without_a_token_the_way_to_one_and_the_local_hub_are_named(remote: HubRemote) -> None:
    with pytest.raises(AccessError, match=r"nexa login(.|\n)*--hub local"):
        HubRemote(remote.endpoint, None).publish(REPO, publication())


def test_a_bad_token_is_not_taken_for_a_missing_repository(
    remote: HubRemote, tmp_path: Path
) -> None:
    with pytest.raises(AccessError, match="not a Hub token"):
        as_token(remote, "wrong").fetch(REPO, tmp_path)


def test_a_token_that_expires_on_the_way_is_not_taken_for_a_missing_repository(
    remote: HubRemote, hub_emulator: HubEmulator, tmp_path: Path
) -> None:
    # What the client makes of any 401 that comes over https.
    hidden = {"X-Error-Code": "RepoNotFound"}
    expired = "User Access Token is expired"
    hub_emulator.plan_fault("GET", "/api/models/", 401, headers=hidden, message=expired)
    with pytest.raises(AccessError, match="has expired"):
        remote.fetch(REPO, tmp_path)


def test_a_token_that_loses_its_right_on_the_way_is_said(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    hub_emulator.plan_fault("POST", "/commit/", 403)
    with pytest.raises(AccessError, match=r"may not do this(.|\n)*already uploaded is kept"):
        remote.publish(REPO, publication())
    hub_emulator.plan_fault("POST", "/commit/", 401)
    with pytest.raises(AccessError, match="does not know this token"):
        remote.publish(REPO, publication())
    assert remote.publish(REPO, publication()).changed


def test_a_private_repository_of_another_is_said(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    token = hub_emulator.add_token(
        "hf_" + "f" * 34, name="other", role="fineGrained", scopes=(REPO,)
    )
    hub_emulator.add_repo(REPO, {}, private=True)
    with pytest.raises(AccessError, match="is not shown it"):
        as_token(remote, token).publish(REPO, publication())


# -- what goes wrong on the way ----------------------------------------------------------------

PASSING = [
    ("GET", "/api/whoami-v2"),
    ("GET", f"/api/models/{REPO}$"),
    ("POST", "/api/repos/create"),
    ("POST", "/preupload/"),
    ("POST", "/objects/batch"),
    ("PUT", "/lfs-storage/"),
    ("POST", "/lfs/verify"),
    ("POST", "/api/validate-yaml"),
    ("POST", "/commit/"),
]


@pytest.mark.parametrize(("method", "path"), PASSING)
@pytest.mark.parametrize("outcome", [429, 500, "drop", "drop-reply"])
def test_what_passes_by_itself_is_waited_for(
    remote: HubRemote,
    hub_emulator: HubEmulator,
    waits: list[float],
    method: str,
    path: str,
    outcome: int,
) -> None:
    hub_emulator.plan_fault(method, path, outcome)
    assert remote.publish(REPO, publication()).changed
    assert waits or outcome == "drop-reply"
    assert hub_emulator.files(REPO).keys() == {*publication(), ".gitattributes"}


def test_the_pause_that_the_hub_asks_for_is_kept(
    remote: HubRemote, hub_emulator: HubEmulator, waits: list[float]
) -> None:
    hub_emulator.plan_fault("POST", "/commit/", 429, headers={"Retry-After": "17"})
    told = notes(lambda: remote.publish(REPO, publication()))
    assert waits == [17]
    assert any("trying again in 17 s (1 of 5)" in text for text in told)


def test_a_pause_without_end_is_cut_short(
    remote: HubRemote, hub_emulator: HubEmulator, waits: list[float]
) -> None:
    hub_emulator.plan_fault("POST", "/commit/", 503, headers={"Retry-After": "86400"})
    remote.publish(REPO, publication())
    assert waits == [60]


@pytest.mark.parametrize(("method", "path"), [row for row in PASSING if "verify" not in row[1]])
@pytest.mark.parametrize("outcome", [500, "drop"])
def test_what_does_not_pass_ends_with_how_to_go_on(
    remote: HubRemote, hub_emulator: HubEmulator, method: str, path: str, outcome: int
) -> None:
    fault = hub_emulator.plan_fault(method, path, outcome, times=1000)
    with pytest.raises(NetworkError, match="already uploaded is kept; run the same command again"):
        remote.publish(REPO, publication())
    fault.times = 0
    assert remote.publish(REPO, publication()).changed
    for oid, requests in hub_emulator.uploads().items():
        assert [r.received for r in requests if r.status == 200] == [len(by_oid()[oid])]


def by_oid() -> dict[str, bytes]:
    return {sha256_bytes(data): data for data in (WEIGHTS, ADAPTER)}


def test_a_download_lost_in_the_middle_goes_on_from_there(
    remote: HubRemote, hub_emulator: HubEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a piece that did not wholly come nothing is kept, and a piece is 10 MB.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    remote.publish(REPO, publication())
    hub_emulator.plan_fault("GET", r"/resolve/.*/model\.safetensors", "drop", after_bytes=100_000)
    assert remote.fetch(REPO, tmp_path / "back") is not None
    asked = [r for r in hub_emulator.requests if r.method == "GET" and "/model.safe" in r.path]
    assert [r.status for r in asked] == [200, 206]


def test_a_download_that_fails_for_good_is_told(
    remote: HubRemote, hub_emulator: HubEmulator, tmp_path: Path
) -> None:
    remote.publish(REPO, publication())
    hub_emulator.plan_fault("HEAD", "/resolve/", 500, times=1000)
    with pytest.raises(NetworkError, match=f"cannot download {REPO}"):
        remote.fetch(REPO, tmp_path / "back")


def test_a_repository_made_by_another_meanwhile_is_taken(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    absent = {"X-Error-Code": "RepoNotFound"}
    hub_emulator.plan_fault("GET", f"/api/models/{REPO}$", 404, headers=absent)
    hub_emulator.add_repo(REPO, {}, private=True)
    (told,) = notes(lambda: remote.publish(REPO, publication()))
    assert "is there already and private" in told


@pytest.mark.parametrize("status", [409, 412])
def test_an_overtaken_commit_looks_again(
    remote: HubRemote, hub_emulator: HubEmulator, status: int
) -> None:
    hub_emulator.plan_fault("POST", "/commit/", status, message="A commit has happened since")
    told = notes(lambda: remote.publish(REPO, publication()))
    assert any("was changed meanwhile" in text for text in told)
    assert len(hub_emulator.uploads()[sha256_bytes(WEIGHTS)]) == 1


def test_a_commit_that_is_overtaken_for_ever_is_given_up(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    hub_emulator.plan_fault("POST", "/commit/", 412, times=1000)
    with pytest.raises(NetworkError, match="somebody else commits"):
        remote.publish(REPO, publication())


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    hub_emulator.plan_fault("POST", "/commit/", "drop-reply")
    assert remote.publish(REPO, publication()).changed
    assert len(hub_emulator.repo(REPO).commits) == 2


@pytest.mark.parametrize("path", ["/api/repos/create", "/commit/"])
def test_what_the_hub_will_never_do_is_said_in_its_own_words(
    remote: HubRemote, hub_emulator: HubEmulator, waits: list[float], path: str
) -> None:
    hub_emulator.plan_fault("POST", path, 418, message="I am a teapot")
    with pytest.raises(NetworkError, match=r"I am a teapot"):
        remote.publish(REPO, publication())
    assert waits == []


def test_a_hub_out_of_reach_is_told(waits: list[float], hub_emulator: HubEmulator) -> None:
    remote = HubRemote("http://127.0.0.1:9", Secret(TOKEN, "t"), Patience(sleep=waits.append))
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:9 cannot be reached"):
        remote.publish(REPO, publication())


def test_offline_mode_is_named(remote: HubRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE is set"):
        remote.publish(REPO, publication())


def test_a_fault_that_is_not_the_hubs_goes_on_up(hub_emulator: HubEmulator) -> None:
    def broken(wait_s: float) -> None:
        raise RuntimeError("the clock is broken")

    hub_emulator.add_token(TOKEN)
    hub_emulator.plan_fault("GET", "/api/models/", 500)
    remote = HubRemote(hub_emulator.url, Secret(TOKEN, "the test"), Patience(sleep=broken))
    with pytest.raises(RuntimeError, match="the clock is broken"):
        remote.publish(REPO, publication())


def test_a_file_that_vanishes_is_a_storage_error(remote: HubRemote, tmp_path: Path) -> None:
    gone: Files = {**publication(), "gone.txt": tmp_path / "gone"}
    with pytest.raises(StorageError, match="gone"):
        remote.publish(REPO, gone)


def test_the_hub_clients_own_tokens_are_left_alone(
    remote: HubRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no-hub-token").write_text("hf_another")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-hub-token"))
    remote.publish(REPO, publication())
    assert remote.fetch(REPO, tmp_path / "back") is not None
    assert (tmp_path / "no-hub-token").read_text() == "hf_another"
