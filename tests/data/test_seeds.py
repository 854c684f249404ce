"""What teachers are shown, and in which order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from nexa.core.errors import DataError
from nexa.core.store import Store
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.seeds import Seed, order, pieces, training_seeds
from nexa.data.sources import Source
from nexa.lm.resolve import ModelFiles
from tests.data.build import pair
from tests.data.conftest import WriteRows
from tests.support.chain import seal

SYSTEM = {"role": "system", "content": "Be brief."}
SEED = Seed(
    "id",
    (
        SYSTEM,
        {"role": "user", "content": "A?"},
        {"role": "assistant", "content": "B."},
        {"role": "user", "content": "C?"},
        {"role": "assistant", "content": "D."},
    ),
    "group",
    None,
)


def test_a_seed_has_its_turns_its_question_and_its_answer() -> None:
    assert SEED.asked == "A?\nB.\nC?"
    assert SEED.answer == "D."
    assert [turn["content"] for turn in SEED.before] == ["Be brief.", "A?", "B.", "C?"]
    assert [turn["content"] for turn in SEED.asked_as("E?")] == ["Be brief.", "A?", "B.", "E?"]
    assert SEED.system_and("F?") == (SYSTEM, {"role": "user", "content": "F?"})


def test_every_row_comes_once_before_any_comes_again() -> None:
    drawn = order(5, 12, seed=1)
    assert Counter(index for index, _ in drawn[:5]) == dict.fromkeys(range(5), 1)
    assert [number for _, number in drawn] == [1] * 5 + [2] * 5 + [3] * 2
    assert drawn == order(5, 12, seed=1)
    assert drawn != order(5, 12, seed=2)
    assert order(5, 20, seed=1)[:12] == drawn


def test_plain_texts_are_no_seeds(
    write_rows: WriteRows, model: ModelFiles, store: Store, tmp_path: Path
) -> None:
    path = write_rows([{"text": pair(n)[0]} for n in range(4)])
    spec = PrepareSpec("texts", (Source.of(path),), model, scratch=tmp_path)
    dataset = seal(store, "prepare", prepare(spec, store=store))
    with pytest.raises(DataError, match="no question and answer"):
        training_seeds(dataset, store)


def test_documents_are_cut_into_pieces_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One\ntext\n\n# Two\nmore\n")
    (tmp_path / "b.jsonl").write_text('{"text": "a row"}\n{"words": "none"}\n')
    found = pieces([Source.of(tmp_path / "a.md"), Source.of(tmp_path / "b.jsonl")])
    assert [piece.origin for piece in found] == ["a.md:1", "a.md:4", "b.jsonl:1"]
    with pytest.raises(DataError, match="no document to ask about"):
        pieces([])
