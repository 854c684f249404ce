"""Copies go, records that differ in a number stay."""

from __future__ import annotations

from nexa.data.filters.duplicates import drop_exact, drop_near
from tests.data.build import pair, row


def test_the_first_of_exact_copies_stays() -> None:
    rows = [
        row("What is  it?", "Fe", 1),
        row("What is\nit?", "Fe ", 2),
        row("What is it?", "Co", 3),
    ]
    kept, rejects = drop_exact(rows)
    assert kept == [rows[0], rows[2]]
    assert [(r.line.number, r.reason, r.detail) for r in rejects] == [
        (2, "exact duplicate", "the same as rows.jsonl:1")
    ]


def test_an_id_is_one_rows_own() -> None:
    rows = [row("a", "b", 1, id="x"), row("c", "d", 2, id="x"), row("a", "b", 3, id="y")]
    kept, rejects = drop_exact(rows)
    assert kept == rows[:1]
    assert [reject.reason for reject in rejects] == ["id used twice", "exact duplicate"]


def test_another_case_or_punctuation_is_a_near_copy() -> None:
    asked, said = pair(1)
    others = [row(*pair(seed), seed) for seed in range(2, 20)]
    rows = [row(asked, said, 1), *others, row(f"{asked.upper()}!", said, 20)]
    kept, rejects = drop_near(rows)
    assert kept == rows[:-1]
    assert rejects[0].reason == "near-duplicate"
    assert rejects[0].detail == "nearly the same as rows.jsonl:1"


def test_one_word_in_a_hundred_is_a_near_copy_but_one_number_is_another_record() -> None:
    asked, said = pair(1, words=150)
    said = "the answer"
    others = [row(*pair(seed), seed) for seed in range(3, 20)]
    word = row(asked + " indeed", said, 20)
    number = row(asked.replace(asked.split()[70], "bamel1001"), said, 21)
    same_again = row(asked.replace(asked.split()[70], "bamel1001") + " indeed", said, 22)
    kept, rejects = drop_near([row(asked, said, 1), *others, word, number, same_again])
    assert [reject.line.number for reject in rejects] == [20, 22]
    assert number in kept


def test_rows_of_one_template_all_stay() -> None:
    def text(k: int) -> str:
        return f"In this note we look at sample {k} and find the value {k * 7.5}. Give it as JSON."

    rows = [row(text(k), f'{{"value": {k * 7.5}}}', k) for k in range(50)]
    assert drop_near(rows) == (rows, [])
    assert drop_near([]) == ([], [])
