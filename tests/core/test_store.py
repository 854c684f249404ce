"""The store: what is sealed stays, whole, whoever is killed and whatever flips."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexa.core.errors import IntegrityError
from nexa.core.events import Event, listening
from nexa.core.identity import fingerprint, sha256_bytes
from nexa.core.records import Artifact, Draft, SuiteBody
from nexa.core.store import (
    Store,
    UnknownArtifact,
    link_or_copy,
)
from tests.core.samples import dataset_body, seal, suite_body


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def hidden(folder: Path) -> list[str]:
    """Leftovers of writes that did not come to their end."""
    return [path.name for path in folder.rglob(".*") if path.name != ".lock"]


# -- blobs ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.binary(max_size=3000))
def test_bytes_and_a_file_of_the_same_bytes_are_one_blob(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    store = Store(folder / "store")
    (folder / "file").write_bytes(data)
    assert store.put(folder / "file") == store.put(data) == sha256_bytes(data)
    assert store.blob(sha256_bytes(data)).read_bytes() == data
    assert len([p for p in (store.root / "blobs").rglob("*") if p.is_file()]) == 1


def test_a_blob_is_read_only_and_apart_from_the_file_it_came_from(
    store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"first")
    blob = store.blob(store.put(source))
    source.write_bytes(b"changed later")
    assert blob.read_bytes() == b"first"
    assert blob.stat().st_mode & 0o777 == 0o444
    assert store.blob(store.put(b"bytes")).stat().st_mode & 0o777 == 0o444


def test_a_file_of_the_step_s_own_is_not_read_again_where_its_digest_is_known(
    store: Store, tmp_path: Path
) -> None:
    own = tmp_path / "made"
    own.mkdir()
    (own / "weights").write_bytes(b"numbers")
    beside = tmp_path / "beside"
    beside.write_bytes(b"others")
    known = "0" * 64
    assert store.put(own / "weights", own=own, digest=known) == known
    assert store.blob(known).read_bytes() == b"numbers"
    # Of what others may go on writing to, and of bytes, none is taken on trust.
    assert store.put(beside, own=own, digest=known) == sha256_bytes(b"others")
    assert store.put(b"bytes", own=own, digest=known) == sha256_bytes(b"bytes")


def test_a_file_of_the_step_s_own_is_moved_in_and_not_copied(store: Store, tmp_path: Path) -> None:
    own = tmp_path / "made"
    own.mkdir()
    source = own / "weights"
    source.write_bytes(b"weights")
    inode = source.stat().st_ino
    blob = store.blob(store.put(source, own=own))
    assert blob.stat().st_ino == inode
    assert blob.stat().st_mode & 0o777 == 0o444
    assert hidden(store.root) == []


def test_what_lies_elsewhere_or_has_another_name_is_copied(store: Store, tmp_path: Path) -> None:
    own = tmp_path / "made"
    own.mkdir()
    outside = tmp_path / "the user's"
    outside.write_bytes(b"theirs")
    os.link(outside, own / "linked")
    beside = tmp_path / "beside"
    beside.write_bytes(b"elsewhere")
    for source in (own / "linked", beside):
        blob = store.blob(store.put(source, own=own))
        assert blob.stat().st_ino != source.stat().st_ino
        assert source.stat().st_mode & 0o200  # and can be written as before
        assert blob.read_bytes() == source.read_bytes()


def test_an_own_file_on_another_file_system_is_copied(store: Store) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == store.root.parent.stat().st_dev:
        pytest.skip("needs a second file system")
    own = shared / f"nexa-own-{os.getpid()}"
    own.mkdir()
    try:
        (own / "weights").write_bytes(b"weights")
        assert store.blob(store.put(own / "weights", own=own)).read_bytes() == b"weights"
    finally:
        shutil.rmtree(own)


def test_an_artifact_gets_its_readable_names_back(store: Store, tmp_path: Path) -> None:
    sealed = seal(store, files={"model/config.json": b"{}", "README.md": b"hello"})
    folder = store.checkout(sealed, tmp_path / "out")
    assert (folder / "model" / "config.json").read_bytes() == b"{}"
    assert (folder / "README.md").read_bytes() == b"hello"
    assert store.checkout(sealed, folder) == folder  # again, over what is there
    assert hidden(folder) == []


def test_a_leftover_of_a_killed_run_is_never_written_through(store: Store, tmp_path: Path) -> None:
    old = seal(store, files={"m": b"old weights"})
    new = seal(store, files={"m": b"new weights"})
    out = tmp_path / "out"
    out.mkdir()
    # A run with this process id was killed between link and rename; ids come again.
    os.link(store.path(old, "m"), out / f".m.{os.getpid()}")
    store.checkout(new, out)
    assert (out / "m").read_bytes() == b"new weights"
    assert store.verify(old) == []


def test_across_file_systems_a_file_is_copied(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    target = shared / f"nexa-test-{os.getpid()}" / "target"
    try:
        link_or_copy(source, target)
        assert target.read_bytes() == b"bytes"
        assert target.stat().st_ino != source.stat().st_ino
    finally:
        shutil.rmtree(target.parent)


def test_a_file_that_an_artifact_does_not_have(store: Store) -> None:
    sealed = seal(store, files={"a": b"1", "b": b"2"})
    with pytest.raises(UnknownArtifact, match=r"suite/metals@v1 has no file 'c'\n  found  a, b"):
        store.path(sealed, "c")


# -- names, versions, recipes --------------------------------------------------------------------


def test_new_contents_are_a_new_version_and_old_ones_stay(store: Store) -> None:
    first, second = (seal(store, body=suite_body(rows=rows)) for rows in (1, 2))
    assert (first.version, second.version) == ("v1", "v2")
    assert store.get("suite", "metals") == second
    assert store.get("suite", "metals@v1") == first
    assert store.get("suite", "suite/metals@v1") == first
    assert store.names("suite") == ["metals"]
    assert store.versions("suite", "metals") == ["v1", "v2"]
    assert store.by_digest(first.digest) == first


def test_the_same_record_keeps_its_version(store: Store) -> None:
    first = seal(store)
    seal(store, body=suite_body(rows=9))
    assert seal(store) == first
    assert store.versions("suite", "metals") == ["v1", "v2"]


def test_equal_bytes_from_another_recipe_are_another_artifact(store: Store) -> None:
    one, other = seal(store, recipe="one"), seal(store, recipe="other")
    assert one.digest != other.digest
    assert (one.version, other.version) == ("v1", "v2")
    assert one.files == other.files


def dataset(store: Store, recipe: str, inputs: dict[str, str] | None = None, **body: str) -> Any:
    """A sealed dataset with a content, whose file has the recipe's name."""
    sources = {f"{recipe}.jsonl": sha256_bytes(recipe.encode())}
    draft = Draft(
        "dataset",
        "metals",
        dataset_body(sources=sources, **body),
        {"train.parquet": b"rows", "lineage.jsonl": recipe.encode()},
    )
    made_by = fingerprint(recipe, 1, {}, {})
    return store.seal(draft, step={"name": "prepare"}, fingerprint=made_by, inputs=inputs or {})


