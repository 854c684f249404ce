"""A store under verification: what is wrong, and with which file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.identity import canonical_json
from nexa.core.records import Artifact, SuiteBody
from nexa.core.store import Store
from nexa.core.store_check import StoreCheck
from tests.core.samples import seal, suite_body


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def told(store: Store) -> dict[str, str]:
    """Path below the store -> what is wrong."""
    found = StoreCheck(store).everything()
    return {str(Path(p.place).relative_to(store.root)): p.what for p in found}


def record_of(store: Store, sealed: Artifact[SuiteBody]) -> Path:
    return store.root / "records" / "suite" / f"{sealed.digest}.json"


def test_an_empty_store_and_a_whole_one_have_no_problems(store: Store) -> None:
    assert told(store) == {}
    seal(store)
    assert told(store) == {}


def test_what_a_stopped_writer_left_is_counted_and_is_no_fault(store: Store) -> None:
    sealed = seal(store)
    blob = store.path(sealed, "prompts.jsonl")
    blob.with_name(f".{blob.name}.1234").write_bytes(b"torn")
    check = StoreCheck(store)
    assert list(check.everything()) == []
    assert check.leftovers == 1


def test_equal_contents_under_two_names_share_one_record(store: Store) -> None:
    first, second = (seal(store, name=name, recipe="same") for name in ("metals", "gases"))
    assert first.digest == second.digest
    assert told(store) == {}


def test_a_name_that_was_changed_inside_the_record_leads_nowhere(store: Store) -> None:
    sealed = seal(store)
    path = record_of(store, sealed)
    record = json.loads(path.read_bytes())
    for label in ({"name": "other"}, {"version": "v7"}, {"version": "../v1"}):
        path.write_bytes(canonical_json({**record, **label}))
        (what,) = told(store).values()
        assert what.endswith("a name that is not there")


def test_a_record_has_one_form_in_bytes_and_one_folder(store: Store) -> None:
    sealed = seal(store)
    path = record_of(store, sealed)
    data = path.read_bytes()
    path.write_bytes(data + b"\n")
    assert told(store) == {str(path.relative_to(store.root)): "was changed after it was sealed"}
    path.write_bytes(data)
    elsewhere = store.root / "records" / "dataset" / path.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(data)
    assert f"records/dataset/{path.name}" in told(store)
    path.unlink()
    assert told(store)[f"names/suite/{sealed.name}/v1"] == "names a record that is not in the store"


def test_a_name_that_was_given_to_another_record_is_named(store: Store) -> None:
    first, second = seal(store), seal(store, body=suite_body(rows=9))
    pointer = store.root / "names" / "suite" / first.name / "v1"
    pointer.write_text(second.digest)
    assert told(store)[str(pointer.relative_to(store.root))].startswith("does not name the record")


@pytest.mark.parametrize("data", [b"", b"../../x", b"\0", b"\xff"])
def test_a_name_that_holds_no_digest_is_named(store: Store, data: bytes) -> None:
    sealed = seal(store)
    pointer = store.root / "names" / "suite" / sealed.name / "v1"
    pointer.write_bytes(data)
    assert str(pointer.relative_to(store.root)) in told(store)


def test_a_recipe_that_names_what_another_made_is_named(store: Store) -> None:
    seal(store, recipe="one")
    path = next((store.root / "recipes").iterdir())
    path.rename(path.with_name("0" * 64))
    (what,) = told(store).values()
    assert "another recipe made" in what
    path.with_name("0" * 64).write_bytes(b"torn")
    (what,) = told(store).values()
    assert "changed after it was written" in what


def test_a_missing_blob_is_named_with_whose_it_is(store: Store) -> None:
    sealed = seal(store)
    blob = store.path(sealed, "prompts.jsonl")
    blob.unlink()
    assert told(store) == {
        str(blob.relative_to(store.root)): f"prompts.jsonl of {sealed.label} is missing"
    }


def test_an_artifact_is_checked_with_all_that_it_grew_from(store: Store) -> None:
    above = seal(store, files={"a": b"alpha"})
    sealed = seal(store, files={"b": b"beta"}, inputs={"suite": above.digest})
    check = StoreCheck(store)
    assert list(check.artifact(sealed.digest, "the run")) == []
    assert set(check.records) == {above.digest, sealed.digest}
    assert list(check.artifact(sealed.digest, "the run")) == []  # once is enough
    record_of(store, above).unlink()
    (problem,) = StoreCheck(store).artifact(sealed.digest, "the run")
    assert problem.place == str(record_of(store, sealed))
    assert above.digest[:16] in problem.what
    record_of(store, sealed).write_bytes(b"{}")
    (problem,) = StoreCheck(store).artifact(sealed.digest, "the run")
    assert problem.place == str(record_of(store, sealed))
