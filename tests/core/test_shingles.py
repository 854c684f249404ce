"""Words and shingles, the fast way, are those of the plain definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nexa.core import shingles
from nexa.core.shingles import HASH, IN_ANSWER, digest_64, hash_words, shingle, words

TEXTS = st.lists(
    st.text(st.sampled_from("abAZ019 .,-_\n\x00éßİ鉄は가٣½\u0301\ud800"), max_size=20), max_size=6
)


def test_a_number_with_its_decimals_is_one_word() -> None:
    assert words("T_m = 1811.0 K, d=7,874; H2O") == [*"tm", "1811.0", *"kd", "7,874", *"h2o"]
    assert words("鉄は金属") == ["鉄", "は", "金", "属"]


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_hashes_are_equal_where_words_are(texts: list[str]) -> None:
    hashes, ends = hash_words(texts)
    said = [words(text) for text in texts]
    assert np.diff(ends).tolist() == [len(row) for row in said]
    by_word = dict(zip([word for row in said for word in row], hashes.tolist(), strict=True))
    assert [by_word[word] for row in said for word in row] == hashes.tolist()
    assert len(set(by_word.values())) == len(by_word)


def test_words_of_a_language_have_hashes_of_their_own() -> None:
    said = [f"{a}{b}{c}{d}" for a in "abcdefgh" for b in "abcdefgh" for c in "xyz" for d in "stuv"]
    hashes, _ = hash_words([" ".join(said)])
    assert len(set(hashes.tolist())) == len(said) == 768
    assert abs(np.mean(hashes >> np.uint64(63)) - 0.5) < 0.1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[st.lists(st.sampled_from("abc"), max_size=9).map(" ".join)] * 2)))
def test_shingles_are_three_words_in_a_row(rows: list[tuple[str, str]]) -> None:
    (hashes, offsets), answer_words = shingle(rows)
    seen: dict[tuple[str, ...], int] = {}
    for row, (asked, answer) in enumerate(rows):
        said = words(f"{asked}\n{answer}")
        plain = {tuple(said[i : i + 3]) for i in range(max(len(said) - 2, min(len(said), 1)))}
        found = hashes[offsets[row] : offsets[row + 1]]
        assert (np.diff(found & HASH) > 0).all()
        assert len(found) == len(plain)
        (again, _), _ = shingle([("", " ".join(each)) for each in plain])
        assert set((found & HASH).tolist()) == set((again & HASH).tolist())
        seen |= dict(zip(plain, (again & HASH).tolist(), strict=True))
        assert answer_words[row] == len(words(answer))
    assert len(set(seen.values())) == len(seen)


def test_a_shingle_knows_whether_the_answer_has_it() -> None:
    ((hashes, _), _) = shingle([("a b c d", "e a b c f")])
    (([both], _), _) = shingle([("", "a b c")])
    marked = {int(h & HASH): bool(h & IN_ANSWER) for h in hashes}
    assert len(marked) == 6
    assert marked[int(both & HASH)]
    assert sum(marked.values()) == 3


def test_long_texts_and_many_give_what_each_gives_alone() -> None:
    texts = ["iron " * 10, "a metal " * (shingles.BLOCK_BYTES // 8), "gold", ""] * 2
    hashes, ends = hash_words(texts)
    alone = [hash_words([text])[0] for text in texts]
    assert np.array_equal(hashes, np.concatenate(alone))
    assert np.diff(ends).tolist() == [len(row) for row in alone]
    assert hash_words([])[1].tolist() == [0]


def test_a_digest_takes_any_text() -> None:
    assert digest_64("\ud800") != digest_64("")
