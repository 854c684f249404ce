"""New questions: what they are made from."""

from __future__ import annotations

from pathlib import Path

from nexa.core.records import Artifact, DatasetBody, WeaknessBody
from nexa.core.store import Store
from nexa.lm.client import Request
from tests.feedback import made
from tests.feedback.teaching import (
    domain_of,
    inside,
    proposed,
)


def test_facts_are_asked_about_in_turn_and_named_in_the_record(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody], dataset: Artifact[DatasetBody]
) -> None:
    heard: list[Request] = []
    facts = ("Iron melts at 1811 kelvin.", "Tin melts at 505 kelvin.")
    draft, rows = proposed(tmp_path, store, weak, dataset, heard=heard, rows=4, facts=facts)
    shown = [inside([dict(t) for t in r.messages]).get("facts") for r in heard]
    assert sorted(fact for fact in shown if fact) == sorted(facts * 2)
    assert list(draft.body.sources) == ["fact 1", "fact 2"]
    # About a fact a row is of its own group; else of its example's.
    assert not any("group" in row for row in rows)


def test_examples_that_fill_the_context_are_left_out(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody]
) -> None:
    rows = [
        made.training_row(
            f"t{n}",
            f"{made.asked('furnace', 900 + n)} {'filler ' * 800}",
            made.answer("furnace", 900 + n),
            "furnace",
        )
        for n in range(3)
    ]
    heard: list[Request] = []
    proposed(tmp_path, store, weak, made.dataset(store, rows), heard=heard, rows=1)
    assert {len(inside([dict(t) for t in r.messages])["examples"]) for r in heard} == {1}


def test_two_weak_slices_are_asked_for_in_turn(tmp_path: Path, store: Store) -> None:
    rules = ("domain=furnace: exact < 0.9", "domain=letter: exact < 0.9")
    weak = made.weak(store, score=made.right_but_for("furnace", "letter"), rules=rules)
    _, rows = proposed(tmp_path, store, weak, made.dataset(store, made.training(4)), rows=6)
    assert [row["domain"] for row in rows] == ["furnace", "letter"] * 3
    assert [domain_of(row["prompt"]) for row in rows] == ["furnace", "letter"] * 3
