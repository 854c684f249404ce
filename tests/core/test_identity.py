"""Digests, fingerprints and names: what makes two things the same, and what must not."""

from __future__ import annotations

import json
import math
import re
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa.core.identity import (
    NAME,
    Unstable,
    canonical_json,
    fingerprint,
    new_run_id,
    sha256_bytes,
    sha256_file,
    slug,
    stable,
    where,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@dataclass(frozen=True)
class Inner:
    rank: int = 16
    folder: Path = where(default=Path("a"))


@dataclass(frozen=True)
class Spec:
    seed: int
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    workers: int = where(default=1)


def of(spec: Any, *, step: str = "train", version: int = 1, **inputs: str) -> str:
    return fingerprint(step, version, spec, inputs)


def test_known_digests() -> None:
    assert sha256_bytes(b"abc").startswith("ba7816bf8f01cfea")
    assert (
        canonical_json({"b": 1.0, "a": [True, None, "é"]}) == '{"a":[true,null,"é"],"b":1}'.encode()
    )


@given(st.binary(max_size=4096))
def test_a_file_and_its_bytes_have_one_digest(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        assert sha256_file(Path(file.name)) == sha256_bytes(data)


@given(JSON)
def test_canonical_json_is_json_and_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    data = canonical_json(value)
    assert canonical_json(_turned(json.loads(data, parse_int=float))) == data


def _turned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _turned(value[key]) for key in reversed(value)}
    return [_turned(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, "\ud800", {1: 2}, b"bytes"])
def test_what_json_cannot_hold_is_refused_by_name(value: Any) -> None:
    with pytest.raises(Unstable, match="no canonical JSON form"):
        canonical_json(value)


def test_places_and_pace_never_enter_a_fingerprint_however_deep() -> None:
    here = Spec(1, Inner(folder=Path("/here")), (Inner(folder=Path("/x")),), workers=1)
    there = Spec(1, Inner(folder=Path("/there")), (Inner(folder=Path("/y")),), workers=64)
    assert of(here) == of(there)
    assert stable(here) == {"seed": 1, "inner": {"rank": 16}, "many": [{"rank": 16}], "options": {}}


@pytest.mark.parametrize(
    "other",
    [
        Spec(2),
        Spec(1, Inner(rank=8)),
        Spec(1, many=(Inner(),)),
        Spec(1, options={"a": 1}),
        Spec(1, options={"a": None}),
    ],
)
def test_everything_else_does(other: Spec) -> None:
    assert of(other) != of(Spec(1))


def test_step_version_and_inputs_are_part_of_a_recipe() -> None:
    base = of(Spec(1), dataset="aa")
    assert base != of(Spec(1), dataset="bb")
    assert base != of(Spec(1), other="aa")
    assert base != of(Spec(1), dataset="aa", version=2)
    assert base != of(Spec(1), dataset="aa", step="merge")
    assert re.fullmatch("[0-9a-f]{64}", base)


@pytest.mark.parametrize(
    ("spec", "place", "reason"),
    [
        (Spec(1, options={"x": math.nan}), "spec.options.x", "nan"),
        (Spec(1, options={"x": [0.0, math.inf]}), "spec.options.x[1]", "inf"),
        (Spec(1, options={"x": {"b", "a"}}), "spec.options.x", "set"),
        (Spec(1, options={"x": Path("a")}), "spec.options.x", "PosixPath"),
        (Spec(1, many=(Inner(), Path("a"))), "spec.many[1]", "PosixPath"),
        (Spec(1, options={"x": b"raw"}), "spec.options.x", "bytes"),
        (Spec(1, options={"x": print}), "spec.options.x", "builtin_function"),
        (Spec(1, options={"x": Inner}), "spec.options.x", "type"),
        (Spec(1, options={"x": {1: 2}}), "spec.options.x", "key 1"),
        (Spec(1, options={"name": "caf\udce9"}), "spec.options.name", "UTF-8"),
    ],
)
def test_what_has_no_stable_form_is_refused_by_its_place(
    spec: Spec, place: str, reason: str
) -> None:
    with pytest.raises(Unstable) as caught:
        of(spec)
    assert caught.value.what.startswith(f"{place} ")
    assert reason in caught.value.what


def test_large_integers_keep_all_their_digits() -> None:
    assert of(Spec(2**63)) != of(Spec(2**63 + 1))
    assert of(Spec(-(2**53) - 1)) != of(Spec(-(2**53)))


@given(JSON, JSON)
def test_different_data_never_share_a_fingerprint(one: Any, other: Any) -> None:
    same = canonical_json(one) == canonical_json(other)
    assert (of(one) == of(other)) is same


def test_a_run_id_is_a_dns_label_that_sorts_by_time() -> None:
    early = new_run_id(datetime(2025, 10, 28, 14, 12, 0, tzinfo=UTC), b"\xff\x0a\x99")
    late = new_run_id(datetime(2025, 10, 28, 14, 12, 1, tzinfo=UTC), b"\x00\x00")
    assert early == "2025-10-28-141200-ff0a"
    assert early < late
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", early)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Materials v2", "materials-v2"),
        ("../../etc/passwd", "etc-passwd"),
        ("Ünïcode", "n-code"),
        ("--", "unnamed"),
        ("", "unnamed"),
        ("a" * 200, "a" * 96),
        ("a" * 95 + "-b", "a" * 95),
    ],
)
def test_names_are_made_safe(text: str, name: str) -> None:
    assert slug(text) == name


@given(st.text())
def test_a_slug_is_always_a_name_and_its_own_slug(text: str) -> None:
    assert NAME.fullmatch(slug(text))
    assert slug(slug(text)) == slug(text)
