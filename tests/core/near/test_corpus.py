"""What lies in files gives what texts in memory give, and crowds are not measured pair by pair."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexa.core import overlap
from nexa.core.errors import IntegrityError
from nexa.core.near import counts as near_counts
from nexa.core.near import joins as near_joins
from nexa.core.near import leaks as near_leaks
from nexa.core.near import measure as near_measure
from nexa.core.near import pairs as near_pairs
from nexa.core.near import shelf as near_shelf
from nexa.core.near.corpus import Corpus, ShingleWriter
from nexa.core.overlap import NEAR_DUPLICATE, Example

WORDS = [f"{a}{b}{c}" for a in "bcdfglmn" for b in "aeiou" for c in "krstvz"]


def corpus(rows: Sequence[Example], folder: Path, files: int = 1, workers: int = 1) -> Corpus:
    """Rows in so many files."""
    paths = []
    for number, part in enumerate(np.array_split(np.arange(len(rows)), files)):
        paths.append(folder / f"{number}.shingles")
        with ShingleWriter(paths[-1]) as writer:
            for at in range(0, len(part), 7):
                writer.add([rows[row] for row in part[at : at + 7]])
    return Corpus(paths, folder, workers=workers)


def said(seed: str, words: int = 40) -> list[str]:
    """Words that no other seed gives in this order."""
    draw = random.Random(seed)
    return [draw.choice(WORDS) for _ in range(words)]


def row(words: Sequence[str], asked: int = 10) -> Example:
    return Example(" ".join(words[:asked]), " ".join(words[asked:]))


def changed(words: Sequence[str], at: int, count: int = 1) -> list[str]:
    """The words with some that stand together replaced."""
    new = [f"{word}{chr(97 + at % 26)}{chr(97 + at // 26)}x" for word in words[at : at + count]]
    return [*words[:at], *new, *words[at + count :]]


def all_memberships(found: Corpus, threshold: float) -> list[tuple[int, ...]]:
    memberships = found.memberships(threshold)
    return [memberships.of(i) for i in range(len(found))]


def first_hits(rows: Sequence[Example], held_out: Sequence[Example]) -> list[overlap.Hit]:
    """Of each row that leaks its best hit, as `overlap` has them."""
    best: dict[int, overlap.Hit] = {}
    for hit in overlap.leaks(rows, held_out):
        best.setdefault(hit.train_index, hit)
    return list(best.values())


# Texts of a few words from few, so that templates, copies and chains come about by themselves.
TEXTS = st.lists(
    st.sampled_from([*"abcdefgh", "1", "2.5", "鉄", "は", "+", "..", "É", "e\u0301"]), max_size=24
)
BASES = st.lists(TEXTS, min_size=1, max_size=4)
EDITS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 23), st.sampled_from("abxyz1")), max_size=30
)


def edited(bases: list[list[str]], edits: list[tuple[int, int, str]], asked: int) -> list[Example]:
    """Texts, and copies of them with a word changed, each a change of the one before."""
    texts = [list(base) for base in bases]
    found = [row(base, asked) for base in bases]
    for base, at, word in edits:
        words = texts[base % len(texts)]
        if words:
            words[at % len(words)] = word
        found.append(row(words, asked))
    return found


@settings(max_examples=150, deadline=None)
@given(BASES, EDITS, st.integers(0, 12), st.sampled_from([(1, 1), (3, 1), (2, 2)]), st.data())
def test_files_give_what_memory_gives(
    bases: list[list[str]],
    edits: list[tuple[int, int, str]],
    asked: int,
    shape: tuple[int, int],
    data: st.DataObject,
) -> None:
    rows = edited(bases, edits, asked)
    threshold = data.draw(st.sampled_from([0.5, NEAR_DUPLICATE, 0.9]))
    settled = data.draw(st.integers(0, len(rows)))
    cut = data.draw(st.integers(0, len(rows)))
    together = near_pairs.MOST_TOGETHER
    near_pairs.MOST_TOGETHER = data.draw(st.sampled_from([2, together]))
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = corpus(rows, Path(folder), *shape)
            texts = [each.text for each in rows]
            assert all_memberships(found, threshold) == overlap.memberships(texts, threshold)
            assert found.copies(settled=settled).tolist() == overlap.copies(rows, settled=settled)
        with tempfile.TemporaryDirectory() as folder:
            some = corpus(rows[:cut], Path(folder), *shape)
            assert some.leaks(rows[cut:]) == first_hits(rows[:cut], rows[cut:])
    finally:
        near_pairs.MOST_TOGETHER = together


def test_rows_that_take_no_part_still_count_for_the_weights(tmp_path: Path) -> None:
    texts = [said(f"text {k}", 80) for k in range(30)]
    rows = [row(words) for words in texts]
    rows += [row(changed(words, 20)) for words in texts]
    found = corpus(rows, tmp_path, files=3)
    alive = np.ones(60, bool)
    alive[[3, 34]] = False
    copies = found.copies(alive=alive)
    assert copies[[3, 34]].tolist() == [-1, -1]
    assert copies[33] == 33  # its first row is out
    assert copies[35] == 5
    memberships = found.memberships(NEAR_DUPLICATE, alive=alive)
    assert memberships.of(3) == memberships.of(34) == ()
    assert memberships.of(33) == (33,)
    assert memberships.of(35) == (5,)
    hits = found.leaks([row(texts[3]), row(texts[7])], alive=alive)
    assert [(hit.train_index, hit.eval_index, hit.reason) for hit in hits] == [
        (7, 1, "same prompt"),
        (33, 0, "same prompt"),
        (37, 1, "same prompt"),
    ]


def test_rows_that_are_out_from_the_start_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    texts = [said(f"text {k}", 60) for k in range(20)]
    rows = [row(changed(words, 30, k // 20)) for k, words in enumerate(texts * 2)]
    rows += [row(texts[0])] * 40
    alive = np.ones(80, bool)
    alive[[7, *range(41, 80)]] = False
    some = [rows[k] for k in np.flatnonzero(alive)]
    held_out = [row(changed(words, 20)) for words in texts[:5]]
    (tmp_path / "all").mkdir()
    (tmp_path / "some").mkdir()
    paths = [tmp_path / "all" / "0.shingles"]
    with ShingleWriter(paths[0]) as writer:
        writer.add(rows)
    found = Corpus(paths, tmp_path, alive=alive)
    expected = corpus(some, tmp_path / "some")
    place = np.cumsum(alive) - 1
    copies = found.copies()
    assert (copies[~alive] == -1).all()
    assert place[copies[alive]].tolist() == expected.copies().tolist()
    heads = [found.memberships(0.8).of(k) for k in range(80)]
    assert all(not heads[k] for k in np.flatnonzero(~alive))
    assert [tuple(place[list(heads[k])]) for k in np.flatnonzero(alive)] == all_memberships(
        expected, 0.8
    )
    hits = [(int(place[hit.train_index]), hit.score) for hit in found.leaks(held_out)]
    assert hits == [(hit.train_index, hit.score) for hit in expected.leaks(held_out)]


def test_every_planted_copy_is_found_and_nothing_else(tmp_path: Path) -> None:
    draw = random.Random(0)
    texts = [said(f"text {k}", 80) for k in range(600)]
    planted = [changed(texts[k], draw.randrange(2, 76), 2) for k in range(300)]
    found = corpus([row(words, 30) for words in texts + planted], tmp_path, files=2)
    assert found.copies().tolist() == [*range(600), *range(300)]
    assert found.measured_pairs < 700  # a pair is measured whole, and its answers


@pytest.mark.parametrize("size", [3000])
def test_a_crowd_of_equal_texts_is_measured_once_each(tmp_path: Path, size: int) -> None:
    words = said("all the same")
    found = corpus([row(words)] * size + [row(said("another"))], tmp_path)
    assert found.copies().tolist() == [0] * size + [size]
    assert found.memberships(NEAR_DUPLICATE).heads.tolist() == [0] * size + [size]
    assert found.measured_pairs < 4 * size


def test_a_template_that_all_share_costs_nothing(tmp_path: Path) -> None:
    template = said("template", 60)
    rows = [row([*template, *said(f"own {k}", 12)]) for k in range(2000)]
    found = corpus(rows, tmp_path)
    assert found.copies().tolist() == list(range(2000))
    assert found.memberships(NEAR_DUPLICATE).heads.tolist() == list(range(2000))
    assert found.measured_pairs == 0


def test_a_crowd_of_small_changes_is_one_cluster(tmp_path: Path) -> None:
    words, draw = said("one of many", 60), random.Random(0)
    rows = [row(changed(words, draw.randrange(60))) for _ in range(200)]
    others = [row(said(f"other {k}", 60)) for k in range(3000)]
    found = corpus(rows + others, tmp_path)
    heads = found.memberships(NEAR_DUPLICATE).heads.tolist()
    assert heads == [0] * 200 + list(range(200, 3200))
    assert found.measured_pairs < 40 * 200


def test_two_crowds_that_are_somewhat_alike_stay_apart(tmp_path: Path) -> None:
    common, left, right = said("common", 50), said("left", 30), said("right", 30)
    draw = random.Random(0)
    rows = []
    for _ in range(100):
        rows.append(row(changed([*common, *left], draw.randrange(50, 78))))
        rows.append(row(changed([*common, *right], draw.randrange(50, 78))))
    rows += [row(said(f"other {k}", 60)) for k in range(1500)]
    found = corpus(rows, tmp_path)
    texts = [each.text for each in rows]
    assert all_memberships(found, NEAR_DUPLICATE) == overlap.memberships(texts)
    assert found.copies().tolist() == overlap.copies(rows)
    assert found.measured_pairs < 40 * 200  # of 20,000 pairs


@pytest.mark.parametrize("prepared", [0, 1 << 20])
@pytest.mark.parametrize("seed", range(6))
def test_chains_in_crowds_join_as_they_do_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, prepared: int
) -> None:
    monkeypatch.setattr(near_pairs, "MOST_TOGETHER", 2)
    monkeypatch.setattr(near_joins, "MOST_PREPARED", prepared)
    monkeypatch.setattr(near_joins, "CHUNK", 3)
    draw = random.Random(seed)
    walkers = [said("the same for all", 40) for _ in range(3)]
    rows = []
    for _ in range(120):
        words = draw.choice(walkers)
        words[draw.randrange(30)] = draw.choice(WORDS[:40])
        rows.append(row(words))
    rows += [row(said(f"other {k}")) for k in range(400)]
    found = corpus(rows, tmp_path)
    texts = [each.text for each in rows]
    for threshold in (0.6, 0.8):
        assert all_memberships(found, threshold) == overlap.memberships(texts, threshold)
    assert found.copies(settled=2).tolist() == overlap.copies(rows, settled=2)


def test_blocks_and_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (near_shelf, "BLOCK", 300),
        (near_counts, "PART", 100),
        (near_measure, "MOST_PAIRS", 3),
        (near_pairs, "BLOCK", 5),
        (near_pairs, "ROWS", 4),
        (near_leaks, "MOST_HITS", 10),
    ):
        monkeypatch.setattr(module, name, value)
    texts = [said(f"text {k % 60}", 80) for k in range(120)]
    rows = [row(changed(words, 40, k // 60)) for k, words in enumerate(texts)]
    held_out = [row(changed(words, 20)) for words in texts[:20]]
    found = corpus(rows, tmp_path, files=3, workers=2)
    assert all_memberships(found, 0.7) == overlap.memberships([each.text for each in rows], 0.7)
    assert found.copies().tolist() == overlap.copies(rows)
    assert found.leaks(held_out) == first_hits(rows, held_out)


def test_a_label_that_differs_makes_another_row(tmp_path: Path) -> None:
    text = " ".join(said("a long prompt", 80))
    rows = [Example(text, "yes"), Example(f"{text}!", "no"), Example(f"{text}.", "yes")]
    rows += [row(said(f"other {k}")) for k in range(5)]
    found = corpus(rows, tmp_path)
    assert found.copies().tolist() == [0, 1, 0, *range(3, 8)]


def test_no_rows_are_a_corpus_too(tmp_path: Path) -> None:
    found = corpus([], tmp_path)
    assert len(found) == 0
    assert found.copies().tolist() == []
    assert found.memberships(NEAR_DUPLICATE).heads.tolist() == []
    assert found.leaks([row(said("held out"))]) == []
    assert len(Corpus([], tmp_path)) == 0


def test_a_writer_that_fails_leaves_no_file(tmp_path: Path) -> None:
    writer = ShingleWriter(tmp_path / "x")
    writer.add([row(said("text"))])
    with pytest.raises(AttributeError), writer:
        writer.add([None])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "x.shingles"
    with ShingleWriter(path) as writer:
        writer.add([row(said("text"))])
    path.write_bytes(path.read_bytes()[8:] if damage is None else damage)
    with pytest.raises(IntegrityError, match="not a finished file"):
        Corpus([path], tmp_path)
