"""Copies are found, rows of one template are not: measured against plain set arithmetic."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexa.core.overlap import (
    CONTAINED,
    NEAR_DUPLICATE,
    Example,
    clusters,
    copies,
    digest,
    example,
    leaks,
    memberships,
    normalise,
    numbers,
    overlapping,
)
from nexa.core.shingles import words

METALS = ["iron", "cobalt", "nickel", "copper", "zinc", "silver", "tin", "gold", "lead", "mercury"]
STYLE = (
    "In this note we report on a sample of {m} that was kept in a dry place for {d} days. "
    "The density was taken as {r} grams per cubic centimetre and the melting point as {t} kelvin. "
    "Return the record as JSON with the keys name, density and melting point."
)


def note(metal: str, seed: int) -> str:
    draw = random.Random(f"{metal}{seed}")
    return STYLE.format(
        m=metal, d=draw.randint(2, 400), r=draw.uniform(2, 20), t=draw.uniform(300, 2000)
    )


def shingles(text: str) -> set[tuple[str, ...]]:
    said = words(text)
    return {tuple(said[i : i + 3]) for i in range(max(len(said) - 2, min(len(said), 1)))}


def plain_jaccard(texts: list[str], a: int, b: int) -> float:
    """The definition, with sets and a counter."""
    rows = [shingles(text) for text in texts]
    found_in = Counter(shingle for row in rows for shingle in row)

    def weight(row: set[tuple[str, ...]]) -> float:
        return sum(math.log2(1 + len(texts) / found_in[shingle]) for shingle in row)

    union = weight(rows[a] | rows[b])
    return weight(rows[a] & rows[b]) / union if union else 1.0


def plain_clusters(texts: list[str], threshold: float) -> list[int]:
    """Every pair measured; joined by relabelling."""
    label = list(range(len(texts)))
    for a in range(len(texts)):
        for b in range(a):
            if label[a] != label[b] and plain_jaccard(texts, a, b) >= threshold:
                low, high = sorted((label[a], label[b]))
                label = [low if x == high else x for x in label]
    return label


def test_normalised_text_is_blind_to_blanks_and_composition_only() -> None:
    assert normalise("  a\n\tb  ") == "a b"
    assert digest("caf\u00e9") == digest("cafe\u0301")
    assert digest("a b") == digest("a\nb ")
    assert digest("us") != digest("US")
    assert len(digest("\ud800")) == 64


def test_numbers_are_told_with_their_decimals() -> None:
    assert numbers("b 12, a 3.5 and 12") == ("12", "12", "3.5")


def test_an_example_leaves_out_system_turns() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "q2"},
        {"role": "assistant", "content": "a2"},
    ]
    assert example(messages) == Example("q\na\nq2", "a2")
    assert example(messages).text == "q\na\nq2\na2"


def test_rows_of_one_template_are_not_duplicates() -> None:
    texts = [note(metal, seed) for metal in METALS for seed in range(4)]
    assert clusters(texts) == list(range(40))


def test_a_copy_with_one_word_changed_joins_its_original_and_the_first_leads() -> None:
    texts = [note(metal, 0) for metal in METALS]
    copies = [text.replace("dry", "moist") for text in texts]
    assert clusters(texts + copies) == list(range(10)) * 2


def test_a_chain_of_small_changes_is_one_cluster() -> None:
    said = [f"word{i}" for i in range(60)]
    chain = [" ".join(said[i : i + 50]) for i in range(0, 11, 2)]
    others = [" ".join(f"other{k}x{i}" for i in range(50)) for k in range(20)]
    assert plain_jaccard(chain + others, 0, 5) < NEAR_DUPLICATE
    assert clusters(chain + others)[:6] == [0] * 6


def test_a_row_between_two_clusters_names_both_and_moves_neither() -> None:
    left = [f"left{i}" for i in range(40)]
    right = [f"right{i}" for i in range(40)]
    others = [" ".join(f"other{k}x{i}" for i in range(50)) for k in range(20)]
    ends = [" ".join(left + right[:14]), " ".join(left[26:] + right)]
    between = " ".join(left[4:] + right[:36])
    before = memberships([*others, *ends])
    after = memberships([*others, *ends, between], 0.55)
    assert before == [(i,) for i in range(22)]
    assert after == [*before, (20, 21)]
    assert clusters([*others, *ends, between], 0.55) == [*range(21), 20, 20]


def test_many_copies_of_one_row_are_one_cluster() -> None:
    texts = [note("iron", 0) + "!" * i for i in range(500)] + [note("gold", 1)]
    assert clusters(texts) == [0] * 500 + [500]


def test_texts_without_a_word_are_alike_and_unlike_all_others() -> None:
    assert clusters(["...", note("iron", 0), "", "!?"]) == [0, 1, 0, 0]
    assert clusters([]) == []
    assert overlapping(["..."], [note("iron", 0)]) == []
    assert overlapping([], []) == []


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_those_of_every_pair_measured(seed: int) -> None:
    draw = random.Random(seed)
    texts = []
    for _ in range(12):
        said = [draw.choice("abcdefghijklmnop") * draw.randint(1, 3) for _ in range(30)]
        for _ in range(3):
            texts.append(" ".join(said))
            for _ in range(draw.randint(0, 3)):
                said[draw.randrange(30)] = draw.choice("xyz")
    assert clusters(texts) == plain_clusters(texts, NEAR_DUPLICATE)
    assert clusters(texts, 0.9) == plain_clusters(texts, 0.9)


SHORT_TEXTS = st.lists(
    st.lists(st.sampled_from([*"abcdef", "1", "2.5"]), max_size=12).map(" ".join), max_size=6
)


@settings(max_examples=200, deadline=None)
@given(SHORT_TEXTS, SHORT_TEXTS)
def test_overlaps_are_those_of_every_pair_measured(train: list[str], held_out: list[str]) -> None:
    both = train + held_out
    found = {(hit.train_index, hit.eval_index) for hit in overlapping(train, held_out)}
    expected = {
        (i, j)
        for i in range(len(train))
        for j in range(len(held_out))
        if plain_jaccard(both, i, len(train) + j) >= NEAR_DUPLICATE
        and words(train[i])
        and words(held_out[j])
    }
    assert found == expected


def test_the_same_prompt_is_a_leak_whatever_the_answer() -> None:
    train = [Example("Name a metal.", "iron"), Example("Name a gas.", "argon")]
    held_out = [Example("Name  a metal.", "It could be tin, or lead, or zinc.")]
    (hit,) = leaks(train, held_out)
    assert (hit.train_index, hit.eval_index, hit.reason) == (0, 0, "same prompt")


def test_texts_without_a_prompt_do_not_have_the_same_one() -> None:
    train = [Example("", "Iron melts at a heat that few fires reach.")]
    held_out = [Example("", "Gold was found in rivers by people with patience.")]
    assert leaks(train, held_out) == []
    assert [hit.reason for hit in leaks(train, train)] == ["near-duplicate"]


def test_a_held_out_row_with_one_word_changed_is_a_leak() -> None:
    train = [Example(note(metal, seed), metal) for metal in METALS for seed in range(3)]
    held_out = [Example(note("osmium", 0), "osmium"), Example(note("radium", 0), "radium")]
    train[7] = Example(held_out[1].prompt.replace("sample", "piece"), "radium")
    (hit,) = leaks(train, held_out)
    assert (hit.train_index, hit.eval_index, hit.reason) == (7, 1, "near-duplicate")
    assert NEAR_DUPLICATE <= hit.score < 1


def test_a_held_out_row_quoted_inside_a_longer_one_is_a_leak() -> None:
    train = [Example(note(metal, 0), metal) for metal in METALS]
    quoted = note("osmium", 0)
    essay = " ".join(f"essay{i}" for i in range(200))
    train.append(Example(f"{essay} {quoted} osmium {essay}", "yes"))
    (hit,) = leaks(train, [Example(quoted, "osmium")])
    assert (hit.train_index, hit.reason) == (10, "contained")
    assert hit.score >= CONTAINED


def test_a_few_words_inside_a_longer_text_are_no_leak() -> None:
    essay = " ".join(f"essay{i}" for i in range(50))
    train = [Example(f"{essay} what is two and two {essay}", "four")]
    assert leaks(train, [Example("What is two and two?", "four")]) == []


def test_a_row_that_leaks_twice_tells_the_best_first() -> None:
    held_out = [Example("a b c d e f g h", "x"), Example("a b c d e f g h", "y")]
    hits = leaks([Example("a b c d e f g h", "y")], held_out)
    assert [hit.eval_index for hit in hits] == [0, 1]
    assert hits[0].score == 1.0


def essay(seed: str, words: int = 80) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice("abcdefghij") + draw.choice("klmnop") * 3 for _ in range(words))


def copies_of(original: Example, *others: Example) -> list[int]:
    """Which of the others are copies of the first row, among rows that are like none of them."""
    strangers = [Example(essay(f"stranger {k}"), essay(f"answer {k}", 20)) for k in range(20)]
    found = copies([*strangers, original, *others])
    assert found[:21] == list(range(21))
    return [k for k, first in enumerate(found[21:]) if first == 20]


def test_two_neighbouring_words_in_eighty_make_no_other_row() -> None:
    said = essay("original").split()
    changed = " ".join([*said[:40], "other", "words", *said[42:]])
    answer = essay("answer", 10)
    assert copies_of(Example(" ".join(said), answer), Example(changed, answer)) == [0]


def test_a_number_a_sign_or_a_short_answer_makes_another_row() -> None:
    text = essay("original")
    original = Example(f"{text} when a + b is -5", "yes")
    others = [
        Example(f"{text} when a + b is -5!", "yes"),
        Example(f"{text} when a + b is -5", "no"),
        Example(f"{text} when a + b is -6", "yes"),
        Example(f"{text} when a + b is 5", "yes"),
        Example(f"{text} when a = b is -5", "yes"),
        Example(f"{text} when a \u2264 b is -5", "yes"),
        Example(f"{text.upper()} when A + B is -5", "yes"),
        Example(f"{text} when a + b is -5", "Yes"),
    ]
    assert copies_of(original, *others) == [0, 6]


def test_one_context_with_two_questions_and_long_answers_is_two_rows() -> None:
    context = essay("context", 400)
    rows = [Example(f"{context} {essay(q, 4)}?", essay(f"answer {q}", 16)) for q in "ab"]
    assert copies_of(rows[0], rows[1]) == []
    same = Example(rows[0].prompt, rows[0].answer.replace(" ", ", ", 3))
    assert copies_of(rows[0], rows[1], same) == [1]


def test_a_copy_of_a_copy_stays_if_it_is_far_from_the_original() -> None:
    said, answer = essay("original").split(), essay("answer", 10)
    chain = [
        Example(" ".join([*(f"new{w}" for w in said[:k]), *said[k:]]), answer) for k in (0, 3, 6, 9)
    ]
    assert copies_of(chain[0], *chain[1:]) == [0]


def test_settled_rows_stay_and_texts_without_a_word_have_no_copies() -> None:
    row = Example(essay("text"), "yes")
    assert copies([row, row, row], settled=2) == [0, 1, 0]
    assert copies([Example("...", "!"), Example("???", "!")]) == [0, 1]
    assert copies([]) == []
