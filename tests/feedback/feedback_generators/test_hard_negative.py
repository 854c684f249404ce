"""Near misses: which, and of what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import Artifact, DatasetBody, WeaknessBody
from nexa.core.store import Store
from nexa.feedback.feedback_generators.asking import (
    NothingProposed,
)
from nexa.feedback.weakness_analysis import WeaknessSpec, weakness
from nexa.lm.client import Request
from tests.feedback import made
from tests.feedback.teaching import (
    Messages,
    inside,
    proposed,
    solved,
    teach,
)


def test_what_was_wrong_steers_the_hard_negatives(
    tmp_path: Path, store: Store, dataset: Artifact[DatasetBody]
) -> None:
    asked = made.prompts(12)
    suite = made.suite(store, asked)
    texts: dict[str, str | None] = {row["id"]: row["target"] for row in asked}
    for row in asked[:6]:
        texts[row["id"]] = json.dumps({**json.loads(row["target"]), "grams": 1})
    texts["furnace-6"] = None
    answers = made.answers(store, suite, texts)
    scored = made.scores(
        store,
        suite,
        made.mark(asked, made.right_but_for(made.WEAK)),
        answers_digest=answers.digest,
    )
    draft = weakness(
        WeaknessSpec(name="w", by=("domain",)), suite=suite, scores=scored, store=store
    )
    weak = made.seal(store, draft, suite=suite, scores=scored)
    heard: list[Request] = []
    proposed(
        tmp_path,
        store,
        weak,
        dataset,
        heard=heard,
        generator="hard_negative",
        rows=3,
        answers=answers,
    )
    near = [
        given["near"]
        for request in heard
        if "near" in (given := inside([dict(turn) for turn in request.messages]))
    ]
    assert len(near) == 3
    # The field that was wrong most often leads.
    assert all(list(misses[0]) == ["grams"] for misses in near)
    other = made.answers(store, suite, {row["id"]: "x" for row in asked})
    with pytest.raises(EvalError, match="weakness/w@v1 was not found in answers/tuned@v2"):
        proposed(tmp_path, store, weak, dataset, answers=other)


def test_a_field_that_is_the_same_everywhere_has_no_near_miss(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody]
) -> None:
    rows = [
        made.training_row(
            f"t{n}",
            made.asked("furnace", 900 + n),
            json.dumps({"mill": "north", "at": 900 + n // 2, "n": n}),
            "furnace",
        )
        for n in range(4)
    ]
    heard: list[Request] = []

    def said(messages: Messages) -> str:
        return teach(messages) if "near" in inside(messages) else '{"answer": "none"}'

    with pytest.raises(NothingProposed):
        proposed(
            tmp_path,
            store,
            weak,
            made.dataset(store, rows),
            said,
            heard,
            generator="hard_negative",
            rows=4,
        )
    near = [
        given["near"]
        for request in heard
        if "near" in (given := inside([dict(turn) for turn in request.messages]))
    ]
    assert len(near) == 4
    assert all([list(miss) for miss in misses] == [["at"], ["n"]] for misses in near)


def test_near_misses_of_answers_in_words_are_other_answers(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody]
) -> None:
    rows = [
        made.training_row(f"t{n}", made.asked("furnace", 900 + n), f"Metal {n % 2}", "furnace")
        for n in range(4)
    ]
    heard: list[Request] = []

    def said(messages: Messages) -> str:
        given = inside(messages)
        if "near" in given:
            return json.dumps({"question": f"{given['question']} Not {given['near'][0]}."})
        number = int(str(solved(given["question"])["kelvin"])) - 300 - 7 * 900
        return json.dumps({"answer": f"metal {number // 7 % 2}"})

    _, new = proposed(
        tmp_path,
        store,
        weak,
        made.dataset(store, rows),
        said,
        heard,
        generator="hard_negative",
        rows=4,
    )
    assert sorted(row["completion"] for row in new) == ["Metal 0", "Metal 0", "Metal 1", "Metal 1"]
