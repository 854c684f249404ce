from __future__ import annotations

import pytest

from nexa.feedback.likeness import centres, cosine, nearest_centre
from tests.feedback import made

TEXTS = [made.asked(domain, n) for domain in made.TEXTS for n in range(8)]


def test_questions_in_like_words_have_a_centre_of_their_own() -> None:
    found = centres(TEXTS, 3, seed=0)
    words = [centre.words for centre in found]
    of = [nearest_centre(text, words) for text in TEXTS]
    assert [len(set(of[i : i + 8])) for i in (0, 8, 16)] == [1, 1, 1]
    assert len(set(of)) == 3
    assert any("furnace" in centre.words for centre in found)
    # Figures differ in every row, and say nothing of what it is about.
    assert not any(any(c.isdigit() for c in word) for centre in found for word in centre.words)


def test_equal_texts_and_seed_give_equal_centres() -> None:
    assert centres(TEXTS, 3, seed=1) == centres(TEXTS, 3, seed=1)


def test_new_rows_find_the_centre_of_their_kind() -> None:
    words = [centre.words for centre in centres(TEXTS, 3, seed=0)]
    for domain in made.TEXTS:
        new, old = (nearest_centre(made.asked(domain, n), words) for n in (500, 0))
        assert new == old


@pytest.mark.parametrize(
    "texts", [[], ["12 13"] * 9, ["all the same"] * 20, ["one two", "three four", "five six"]]
)
def test_rows_that_are_few_or_all_alike_have_no_centres(texts: list[str]) -> None:
    assert centres(texts, 3, seed=0) == []


def test_centres_of_one_name_are_numbered() -> None:
    # Words that k-means sets apart by weight alone: the same ones lead both times.
    texts = [f"{'a b c ' * (1 + n % 3)}{'xyz'[n % 3] * 2} only" for n in range(24)]
    names = [centre.name for centre in centres(texts, 4, seed=0)]
    assert len(set(names)) == len(names)


def test_a_text_that_shares_no_word_is_near_to_nothing() -> None:
    assert nearest_centre("entirely elsewhere", [{"iron": 1.0}]) is None
    assert nearest_centre("iron", []) is None


def test_alike_is_in_the_words_without_figures() -> None:
    assert cosine("iron at 300 K", "iron at 700 K") == pytest.approx(1.0)
    assert cosine("iron at 300 K", "a letter") == 0.0
    assert cosine("12", "") == 0.0
