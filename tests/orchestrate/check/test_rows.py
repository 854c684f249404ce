"""Template, mask, length, leaks and the dataset: what is told of good rows and of bad ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import DataError, LeakError, MaskError, TemplateError, TruncationError
from nexa.lm.chat import Rendered
from nexa.orchestrate.check import rows as checks
from nexa.orchestrate.check.state import Flight
from tests.orchestrate.check.made import flight
from tests.support.project import rows, write_rows

ENDED = "<|im_end|>"


def said(question: str, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def refused(number: int) -> dict[str, Any]:
    """A row that no template can take: its text holds the end-of-turn token."""
    return said(f"Question {number}?", f"{ENDED} {number}")


def test_a_good_project_is_told_in_numbers(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    assert checks.template(made) == f"the tokenizer's own; a turn ends with {ENDED}"
    assert "tokens bear loss in 40 rows" in checks.mask(made)
    assert checks.truncation(made) == "at most 128 tokens a row, the longest has 87"
    assert checks.leakage(made) == "none of 10 held-out rows is in 40 training rows"
    assert checks.dataset(made) == "40 rows to train on of 40"
    assert set(made.records) == {"dataset", "suite"}
    assert made.records["dataset"].inputs["suite"] == made.records["suite"].digest
    assert made.facts["label_tokens"] > 0
    assert made.facts["tokens_a_row"] == pytest.approx(81.4, abs=0.1)


def test_without_a_held_out_file_a_share_is_held_out(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama, data={"eval_path": None})
    assert checks.leakage(made) == "10% of the rows are held out, whole groups at a time"
    assert checks.dataset(made).endswith("rows to train on of 40")
    assert made.records["suite"].inputs["dataset"] == made.records["dataset"].digest


def test_rows_that_the_template_refuses_are_counted(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    good = [said(f"What is {i}?", f"It is {i}.") for i in range(30)]
    write_rows(tmp_path / "train.jsonl", [*good, refused(1)])
    assert checks.mask(made).endswith(", 1 rows refused by the template")
    assert checks.truncation(made).startswith("at most ")
    assert "left out: refused by the chat template 1" in checks.dataset(made)


def test_a_template_that_takes_no_row_is_told_by_its_first_refusal(
    tmp_path: Path, tiny_llama: Path
) -> None:
    made = flight(tmp_path, tiny_llama)
    write_rows(tmp_path / "train.jsonl", [refused(i) for i in range(5)])
    with pytest.raises(TemplateError, match="holds the end-of-turn token"):
        checks.mask(made)
    assert checks.truncation(made) == "no row to measure"


def with_masks(made: Flight, change: Callable[[Rendered], Rendered]) -> Flight:
    """The flight with every mask changed: what a fault in Nexa's own rendering would do."""
    rendered: Iterable[Any] = made.rendered
    made.__dict__["rendered"] = [change(result) for result in rendered]
    return made


def marked(result: Rendered, at: int, mark: bool) -> Rendered:
    trained = list(result.trained)
    trained[at] = mark
    return replace(result, trained=trained)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: replace(r, trained=[False] * len(r.ids)), "no token bears loss"),
        (
            lambda r: marked(r, r.answers[-1][1] - 1, False),
            "its end-of-turn token does not bear loss",
        ),
        (lambda r: marked(r, r.answers[-1][0], False), "1 tokens inside an answer do not"),
        (lambda r: marked(r, 0, True), "1 tokens outside the answers bear loss"),
    ],
)
def test_a_mask_that_is_not_the_answers_is_found(
    tmp_path: Path, tiny_llama: Path, change: Callable[[Rendered], Rendered], why: str
) -> None:
    made = with_masks(flight(tmp_path, tiny_llama), change)
    with pytest.raises(MaskError) as caught:
        checks.mask(made)
    assert f"40 of 40 rows, first train.jsonl:1: {why}" in str(caught.value.found)


def test_a_pad_token_of_its_own_is_not_blamed(tmp_path: Path, tiny_llama: Path) -> None:
    made = with_masks(flight(tmp_path, tiny_llama), lambda r: marked(r, 0, True))
    tokenizer = made.template.tokenizer
    pad = tokenizer.pad_token
    tokenizer.pad_token = "<|endoftext|>"
    try:
        with pytest.raises(MaskError) as caught:
            checks.mask(made)
    finally:
        tokenizer.pad_token = pad
    assert "the pad token" not in str(caught.value.found)


def test_more_positions_than_the_model_has_are_refused(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama, data={"max_length": 1024})
    with pytest.raises(TruncationError, match="more than the model has positions for") as caught:
        checks.truncation(made)
    assert caught.value.fix == "data.max_length: 512"


def test_rows_longer_than_the_model_are_to_be_shortened(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    long = [said(f"Row {i}?", "word and word " * 200) for i in range(20)]
    write_rows(tmp_path / "train.jsonl", long)
    with pytest.raises(TruncationError, match="20 of 20 rows do not fit into 512") as caught:
        checks.truncation(made)
    assert "512 positions" in str(caught.value.fix)


def test_one_long_row_in_a_hundred_is_left_out_and_told(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama, data={"max_length": 64})
    some = [said(f"What is {i}?", f"It is {i}.") for i in range(120)]
    write_rows(tmp_path / "train.jsonl", [*some, said("Tell?", "a long tale " * 20)])
    assert checks.truncation(made).endswith(", 1 longer rows are left out")


def test_a_leak_here_and_there_is_told_and_a_twentieth_is_the_limit(
    tmp_path: Path, tiny_llama: Path
) -> None:
    made = flight(tmp_path, tiny_llama)
    write_rows(tmp_path / "eval.jsonl", rows(range(100, 140)))
    write_rows(tmp_path / "train.jsonl", [*rows(range(40)), *rows(range(100, 102))])
    assert checks.leakage(made) == "2 of 40 held-out rows: training rows like them go out"
    made = flight(tmp_path / "more", tiny_llama)
    write_rows(tmp_path / "more" / "eval.jsonl", rows(range(100, 140)))
    write_rows(tmp_path / "more" / "train.jsonl", [*rows(range(40)), *rows(range(100, 103))])
    with pytest.raises(
        LeakError, match=r"3 of 40 held-out rows .*\(8%; 5% is the limit\)"
    ) as caught:
        checks.leakage(made)
    assert "eval.jsonl:1 is same prompt (1.00) with train.jsonl:41" in str(caught.value.found)


def test_what_prepare_refuses_is_refused_here(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    write_rows(tmp_path / "eval.jsonl", rows(range(100, 108)))
    write_rows(tmp_path / "train.jsonl", rows(range(100, 108)))  # all of them leak
    with pytest.raises(DataError, match="no row is left"):
        checks.dataset(made)
