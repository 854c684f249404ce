from __future__ import annotations

import pytest

from nexa.eval.tasks.text import TEXT, grade


@pytest.mark.parametrize(
    ("answer", "target", "f1", "exact"),
    [
        ("The cat sat.", "The cat sat.", 1, 1),
        ("  the cat SAT\n", "The cat sat.", 1, 0),
        (" The cat sat. ", "The cat sat.", 1, 1),
        ("the the cat", "the cat sat", 2 * 2 / 6, 0),
        ("a dog", "the cat", 0, 0),
        ("", "the cat", 0, 0),
        ("", "", 1, 1),
        ("!", "?", 0, 0),
        ("Straße 7", "STRASSE 7", 1, 0),
    ],
)
def test_words_are_compared_without_case_and_order(
    answer: str, target: str, f1: float, exact: float
) -> None:
    made = grade(answer, target)
    assert made.scores == {"token_f1": pytest.approx(f1), "exact_match": exact}
    assert made.detail == {"empty": int(not answer.strip())}
    assert TEXT.grader([target])(answer, target) == made


def test_anything_but_nothing_is_text() -> None:
    assert TEXT.fits(["x"])
    assert not TEXT.fits([])
