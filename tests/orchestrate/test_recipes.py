from __future__ import annotations

import pytest

from nexa.orchestrate.recipes import RECIPES, length_for, recipe_for


@pytest.mark.parametrize(
    ("parameters", "rank"),
    [(134_515_008, 16), (362e6, 32), (494e6, 64), (1.7e9, 96), (7.6e9, 128), (70e9, 128)],
)
def test_rank_grows_with_the_model(parameters: float, rank: int) -> None:
    assert recipe_for(int(parameters)).rank == rank


def test_the_table_is_in_order_and_takes_every_model() -> None:
    limits = [recipe.below for recipe in RECIPES]
    assert limits == sorted(limits)
    assert limits[-1] == float("inf")
    rates = [recipe.lr for recipe in RECIPES]
    assert rates == sorted(rates, reverse=True)


def test_the_rows_of_the_quick_start_are_seen_once() -> None:
    length = length_for(344)
    assert (length.epochs, length.steps, length.warmup_steps) == (1, 43, 5)
    assert length.reason == "one pass over about 344 rows: 43 steps of 8 rows"


@pytest.mark.parametrize(
    ("rows", "epochs", "steps"),
    [(0, 10, 10), (1, 10, 10), (100, 4, 52), (40, 8, 40), (10**6, 1, 125_000)],
)
def test_few_rows_are_seen_more_than_once_but_not_without_end(
    rows: int, epochs: int, steps: int
) -> None:
    length = length_for(rows)
    assert (length.epochs, length.steps) == (epochs, steps)
    assert length.steps >= 40 or length.epochs == 10


def test_the_warm_up_is_a_tenth_and_at_most_100_steps() -> None:
    assert length_for(10**6).warmup_steps == 100
    assert length_for(1).warmup_steps == 1
