from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nexa.core.errors import (
    BosError,
    DataError,
    LeakError,
    MaskError,
    NothingTrained,
    TemplateError,
    TrainingError,
    TruncationError,
    VocabularyError,
    WeightsError,
)
from nexa.core.overlap import Example
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
    with pytest.raises(DataError, match="no training rows"):
        guards.check_labels([], without_label=0, max_length=512)


def test_all_answers_cut_off_stop() -> None:
    with pytest.raises(TruncationError, match="every answer is cut off") as caught:
        guards.check_labels([], without_label=9, max_length=512)
    assert "512" in str(caught.value.found)
    assert "max_length" in str(caught.value.fix)


@pytest.mark.parametrize(("lost", "stops"), [(1, False), (2, True)])
def test_more_than_one_lost_answer_in_a_hundred_stops(lost: int, stops: bool) -> None:
    rows = random_rows(100 - lost)
    if stops:
        with pytest.raises(TruncationError, match="takes whole answers away"):
            guards.check_labels(rows, without_label=lost, max_length=64)
    else:
        guards.check_labels(rows, without_label=lost, max_length=64)


def test_labels_that_no_cut_has_taken_away_are_the_mask_s_fault() -> None:
    with pytest.raises(MaskError, match="no token of the answers bears loss"):
        guards.check_labels([], without_label=5, max_length=64, cut=0)
    with pytest.raises(MaskError, match="no token of the answers bears loss"):
        guards.check_labels(random_rows(95), without_label=5, max_length=64, cut=1)
    with pytest.raises(TruncationError):
        guards.check_labels(random_rows(95), without_label=5, max_length=64, cut=5)
    guards.check_labels(random_rows(99), without_label=1, max_length=64, cut=0)


def test_answers_that_never_end_stop_and_the_token_is_named() -> None:
    guards.check_end_of_turn(ended(99, 100), [END], "<|im_end|>")
    with pytest.raises(TemplateError, match="the template ends no turn") as caught:
        guards.check_end_of_turn(ended(98, 100), [END], "<|im_end|>")
    assert not isinstance(caught.value, MaskError)
    assert "<|im_end|>" in str(caught.value.found)
    assert "r98" in str(caught.value.found)


def test_an_end_that_is_there_and_not_trained_is_the_mask_s_fault() -> None:
    rows = [TokenRow("a", [5, END], [True, False]), TokenRow("b", [5, END], [False, False])]
    with pytest.raises(MaskError, match="the end of turn bears no loss") as caught:
        guards.check_end_of_turn(rows, [END], "<|im_end|>")
    assert "2 of 2 answers" in str(caught.value.found)


def test_an_end_that_was_cut_off_is_the_length_s_fault() -> None:
    with pytest.raises(TruncationError, match="the ends of the answers are cut off"):
        guards.check_end_of_turn(ended(0, 2), [END], "<|im_end|>", cut=["r0", "r1"])
    with pytest.raises(TemplateError):
        guards.check_end_of_turn(ended(0, 2), [END], "<|im_end|>", cut=["r0"])


def test_two_beginnings_stop() -> None:
    rows = [TokenRow("a", [1, 5], [False, True]), TokenRow("b", [1, 1, 5], [False, False, True])]
    guards.check_bos(rows, None)
    guards.check_bos(rows[:1], 1)
    with pytest.raises(BosError, match="two beginning-of-sequence tokens") as caught:
        guards.check_bos(rows, 1)
    assert caught.value.found == "1 of 2 rows, first row b"


def test_tokens_that_the_embedding_does_not_have_stop() -> None:
    rows = [TokenRow("a", [5, 6], [False, True]), TokenRow("b", [5, 320], [False, True])]
    guards.check_vocabulary(rows, 321)
    with pytest.raises(VocabularyError, match="does not belong to this model") as caught:
        guards.check_vocabulary(rows, 320)
    assert "token 320 in row b" in str(caught.value.found)


def test_evaluation_rows_among_the_training_rows_stop() -> None:
    guards.check_held_out(["a", "b"], ["c"])
    with pytest.raises(LeakError, match="evaluation rows") as caught:
        guards.check_held_out(["a", "b"], ["b", "c"])
    assert "1 rows" in str(caught.value.found)


def question(number: int, answer: str = "yes") -> Example:
    """Thirty words that no other number has."""
    return Example(" ".join(f"w{number}x{i}" for i in range(30)), answer)


def test_a_training_row_that_asks_what_a_held_out_row_asks_stops() -> None:
    held_out = [question(i) for i in range(100)]
    guards.check_leaks([question(i) for i in range(200, 400)], held_out)
    with pytest.raises(LeakError, match="evaluation rows") as caught:
        guards.check_leaks([question(500), question(3, "no")], held_out)
    assert "1 training rows give 1 of 100 held-out rows away" in str(caught.value.found)
    assert "same prompt" in str(caught.value.found)


@pytest.mark.parametrize(("count", "stops"), [(2, False), (3, True)])
def test_near_copies_stop_when_they_are_more_than_two_in_a_hundred(count: int, stops: bool) -> None:
    held_out = [question(i) for i in range(100)]
    near = [Example(f"{row.prompt} Indeed.", row.answer) for row in held_out[:count]]
    train = [question(i) for i in range(100, 120)] + near
    if stops:
        with pytest.raises(LeakError, match="evaluation rows"):
            guards.check_leaks(train, held_out)
    else:
        guards.check_leaks(train, held_out)


def test_weights_that_are_no_numbers_are_named_before_the_first_step() -> None:
    good = {"a": torch.ones(2), "ids": torch.tensor([1])}
    guards.check_weights(good.items())
    with pytest.raises(WeightsError, match="weights are not numbers") as caught:
        guards.check_weights({**good, "b": torch.tensor([1.0, math.inf])}.items())
    assert caught.value.found == "1 tensors: b"


@pytest.mark.parametrize(
    "parameters",
    [[], [nn.Parameter(torch.ones(2), requires_grad=False)], [nn.Parameter(torch.ones(0))]],
)
def test_nothing_to_train_stops(parameters: list[nn.Parameter]) -> None:
    with pytest.raises(NothingTrained, match="no parameter is trained"):
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


def test_a_first_step_that_moves_nothing_stops() -> None:
    parameters = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.zeros(1))]
    before = guards.samples(parameters)
    with pytest.raises(TrainingError, match="changed nothing"):
        guards.check_moved(before, guards.samples(parameters))
    with torch.no_grad():
        parameters[1] += 1e-6
    guards.check_moved(before, guards.samples(parameters))


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
