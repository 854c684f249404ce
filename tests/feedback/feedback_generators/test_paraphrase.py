"""Other words, the same answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nexa.core.records import Artifact, DatasetBody, WeaknessBody
from nexa.core.store import Store
from nexa.feedback.feedback_generators.asking import (
    NothingProposed,
)
from tests.feedback.teaching import (
    Messages,
    inside,
    proposed,
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("kelvin", "kelvin (or 5)"), "numbers changed"),
        (lambda text: f" {text.upper()}\n", "nothing was changed"),
        (lambda text: "No numbers at all.", "numbers changed"),
    ],
    ids=["more", "case alone", "fewer"],
)
def test_a_paraphrase_that_changes_numbers_or_nothing_is_none(
    tmp_path: Path,
    store: Store,
    weak: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    change: Callable[[str], str],
    reason: str,
) -> None:
    def said(messages: Messages) -> str:
        return json.dumps({"question": change(inside(messages)["question"])})

    with pytest.raises(NothingProposed) as failed:
        proposed(tmp_path, store, weak, dataset, said, generator="paraphrase", rows=2)
    assert failed.value.rejected == {reason: 2}
