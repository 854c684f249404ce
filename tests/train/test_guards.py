from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nexa.core.errors import TrainingError
from nexa.train import guards
from nexa.train.batches import Step, TokenRow, lay
from tests.train.sample import random_rows

END = 2
STEP = Step(0, 0, (lay(random_rows(1)),), 1)


def ended(count: int, of: int) -> list[TokenRow]:
    """Rows of which `count` end with the end-of-turn token."""
    return [
        TokenRow(f"r{i}", [5, 6, END if i < count else 7], [False, True, True]) for i in range(of)
    ]


def test_no_rows_stop() -> None:
    with pytest.raises(TrainingError, match="no training rows"):
        guards.check_labels([], without_label=0, max_length=512)


def test_all_answers_cut_off_stop() -> None:
    with pytest.raises(TrainingError, match="every answer is cut off") as caught:
        guards.check_labels([], without_label=9, max_length=512)
    assert "512" in str(caught.value.found)
    assert "max_length" in str(caught.value.fix)


@pytest.mark.parametrize(("lost", "stops"), [(1, False), (2, True)])
def test_more_than_one_lost_answer_in_a_hundred_stops(lost: int, stops: bool) -> None:
    rows = random_rows(100 - lost)
    if stops:
        with pytest.raises(TrainingError, match="takes whole answers away"):
            guards.check_labels(rows, without_label=lost, max_length=64)
    else:
        guards.check_labels(rows, without_label=lost, max_length=64)


def test_answers_that_never_end_stop_and_the_token_is_named() -> None:
    guards.check_end_of_turn(ended(99, 100), [END], "<|im_end|>")
    with pytest.raises(TrainingError, match="learn to stop") as caught:
        guards.check_end_of_turn(ended(98, 100), [END], "<|im_end|>")
    assert "<|im_end|>" in str(caught.value.found)
    assert "r98" in str(caught.value.found)


def test_an_end_that_is_not_trained_is_none() -> None:
    rows = [TokenRow("a", [5, END], [True, False]), TokenRow("b", [5, END], [False, False])]
    with pytest.raises(TrainingError, match="2 of 2 answers"):
        guards.check_end_of_turn(rows, [END], "<|im_end|>")


def test_evaluation_rows_among_the_training_rows_stop() -> None:
    guards.check_held_out(["a", "b"], ["c"])
    with pytest.raises(TrainingError, match="evaluation rows") as caught:
        guards.check_held_out(["a", "b"], ["b", "c"])
    assert "1 rows" in str(caught.value.found)


@pytest.mark.parametrize(
    "parameters",
    [[], [nn.Parameter(torch.ones(2), requires_grad=False)], [nn.Parameter(torch.ones(0))]],
)
def test_nothing_to_train_stops(parameters: list[nn.Parameter]) -> None:
    with pytest.raises(TrainingError, match="no parameter is trained"):
        guards.check_trainable(parameters)


def test_something_to_train_goes_on() -> None:
    guards.check_trainable([nn.Parameter(torch.ones(2))])


@pytest.mark.parametrize(
    ("loss", "norm", "says"),
    [
        (math.nan, 1.0, "not a number"),
        (1.0, math.inf, "not a number"),
        (0.0, 0.0, "the loss is zero"),
        (1.0, 0.0, "no gradient reaches"),
    ],
)
def test_a_step_worth_nothing_stops(loss: float, norm: float, says: str) -> None:
    with pytest.raises(TrainingError, match=says) as caught:
        guards.check_step(STEP, loss=loss, grad_norm=norm)
    assert "step 1" in str(caught.value.found)


def test_a_step_with_loss_and_gradient_goes_on() -> None:
    guards.check_step(STEP, loss=1.0, grad_norm=0.1)


BEFORE, AFTER = torch.zeros(2), torch.ones(2)


def test_an_adapter_that_stayed_zero_stops() -> None:
    state = {"x.lora_A.weight": torch.ones(2), "x.lora_B.weight": torch.zeros(2)}
    with pytest.raises(TrainingError, match="B of every adapted layer is zero"):
        guards.check_changed(BEFORE, AFTER, state)


def test_equal_logits_stop() -> None:
    with pytest.raises(TrainingError, match="same logits as before"):
        guards.check_changed(BEFORE, BEFORE, {"x.lora_B.weight": torch.ones(2)})


@pytest.mark.parametrize(
    ("after", "weight"), [(AFTER, torch.tensor([math.nan])), (AFTER * math.nan, torch.ones(1))]
)
def test_weights_that_are_not_numbers_stop(after: torch.Tensor, weight: torch.Tensor) -> None:
    with pytest.raises(TrainingError, match="not numbers"):
        guards.check_changed(BEFORE, after, {"x.weight": weight})


def test_a_changed_model_passes() -> None:
    guards.check_changed(BEFORE, AFTER, {"x.lora_B.weight": torch.ones(2)})
