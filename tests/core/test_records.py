"""Records: one shape for every kind, frozen, read back exactly or not at all."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nexa.core.errors import IntegrityError
from nexa.core.identity import Unstable, canonical_json, sha256_bytes
from nexa.core.records import KINDS, SCHEMA, Artifact, Body, Draft, Interval
from tests.core.samples import answers_body, checkpoint_body, dataset_body, suite_body

BODIES: list[tuple[str, Body]] = [
    ("suite", suite_body()),
    ("dataset", dataset_body()),
    ("checkpoint", checkpoint_body()),
    ("answers", answers_body()),
]


def artifact(kind: str = "suite", body: Body | None = None, **changes: Any) -> Artifact[Any]:
    fields: dict[str, Any] = {
        "kind": kind,
        "name": "metals",
        "version": "v1",
        "body": body or suite_body(),
        "files": {"prompts.jsonl": sha256_bytes(b"prompts")},
        "inputs": {"dataset": sha256_bytes(b"dataset")},
        "step": {"name": "freeze", "version": 1},
        "fingerprint": sha256_bytes(b"recipe"),
    }
    return Artifact(**{**fields, **changes})


def through_json(record: dict[str, Any]) -> Artifact[Any]:
    return Artifact.from_json(json.loads(canonical_json(record)))


@pytest.mark.parametrize(("kind", "body"), BODIES)
def test_a_record_comes_back_equal_with_the_same_digest(kind: str, body: Body) -> None:
    sealed = artifact(kind, body)
    back = through_json(sealed.to_json())
    assert back == sealed
    assert back.digest == sealed.digest


def test_the_one_shape_of_every_record() -> None:
    assert list(artifact().to_json()) == [
        "schema", "kind", "name", "version", "body", "files", "inputs", "step", "fingerprint",
    ]  # fmt: skip
    assert set(KINDS) == {
        "suite", "synthetic", "dataset", "checkpoint", "adopted", "export", "answers", "judgements",
        "agreement", "scores", "report", "weakness", "decision", "publication",
    }  # fmt: skip


def test_name_and_version_are_labels_outside_the_digest() -> None:
    one, other = artifact(), artifact(name="other", version="v9")
    assert one.digest == other.digest
    assert (one.label, other.label) == ("suite/metals@v1", "suite/other@v9")


@pytest.mark.parametrize(
    "change",
    [
        {"body": suite_body(rows=5)},
        {"files": {"prompts.jsonl": sha256_bytes(b"others")}},
        {"inputs": {}},
        {"step": {"name": "freeze", "version": 2}},
        {"fingerprint": sha256_bytes(b"another recipe")},
    ],
)
def test_everything_else_is_in_the_digest(change: dict[str, Any]) -> None:
    assert artifact(**change).digest != artifact().digest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "nexa.record/2"}, "nexa.record/2"),
        ({"kind": "poem"}, "poem"),
        ({"body": {"rows": 3}}, "task"),
        ({"body": None}, "ValidationError"),
        ({"files": {"../../.bashrc": "00"}}, "leads out of"),
        ({"files": {"/etc/passwd": "00"}}, "leads out of"),
        ({"files": {"a/../../b": "00"}}, "leads out of"),
        ({"files": None}, "TypeError"),
    ],
)
def test_what_is_not_a_record_is_refused_with_the_reason(
    change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(IntegrityError) as caught:
        Artifact.from_json({**artifact().to_json(), **change})
    assert reason in str(caught.value)


@pytest.mark.parametrize("field", list(artifact().to_json()))
def test_a_missing_field_is_named(field: str) -> None:
    record = artifact().to_json()
    del record[field]
    with pytest.raises(IntegrityError, match=field):
        Artifact.from_json(record)


@given(st.sampled_from(BODIES), st.data())
def test_any_change_of_a_body_is_another_digest_or_refused(
    sample: tuple[str, Body], data: Any
) -> None:
    kind, body = sample
    record = artifact(kind, body).to_json()
    changed = copy.deepcopy(record)
    field = data.draw(st.sampled_from(sorted(changed["body"])))
    changed["body"][field] = data.draw(st.none() | st.integers(0, 9) | st.text(max_size=3))
    if changed == record:
        return
    with contextlib.suppress(IntegrityError, Unstable):
        assert Artifact.from_json(changed).digest != artifact(kind, body).digest


def test_unknown_keys_in_a_body_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        suite_body(extra=1)


def test_records_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        suite_body().rows = 3
    with pytest.raises(AttributeError):
        artifact().name = "other"


def test_a_score_that_is_no_number_cannot_be_sealed() -> None:
    body = Interval(mean=float("nan"), low=0.0, high=1.0, n=4, groups=2)
    with pytest.raises(Unstable, match="canonical"):
        _ = artifact(body=body).digest


def test_a_draft_holds_bytes_and_paths() -> None:
    draft = Draft("suite", "metals", suite_body(), {"a": b"1", "b": Path("x")})
    assert draft.files == {"a": b"1", "b": Path("x")}
    assert Draft("suite", "metals", suite_body()).files == {}
    assert artifact().schema == SCHEMA
