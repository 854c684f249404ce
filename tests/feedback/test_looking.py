"""Slices that overlap: which of them is weak by itself."""

from __future__ import annotations

from typing import Any

import pytest

from nexa.core.records import Artifact, Slice, WeaknessBody
from nexa.core.store import Store
from nexa.feedback.weakness_analysis import weak_names
from tests.feedback import made

RULES = pytest.mark.parametrize("rules", [(), ("exact < 0.7",)], ids=["by the rest", "by rule"])


def tagged(each: int = 12, **tags: Any) -> list[dict[str, Any]]:
    return [
        row | {"tags": [tag for tag, holds in tags.items() if holds(row)]}
        for row in made.prompts(each)
    ]


def number(row: Any) -> int:
    return int(row["id"].rsplit("-", 1)[1])


def one_of(weak: Artifact[WeaknessBody], value: str) -> Slice:
    [found] = [one for one in weak.body.slices if one.value == value]
    return found


@RULES
def test_a_slice_that_is_weak_through_another_s_rows_alone_is_not_weak(
    store: Store, rules: tuple[str, ...]
) -> None:
    rows = tagged(mixed=lambda row: row["domain"] == "furnace" or number(row) == 3)
    weak = made.weak(store, rows, by=("tag", "domain"), rules=rules)
    assert weak_names(weak.body) == ["domain=furnace"]
    assert one_of(weak, "mixed").why.endswith("not weak but for the rows of domain=furnace")


@RULES
def test_a_slice_of_the_very_same_rows_is_not_weak_again(
    store: Store, rules: tuple[str, ...]
) -> None:
    rows = tagged(hot=lambda row: row["domain"] == "furnace")
    weak = made.weak(store, rows, by=("domain", "tag"), rules=rules)
    assert weak_names(weak.body) == ["domain=furnace"]
    assert one_of(weak, "hot").found == one_of(weak, "furnace").found


@pytest.mark.parametrize("rules", [(), ("exact < 0.4",)], ids=["by the rest", "by rule"])
def test_a_slice_that_is_weak_without_another_s_rows_too_is_weak(
    store: Store, rules: tuple[str, ...]
) -> None:
    rows = tagged(24, even=lambda row: number(row) % 4 < 2)

    def score(row: Any) -> float:
        return float(row["domain"] != "furnace" and number(row) % 4 >= 2)

    weak = made.weak(store, rows, score, by=("domain", "tag"), rules=rules)
    assert weak_names(weak.body) == ["domain=furnace", "tag=even"]


def test_a_rule_of_one_slice_is_for_that_slice_whatever_else_is_weak(store: Store) -> None:
    rows = tagged(hot=lambda row: row["domain"] == "furnace")
    rules = ("exact < 0.9", "tag=hot: exact < 0.8")
    weak = made.weak(store, rows, by=("domain", "tag"), rules=rules)
    assert weak_names(weak.body) == ["domain=furnace", "tag=hot"]