def test_a_dataset_with_the_content_of_a_version_is_that_version(
    store: Store,
) -> None:
    heard: list[Event] = []
    first = dataset(store, "one", content_sha256="c" * 64)
    with listening(heard.append):
        again = dataset(store, "renamed", content_sha256="c" * 64)
    assert again == first
    assert store.made_by(fingerprint("renamed", 1, {}, {})) == first
    (told,) = [event["text"] for event in heard if event["kind"] == "note"]
    assert told == f"{first.label} has these very rows: no new version is made"
    other = dataset(store, "other inputs", {"suite": "5" * 64}, content_sha256="c" * 64)
    unlike = dataset(store, "other rows", content_sha256="d" * 64)
    unknown = dataset(store, "older")
    assert [a.version for a in (other, unlike, unknown)] == ["v2", "v3", "v4"]


def test_a_version_that_was_damaged_is_nobody_s_twin(store: Store) -> None:
    first = dataset(store, "one", content_sha256="c" * 64)
    store.blob(first.files["lineage.jsonl"]).unlink()
    assert dataset(store, "renamed", content_sha256="c" * 64).version == "v2"


def test_one_record_under_two_names_answers_to_both(store: Store) -> None:
    one = seal(store, name="one", recipe="same")
    two = seal(store, name="two", recipe="same")
    assert one.digest == two.digest
    assert store.get("suite", "one").label == "suite/one@v1"
    assert store.get("suite", "two").label == "suite/two@v1"


def test_ten_versions_sort_by_number(store: Store) -> None:
    for rows in range(1, 12):
        seal(store, body=suite_body(rows=rows))
    assert store.versions("suite", "metals")[-2:] == ["v10", "v11"]
    assert store.get("suite", "metals").version == "v11"


def test_a_removed_version_does_not_cost_another_its_name(store: Store) -> None:
    for rows in (1, 2):
        seal(store, body=suite_body(rows=rows))
    (store.root / "names" / "suite" / "metals" / "v1").unlink()
    assert seal(store, body=suite_body(rows=3)).version == "v3"
    assert store.get("suite", "metals@v2").body.rows == 2


def test_strangers_in_the_names_folder_are_passed_over(store: Store) -> None:
    seal(store)
    for name in ("v1~", "v1.orig", ".v2.x", "vv"):
        (store.root / "names" / "suite" / "metals" / name).write_text("?")
    assert store.versions("suite", "metals") == ["v1"]


def test_an_unknown_name_gets_the_nearest(store: Store) -> None:
    with pytest.raises(UnknownArtifact, match="no suite at all"):
        store.get("suite", "metals")
    seal(store)
    with pytest.raises(UnknownArtifact) as caught:
        store.get("suite", "metal")
    assert (caught.value.found, caught.value.fix) == ("metals", "suite/metals")
    with pytest.raises(UnknownArtifact, match="has no version v7\n  found  v1"):
        store.get("suite", "metals@v7")
    with pytest.raises(UnknownArtifact) as far:
        store.get("suite", "zzz")
    assert far.value.fix is None


