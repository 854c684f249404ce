from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nexa.core.errors import ModelError, VocabularyError
from nexa.weights.merge_models.plan import Plan, Source
from nexa.weights.merge_models.recipe import recipe_of
from tests.weights.merge_models.made import (
    edit_json,
    edit_tensors,
    model,
    pad,
    planned_recipe,
    swap_ids,
    task,
)

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


def linear(*folders: Path, tokenizer: Path | None = None) -> Plan:
    wanted = None if tokenizer is None else str(tokenizer)
    return planned_recipe(recipe_of("linear", [str(f) for f in folders], tokenizer=wanted))


# -- rows ----------------------------------------------------------------------------------------


def test_other_ids_move_the_rows_of_that_model(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one"), model(tmp_path / "other", seed=1)
    swap_ids(other, 10, 20)
    found = linear(one, other)
    rows = list(range(320))
    rows[10], rows[20] = 20, 10
    assert found.rows == {1: tuple(rows)}
    assert found.tokenizer == 0
    assert any("other ids" in note for note in found.notes)
    assert linear(one, other, tokenizer=other).rows == {0: tuple(rows)}


def test_a_longer_padding_is_cut_to_the_smallest(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one"), model(tmp_path / "other", seed=1)
    pad(other, 304)
    found = linear(one, other)
    assert found.config["vocab_size"] == 304
    assert found.rows == {0: tuple(range(304))}
    assert task(found, EMBEDDING).shape == (304, 32)
    assert found.notes == (
        "the embeddings are padded to unlike sizes (one 320, other 304 rows): the child has 304",
    )


def test_a_token_may_stand_anywhere_among_the_padding(tmp_path: Path) -> None:
    """A token at row 310 of a model of 320 rows comes to row 299 of a child of 304."""
    one, other = model(tmp_path / "one"), model(tmp_path / "other", seed=1)
    pad(one, 304)
    swap_ids(other, 299, 310)
    found = linear(one, other)
    assert found.rows == {1: (*range(299), 310, 299, 300, 301, 302)}


def test_an_id_without_a_row_is_refused(tmp_path: Path) -> None:
    one = model(tmp_path / "one")
    pad(one, 290)
    with pytest.raises(VocabularyError, match="the tokenizer of one has ids") as caught:
        linear(one)
    assert caught.value.found == "ids up to 299, 290 rows"


def test_ids_beyond_the_smallest_embedding_are_refused(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one"), model(tmp_path / "other", seed=1)
    pad(other, 304)
    swap_ids(one, 299, 310)
    with pytest.raises(VocabularyError, match="beyond the smallest embedding") as caught:
        linear(one, other)
    assert caught.value.found == "ids up to 310, 304 rows"
    # The other's ids fit.
    assert linear(one, other, tokenizer=other).config["vocab_size"] == 304


# -- heads ---------------------------------------------------------------------------------------


def test_a_head_of_its_own_unties_the_child(tmp_path: Path) -> None:
    tied, own = model(tmp_path / "tied"), model(tmp_path / "own", tied=False, seed=1)
    found = linear(tied, own)
    assert not found.tie
    assert found.config["tie_word_embeddings"] is False
    assert task(found, HEAD).sources == (Source(0, EMBEDDING), Source(1, HEAD))
    assert task(found, HEAD).vocabulary
    assert found.notes == (
        "own has a head of its own, other models have their embedding as head: the child has a "
        "head of its own",
    )


def test_a_stored_head_that_is_the_embedding_leaves_the_child_tied(tmp_path: Path) -> None:
    tied, own = model(tmp_path / "tied"), model(tmp_path / "own", tied=False, seed=1)
    edit_tensors(own, lambda tensors: tensors.update({HEAD: tensors[EMBEDDING].clone()}))
    found = linear(own, tied)
    assert found.tie
    assert found.config["tie_word_embeddings"] is True
    assert HEAD not in {t.name for t in found.tasks}
    assert found.notes == ("the head of own is its embedding: the child has one for both",)


def test_models_with_heads_of_their_own_keep_them_even_where_equal(tmp_path: Path) -> None:
    one, other = (model(tmp_path / name, tied=False) for name in ("one", "other"))
    edit_tensors(one, lambda tensors: tensors.update({HEAD: tensors[EMBEDDING].clone()}))
    assert not linear(one, other).tie


def test_a_head_of_another_size_than_the_embedding_is_its_own(tmp_path: Path) -> None:
    tied, own = model(tmp_path / "tied"), model(tmp_path / "own", tied=False, seed=1)
    edit_tensors(own, lambda tensors: tensors.update({HEAD: torch.zeros(320, 16)}))
    with pytest.raises(ModelError, match=r"cannot merge lm_head\.weight"):
        linear(tied, own)


def test_a_tied_model_may_store_its_head_too(tmp_path: Path) -> None:
    one = model(tmp_path / "one")
    edit_tensors(one, lambda tensors: tensors.update({HEAD: tensors[EMBEDDING].clone()}))
    found = linear(one)
    assert found.tie
    assert HEAD not in {t.name for t in found.tasks}


def test_a_tied_model_with_another_head_is_refused(tmp_path: Path) -> None:
    one = model(tmp_path / "one")
    edit_tensors(one, lambda tensors: tensors.update({HEAD: tensors[EMBEDDING] + 1}))
    with pytest.raises(ModelError, match="one says its head and embeddings are tied"):
        linear(one)


def test_a_model_without_a_head_is_refused(tmp_path: Path) -> None:
    one = model(tmp_path / "one")
    edit_json(one / "config.json", lambda told: told.update(tie_word_embeddings=False))
    with pytest.raises(ModelError, match="one has no head") as caught:
        linear(one)
    assert caught.value.found == "no lm_head.weight"
