"""Filters against sets that were labelled before them; only the tuning half was ever looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nexa.core.identity import sha256_file
from nexa.data.filters.language import language_of
from nexa.data.filters.registry import FILTERS
from tests.data.build import row
from tests.data.filters.labelled import FOLDER, Counted, Half, count, half_of, read

# As they were before the first filter was run on them.
DIGESTS = {
    "language": "d1475adcaf31c8f3322347dfdcc2f98265d0e1189a1d305884abeb45f315d4d3",
    "pii": "ddea4da661bdc7b52b605880e5897c24f7dcea32e6b985bcb348fbea055e8dc9",
    "quality": "65f8bf6159948258f2eab9e1f48f45bea3e6f0b4550c11cd273e2df47aafea24",
    "secrets": "f8cf8300f0d8d096e3a32de23005b34490e5f37ad91ff18996d96c9ddfca7519",
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "pii": {},
    "secrets": {},
    "quality": {"refusals": True},
}
# Precision and recall on the sealed halves, as first measured; never tuned on.
SEALED = {"pii": (0.95, 0.95), "secrets": (0.96, 0.96), "quality": (1.0, 1.0)}


def measured(name: str, half: Half) -> Counted:
    rows = read(name, half)
    verdicts = FILTERS[name](OPTIONS[name])([row(r.prompt, r.text) for r in rows])
    return count(rows, [v is not None for v in verdicts], lambda r: r.label == "positive")


@pytest.mark.parametrize("name", DIGESTS)
def test_the_sets_are_what_they_were_before_the_filters(name: str) -> None:
    assert sha256_file(FOLDER / f"{name}.jsonl") == DIGESTS[name]


@pytest.mark.parametrize(("name", "least"), [("pii", 100), ("secrets", 100), ("quality", 60)])
def test_the_sets_are_large_and_half_of_them_are_hard_negatives(name: str, least: int) -> None:
    rows = read(name)
    positives = sum(r.label == "positive" for r in rows)
    assert len(rows) >= least
    assert 0.35 <= positives / len(rows) <= 0.65
    assert 0.35 <= len(read(name, "sealed")) / len(rows) <= 0.65


@pytest.mark.parametrize("name", OPTIONS)
def test_the_tuning_half_is_told_without_a_mistake(name: str) -> None:
    counted = measured(name, "tuning")
    assert (counted.precision, counted.recall) == (1.0, 1.0)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_sealed_half_is_told_as_well_as_is_said(name: str) -> None:
    counted = measured(name, "sealed")
    precision, recall = SEALED[name]
    assert counted.precision >= precision
    assert counted.recall >= recall


@pytest.mark.parametrize(("half", "right"), [("tuning", 0.96), ("sealed", 0.97)])
def test_languages_are_told(half: Half, right: float) -> None:
    rows = read("language", half)
    told = [language_of(r.text)[0] or "unknown" for r in rows]
    assert sum(code == r.label for code, r in zip(told, rows, strict=True)) / len(rows) >= right


@pytest.mark.parametrize("half", ["tuning", "sealed"])
def test_no_row_of_a_kept_language_is_left_out(half: Half) -> None:
    rows = read("language", half)
    verdicts = FILTERS["language"]({"keep": ["en", "de"]})([row("", r.text) for r in rows])
    kept = ("en", "de", "unknown")
    counted = count(rows, [v is not None for v in verdicts], lambda r: r.label not in kept)
    assert (counted.precision, counted.recall) == (1.0, 1.0)


def test_what_is_on_by_default_leaves_out_no_legitimate_answer() -> None:
    rows = [r for r in read("quality") if r.label == "negative" and half_of(r.text) == "tuning"]
    assert FILTERS["quality"]({})([row(r.prompt, r.text) for r in rows]) == [None] * len(rows)


@pytest.mark.parametrize("name", ["pii", "secrets"])
def test_no_verdict_says_what_was_found(name: str) -> None:
    rows = [r for r in read(name, "tuning") if r.label == "positive"]
    for action in ("redact", "drop"):
        verdicts = FILTERS[name]({"action": action})([row("Well?", r.text) for r in rows])
        for verdict, r in zip(verdicts, rows, strict=True):
            assert verdict is not None
            words = [word for word in r.text.replace('"', " ").split() if len(word) > 7]
            told = f"{verdict.reason} {verdict.detail}"
            assert not [word for word in words if word in told and not word.isalpha()]
