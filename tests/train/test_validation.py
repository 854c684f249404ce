"""Rows that are kept out of the training, and their loss."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexa.core.errors import ConfigError
from nexa.core.events import Event, listening
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.lm.adapters import LoraSpec, attach
from nexa.lm.resolve import ModelFiles
from nexa.train.batches import TokenRow, lay
from nexa.train.finetune import finetune
from nexa.train.generic import generic
from nexa.train.rows import TrainingRows
from nexa.train.spec import EarlyStopping, TrainSpec, ValidationSpec
from nexa.train.validation import hold_out, resolve_validate_every, validation_loss
from tests.support.tiny import tiny_model
from tests.train.sample import random_rows
from tests.train.stopping import SMALL, contents


def data_of(ids: list[str]) -> TrainingRows:
    return TrainingRows([TokenRow(i, [1, 2], [False, True]) for i in ids], 0, 0, 0, "ab")


def held_out(ids: list[str], base: ModelFiles, count: int, seed: int = 0) -> set[str]:
    spec = TrainSpec(base, seed=seed, validation=ValidationSpec(count))
    both = hold_out(spec, data_of(ids))
    chosen = {row.row_id for row in both.validation}
    left = [row.row_id for row in both.rows]
    assert left == [i for i in ids if i not in chosen]  # in their order, and none is lost
    assert len(chosen) == count
    return chosen


IDS = [f"row-{i}" for i in range(40)]


@given(st.permutations(IDS), st.integers(1, 20))
def test_the_order_of_the_rows_plays_no_part(
    base: ModelFiles, shuffled: list[str], count: int
) -> None:
    assert held_out(shuffled, base, count) == held_out(IDS, base, count)


def test_a_new_row_takes_the_place_of_one_at_most_and_the_seed_chooses_others(
    base: ModelFiles,
) -> None:
    chosen = held_out(IDS, base, 8)
    for new in range(20):
        assert len(chosen & held_out([f"new-{new}", *IDS], base, 8)) >= 7
    assert held_out(IDS, base, 8, seed=1) != chosen


def test_equal_ids_are_rows_of_their_own(base: ModelFiles) -> None:
    spec = TrainSpec(base, validation=ValidationSpec(2))
    both = hold_out(spec, data_of(["same"] * 5))
    assert (len(both.rows), len(both.validation)) == (3, 2)


def test_more_than_half_of_the_rows_is_refused(base: ModelFiles) -> None:
    with pytest.raises(ConfigError, match="too many rows") as caught:
        hold_out(TrainSpec(base, validation=ValidationSpec(21)), data_of(IDS))
    assert caught.value.found == "training.validation.rows: 21 of 40 rows"
    assert str(caught.value.fix).startswith("training.validation.rows: 4")


def test_a_choice_by_the_loss_of_rows_that_are_not_there_is_refused(base: ModelFiles) -> None:
    plain = TrainSpec(base)
    assert hold_out(plain, data_of(IDS)) == data_of(IDS)
    for spec in (replace(plain, select="best"), replace(plain, early_stopping=EarlyStopping())):
        with pytest.raises(ConfigError, match="need validation rows"):
            hold_out(spec, data_of(IDS))


def test_it_is_measured_as_often_as_asked_or_as_checkpoints_are_written(base: ModelFiles) -> None:
    assert resolve_validate_every(TrainSpec(base), 500) is None
    assert resolve_validate_every(TrainSpec(base, validation=ValidationSpec()), 500) == 50
    often = TrainSpec(base, validation=ValidationSpec(every=7))
    assert resolve_validate_every(often, 500) == 7


def test_the_loss_is_that_of_each_row_alone_without_dropout_or_randomness() -> None:
    rows, model = random_rows(9), tiny_model()
    lora = attach(model, LoraSpec(4, 8.0, dropout=0.5), seed=0)
    with torch.no_grad():
        for parameter in lora.parameters:
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    with generic(model, lora, rows) as executor:
        randomness = torch.get_rng_state()
        small = validation_loss(executor, rows, micro_tokens=50, padded=False)
        large = validation_loss(executor, rows, micro_tokens=4096, padded=False)
        assert torch.equal(torch.get_rng_state(), randomness)
        assert all(parameter.grad is None for parameter in lora.parameters)
        assert model.training  # as it was
        model.train(False)
        nats = [executor.forward_loss(lay([row]))[0].item() for row in rows]
    expected = sum(nats) / sum(row.labels for row in rows)
    assert small == pytest.approx(expected, rel=1e-5)
    assert large == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("engine", ["fused", "generic"])
def test_a_training_measures_on_the_way_and_at_its_end_and_writes_it_down(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, engine: str
) -> None:
    spec = TrainSpec(
        base,
        **SMALL | {"lora": LoraSpec(4, 8.0), "engine": engine, "max_steps": 5, "epochs": None},
        validation=ValidationSpec(3, every=2),
    )
    events: list[Event] = []
    with listening(events.append):
        draft = finetune(spec, dataset=rows, store=store)
    files = contents(draft)
    lines = [json.loads(line) for line in files["losses.jsonl"].splitlines()]
    measured = {line["step"]: line["validation_loss"] for line in lines if len(line) > 7}
    assert list(measured) == [2, 4, 5]
    assert measured[5] < measured[2]
    told = [event for event in events if event["kind"] == "train.validation"]
    assert {event["step"]: event["loss"] for event in told} == measured
    assert (draft.body.rows, draft.body.validation_rows) == (7, 3)
    resolved = json.loads(files["resolved.json"])
    assert (resolved["rows"], resolved["validation_rows"], resolved["validate_every"]) == (7, 3, 2)
