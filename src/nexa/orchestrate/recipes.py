"""Which rank, alpha, learning rate and length a model of a given size starts with, and why.

`nexa init` writes these values with their reasons; nothing else reads them, so a configuration
never changes under a user when this table does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ROWS_A_STEP = 8
# Steps after which the smallest model had learned 344 structured records; fewer rows are seen
# more than once until they make as many steps.
STEPS_WANTED = 40
MOST_EPOCHS = 10  # by then a small set is known by heart: more rows help, more epochs do not
MOST_WARMUP_STEPS = 100
FULL_SHARE = 0.1
FULL_REASON = "a tenth of LoRA's rate, the distance Schulman et al. 2025 found between the two"


@dataclass(frozen=True)
class Recipe:
    """One row of the table: it is for models with fewer than `below` parameters."""

    below: float
    rank: int
    alpha: int
    lr: float
    reason: str


QLORA = "alpha and lr as in QLoRA, Dettmers et al. 2023, arXiv:2305.14314"
RECIPES = (
    Recipe(0.3e9, 16, 32, 1e-3, "SmolLM2-135M learned 344 records in one pass: 52 of 64 exact"),
    Recipe(0.45e9, 32, 32, 5e-4, "between the rows above and below; not measured"),
    Recipe(1.5e9, 64, 16, 2e-4, QLORA),
    Recipe(5e9, 96, 16, 2e-4, QLORA),
    Recipe(20e9, 128, 16, 2e-4, QLORA),
    Recipe(math.inf, 128, 16, 1e-4, QLORA),
)


@dataclass(frozen=True)
class Length:
    """How long to train: whole passes over the rows, and the optimiser steps they make."""

    epochs: int
    steps: int
    warmup_steps: int
    reason: str


def recipe_for(parameters: int) -> Recipe:
    """The first row of the table that is for a model of this size."""
    return next(recipe for recipe in RECIPES if parameters < recipe.below)


def length_for(rows: int) -> Length:
    """Epochs for a number of training rows, and a warm-up of a tenth of the steps.

    One pass where it makes 40 steps or more; else as many as do, up to ten.
    """
    steps_an_epoch = max(1, math.ceil(rows / ROWS_A_STEP))
    epochs = min(MOST_EPOCHS, math.ceil(STEPS_WANTED / steps_an_epoch))
    steps = epochs * steps_an_epoch
    passes = "one pass" if epochs == 1 else f"{epochs} passes"
    reason = f"{passes} over about {rows:,} rows: {steps:,} steps of {ROWS_A_STEP} rows"
    return Length(epochs, steps, min(MOST_WARMUP_STEPS, math.ceil(steps / 10)), reason)