def test_a_digest_may_be_shortened_while_it_is_the_only_one(store: Store) -> None:
    sealed = seal(store)
    assert store.by_digest(sealed.digest[:12]) == sealed
    with pytest.raises(UnknownArtifact, match="no records begin with"):
        store.by_digest("0" * 64)
    for rows in range(20):
        seal(store, body=suite_body(rows=rows))
    with pytest.raises(UnknownArtifact, match=r"\d+ records begin with"):
        store.by_digest("")


def test_a_recipe_finds_what_it_made(store: Store) -> None:
    recipe = fingerprint("freeze", 1, "spec", {})
    assert store.made_by(recipe) is None
    sealed = seal(store, recipe="spec")
    assert store.made_by(recipe) == sealed


def test_a_recipe_whose_bytes_or_record_are_gone_has_made_nothing(store: Store) -> None:
    recipe = fingerprint("freeze", 1, "spec", {})
    sealed = seal(store, recipe="spec")
    blob = store.path(sealed, "prompts.jsonl")
    blob.unlink()
    assert store.made_by(recipe) is None
    assert seal(store, recipe="spec") == sealed  # made again: the same version
    assert store.made_by(recipe) == sealed
    (store.root / "records" / "suite" / f"{sealed.digest}.json").unlink()
    assert store.made_by(recipe) is None
    (store.root / "recipes" / recipe).write_text("torn")
    assert store.made_by(recipe) is None


def damaged(store: Store, sealed: Artifact[SuiteBody]) -> list[Path]:
    record = store.root / "records" / "suite" / f"{sealed.digest}.json"
    recipe = next((store.root / "recipes").iterdir())
    return [store.path(sealed, "prompts.jsonl"), record, recipe]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("how", ["cut", "changed"])
def test_what_was_changed_is_not_reused_but_told_and_made_again(
    store: Store, which: int, how: str
) -> None:
    recipe = fingerprint("freeze", 1, "spec", {})
    sealed = seal(store, recipe="spec")
    path = damaged(store, sealed)[which]
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] if how == "cut" else bytes([data[0] ^ 1, *data[1:]]))
    told: list[str] = []
    with listening(lambda event: told.append(event["text"])):
        assert store.made_by(recipe) is None
    assert len(told) == 1
    assert "reused" in told[0]
    assert seal(store, recipe="spec") == sealed
    assert store.made_by(recipe) == sealed
    assert path.read_bytes() == data or which == 2  # a recipe's file tells of times


def test_a_blob_that_was_only_copied_is_read_again_and_reused(store: Store) -> None:
    recipe = fingerprint("freeze", 1, "spec", {})
    sealed = seal(store, recipe="spec")
    os.utime(store.path(sealed, "prompts.jsonl"), (1, 1))
    assert store.made_by(recipe) == sealed


# -- what flips, what is missing -----------------------------------------------------------------


def test_a_flipped_bit_is_named(store: Store) -> None:
    sealed = seal(store, files={"a": b"alpha", "b": b"beta"})
    assert store.verify(sealed) == []
    flip(store.path(sealed, "b"), 0)
    assert store.verify(sealed) == ["suite/metals@v1: b is not what was sealed"]


def test_a_missing_blob_is_named(store: Store) -> None:
    sealed = seal(store, files={"a": b"alpha", "b": b"beta"})
    store.path(sealed, "a").unlink()
    assert store.verify(sealed) == ["suite/metals@v1: a is missing"]
    with pytest.raises(IntegrityError, match="the bytes of a are gone"):
        store.path(sealed, "a")


def test_no_flipped_bit_of_a_record_goes_unseen(store: Store) -> None:
    sealed = seal(store)
    record = store.root / "records" / "suite" / f"{sealed.digest}.json"
    whole = record.read_bytes()
    unseen = []
    for place in range(len(whole)):
        flip(record, place)
        problem = reading_problem(store, sealed.digest)
        if problem is None:
            unseen.append(place)
        else:
            assert str(record) in problem.what
            assert problem.fix
        record.write_bytes(whole)
    # The two labels are no evidence, and no digest covers them.
    labels = b"".join(whole[place : place + 1] for place in unseen)
    assert labels == b"metalsv1"
    assert store.by_digest(sealed.digest) == sealed


def test_a_name_whose_record_is_gone_is_an_integrity_error(store: Store) -> None:
    sealed = seal(store)
    (store.root / "records" / "suite" / f"{sealed.digest}.json").unlink()
    with pytest.raises(IntegrityError, match="cannot read the record"):
        store.get("suite", "metals")


def reading_problem(store: Store, digest: str) -> IntegrityError | None:
    """What reading a record complains about."""
    try:
        store.by_digest(digest)
    except IntegrityError as error:
        return error
    return None


def flip(path: Path, place: int) -> None:
    """Turn the lowest bit of one byte, whatever the file's mode."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


def test_a_body_of_another_kind_is_stored_the_same_way(store: Store) -> None:
    sealed = seal(store, kind="dataset", name="Plasma v1", body=dataset_body(), files={})
    assert sealed.label == "dataset/plasma-v1@v1"
    assert store.get("dataset", "plasma-v1").body == dataset_body()
