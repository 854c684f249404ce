"""A training that is told to end does so within a step, and loses nothing."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from nexa.core.errors import TrainingError
from nexa.core.events import Event, listening
from nexa.core.interrupts import Interrupted
from nexa.core.records import Artifact, CheckpointBody, DatasetBody, Draft
from nexa.core.store import Store
from nexa.lm.adapters import LoraSpec
from nexa.lm.resolve import ModelFiles
from nexa.train.checkpoint import newest_valid
from nexa.train.finetune import finetune
from nexa.train.spec import (
    Again,
    EarlyStopping,
    Limits,
    OptimizerSpec,
    SchedulerSpec,
    TrainSpec,
    ValidationSpec,
)
from nexa.train.under_way import UnderWay
from tests.train.bigram import under_way
from tests.train.sample import conversation, dataset, notes
from tests.train.stopping import SMALL, at, contents, drop, send, spec_of


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", [3, 4, 9])
def test_a_signal_ends_it_after_the_step_under_way_and_nothing_is_lost(
    base: ModelFiles,
    rows: Artifact[DatasetBody],
    store: Store,
    tmp_path: Path,
    number: int,
    code: int,
    step: int,
) -> None:
    spec = spec_of(base, tmp_path / "run")
    with pytest.raises(Interrupted) as caught, listening(at(step, send(number))):
        finetune(spec, dataset=rows, store=store)
    assert caught.value.exit_code == code
    assert caught.value.found == f"step {step} of 9 was done, step {step} is kept"
    assert f"goes on from step {step}" in str(caught.value.fix)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    resumed = finetune(spec, dataset=rows, store=store)
    whole = finetune(TrainSpec(base, **SMALL), dataset=rows, store=store)
    assert contents(resumed) == contents(whole)


def test_a_signal_while_a_checkpoint_is_written_lets_one_more_step_pass_at_most(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    def sink(event: Event) -> None:
        if event["kind"] == "checkpoint.file":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as caught, listening(sink):
        finetune(spec_of(base, tmp_path / "run"), dataset=rows, store=store)
    assert caught.value.found in (
        "step 2 of 9 was done, step 2 is kept",
        "step 3 of 9 was done, step 3 is kept",
    )


def test_a_signal_between_the_last_step_and_the_end_is_not_lost(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    def sink(event: Event) -> None:
        if event["kind"] == "progress.end" and event["task"] == "training":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as caught, listening(sink):
        finetune(spec_of(base, tmp_path / "run"), dataset=rows, store=store)
    assert caught.value.found == "step 9 of 9 was done, step 9 is kept"


def test_a_run_without_checkpoints_says_that_nothing_is_kept(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    with pytest.raises(Interrupted) as caught, listening(at(3, send(signal.SIGTERM))):
        finetune(TrainSpec(base, **SMALL), dataset=rows, store=store)
    assert caught.value.found == "step 3 of 9 was done, nothing of it is kept"
    assert "begins anew" in str(caught.value.fix)


def test_a_guard_that_stops_the_run_removes_what_leads_to_it(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    spec = spec_of(base, tmp_path / "run", optimizer=OptimizerSpec("sgd", lr=1e-30))
    with pytest.raises(TrainingError, match="changed nothing"):
        finetune(spec, dataset=rows, store=store)
    assert not (tmp_path / "run").exists()
    without = TrainSpec(base, **{**SMALL, "optimizer": OptimizerSpec("sgd", lr=1e-30)})
    with pytest.raises(TrainingError, match="changed nothing"):
        finetune(without, dataset=rows, store=store)


# -- losses that run away ------------------------------------------------------------------------

# Plain gradient descent on all weights, its rate rising without end: it runs away three times.
RUNAWAY: dict[str, Any] = {
    "method": "full",
    "optimizer": OptimizerSpec("sgd", lr=5.0, max_grad_norm=0.0),
    "scheduler": SchedulerSpec("constant", warmup_steps=60),
    "precision": "float32",
    "batch_size": 2,
    "max_steps": 60,
    "checkpoint_every": 4,
}


def nth(number: int, act: Callable[[], object]) -> Callable[[Event], None]:
    """A sink that does something at the n-th step that is told, those done again included."""
    steps = itertools.count(1)

    def sink(event: Event) -> None:
        is_step = event["kind"] == "progress" and event["task"] == "training"
        if is_step and next(steps) == number:
            act()

    return sink


def test_a_loss_that_runs_away_takes_it_back_three_times_and_it_learns_on(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    events: list[Event] = []
    with listening(events.append):
        draft = finetune(
            TrainSpec(base, run_state=tmp_path / "run", **RUNAWAY), dataset=rows, store=store
        )
    told = [event for event in events if event["kind"] == "train.rolled_back"]
    assert len(draft.body.rollbacks) == len(told) == 3
    assert all(event["to"] < event["step"] - 3 for event in told)
    assert [note for note in notes(events) if "half the rate" in note] == draft.body.rollbacks
    lines = contents(draft)["losses.jsonl"].decode().splitlines()
    assert len(lines) == draft.body.steps == 60  # what was given up is not among them
    assert "rolled_back" not in lines[0]
    assert '"rolled_back": 3' in lines[-1]
    assert draft.body.final_loss < draft.body.first_loss
    rates = [event["lr"] for event in events if event["kind"] == "progress" and "lr" in event]
    assert rates[-1] == pytest.approx(5.0 / 8)


@pytest.fixture(scope="module")
def runaway(
    base: ModelFiles, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, Artifact[DatasetBody], dict[str, bytes]]:
    """A store, rows, and what the unbroken run leaves."""
    folder = tmp_path_factory.mktemp("runaway")
    store = Store(folder / "store")
    rows = dataset(store, folder, [conversation(i) for i in range(10)], max_length=128)
    spec = TrainSpec(base, run_state=folder / "run", **RUNAWAY)
    return store, rows, contents(finetune(spec, dataset=rows, store=store))


# The 34th step shows the first spike, the 57th and the 65th the others; 28 is a checkpoint's.
@pytest.mark.parametrize(
    ("number", "end"),
    [(33, "kill"), (34, "kill"), (36, "kill"), (58, "kill"), (33, "signal"), (34, "signal")],
)
def test_a_run_that_went_back_and_was_ended_anywhere_ends_with_the_same_bytes(
    base: ModelFiles,
    runaway: tuple[Store, Artifact[DatasetBody], dict[str, bytes]],
    tmp_path: Path,
    number: int,
    end: str,
) -> None:
    store, rows, whole = runaway
    spec = TrainSpec(base, run_state=tmp_path / "run", **RUNAWAY)
    act = drop if end == "kill" else send(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), listening(nth(number, act)):
        finetune(spec, dataset=rows, store=store)
    assert contents(finetune(spec, dataset=rows, store=store)) == whole


def finish(run: UnderWay, folder: Path) -> UnderWay:
    """To the end, from the newest checkpoint if there is one."""
    found = newest_valid(run.spec.run_state) if run.spec.run_state else None
    run.begin(found, folder)
    run.to_the_end()
    return run


def table(run: UnderWay) -> torch.Tensor:
    return run.executor.adapters()[0].detach()


def test_a_loss_that_is_no_number_takes_it_back_too(base: ModelFiles, tmp_path: Path) -> None:
    run = finish(under_way(base, tmp_path / "run", steps=11, lr=20.0, largest=20.0), tmp_path)
    [rollback] = run.rollbacks
    assert (rollback.step, rollback.to) == (10, 8)
    assert rollback.why == "step 11: loss nan, gradient norm nan"
    assert [record.lr for record in run.records[7:]] == [20.0, 10.0, 10.0, 10.0]
    assert [record.rolled_back for record in run.records[7:]] == [0, 1, 1, 1]
    assert [record.step for record in run.records] == list(range(1, 12))


def test_a_validation_loss_that_is_no_number_takes_it_back_too(
    base: ModelFiles, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"validation": ValidationSpec(2, every=1), "rows": 14}
    run = under_way(base, tmp_path / "run", steps=11, lr=20.0, largest=20.0, **changes)
    [rollback] = finish(run, tmp_path).rollbacks
    assert rollback.why == "after step 10"


def test_the_fourth_time_ends_it_and_names_them_all(base: ModelFiles, tmp_path: Path) -> None:
    run = under_way(base, tmp_path / "run", steps=20, lr=20.0, largest=20.0)
    run.begin(None, tmp_path)
    with pytest.raises(TrainingError, match="not a number") as caught, run.given_up_for_good():
        run.to_the_end()
    found = str(caught.value.found).splitlines()
    assert len(found) == 4
    assert all("half the rate" in line for line in found[1:])
    assert not (tmp_path / "run").exists()  # they all lead to the same stop


@pytest.mark.parametrize("kept", [True, False])
def test_without_a_checkpoint_from_before_there_is_no_way_back(
    base: ModelFiles, tmp_path: Path, kept: bool
) -> None:
    folder = tmp_path / "run" if kept else None
    run = under_way(base, folder, steps=20, lr=20.0, largest=0.5)
    run.begin(None, tmp_path)
    with pytest.raises(TrainingError) as caught:
        run.to_the_end()
    assert str(caught.value.found).endswith("there is no good checkpoint to go back to")


# -- an end before the last step -----------------------------------------------------------------


class Hours:
    """A clock that goes on by an hour whenever it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sink(self, event: Event) -> None:
        if event["kind"] == "progress" and event["task"] == "training":
            self.now += 3600


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(seconds=4 * 3600), "training.time_budget of 14400 s is reached"),
        (Limits(usd=7.5, usd_per_hour=2.0), "infra.max_usd of 7.5 USD is reached"),
    ],
)
def test_time_or_money_that_is_used_up_ends_it_with_the_weights_so_far(
    base: ModelFiles,
    rows: Artifact[DatasetBody],
    store: Store,
    tmp_path: Path,
    limits: Limits,
    says: str,
) -> None:
    clock = Hours()
    spec = spec_of(base, tmp_path / "run", limits=limits)
    events: list[Event] = []
    with listening(events.append, clock.sink):
        draft = finetune(spec, dataset=rows, store=store, clock=clock)
    assert draft.body.stopped == f"after step 4 of 9: {says}"
    assert draft.body.steps == 4
    assert notes(events)[-1] == f"the training ends {draft.body.stopped}"
    state = newest_valid(tmp_path / "run")
    assert state is not None
    assert state.step == 4  # kept until the result is sealed
    # The hours before a kill count: two till the checkpoint, and two after it.
    again = spec_of(base, tmp_path / "again", limits=limits)
    clock = Hours()
    with pytest.raises(KeyboardInterrupt), listening(at(3, drop), clock.sink):
        finetune(again, dataset=rows, store=store, clock=clock)
    clock.now = 1e9  # another process, another clock
    with listening(clock.sink):
        resumed = finetune(again, dataset=rows, store=store, clock=clock)
    assert resumed.body == draft.body
    assert contents(resumed) == contents(draft)


def test_a_run_done_again_ends_where_the_first_one_did(base: ModelFiles, tmp_path: Path) -> None:
    limits = Limits(seconds=1.0)
    run = under_way(base, None, steps=9, lr=1.0, limits=limits, again=Again(last_step=6))
    assert len(finish(run, tmp_path).records) == 6
    assert run.stopped == "after step 6 of 9: as the run that is done again"


def test_it_ends_when_the_validation_loss_gets_no_better(base: ModelFiles, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "validation": ValidationSpec(2, every=1),
        "rows": 14,
        "early_stopping": EarlyStopping(patience=2, min_delta=1.0),
    }
    run = finish(under_way(base, tmp_path / "run", steps=20, **changes), tmp_path)
    assert len(run.records) == 3
    assert run.stopped is not None
    assert run.stopped.startswith("after step 3 of 20: the validation loss was lowest, 5.7")
    # Killed before its result was sealed, it has ended all the same.
    resumed = finish(under_way(base, tmp_path / "run", steps=20, **changes), tmp_path)
    assert (resumed.stopped, len(resumed.records)) == (run.stopped, 3)


def overfitted(base: ModelFiles, folder: Path, **changes: Any) -> UnderWay:
    """A training whose validation loss is lowest before its end."""
    settings: dict[str, Any] = {"validation": ValidationSpec(4, every=1), "select": "best"}
    return under_way(base, folder, steps=14, lr=40.0, **{**settings, **changes})


def test_the_best_weights_are_the_result_also_after_a_kill(
    base: ModelFiles, tmp_path: Path
) -> None:
    run = finish(overfitted(base, tmp_path / "a"), tmp_path)
    losses = [record.validation_loss for record in run.records]
    assert run.best_step == losses.index(min(losses)) + 1 < 14
    best = finish(overfitted(base, tmp_path / "b", max_steps=14, select="last"), tmp_path)
    assert best.best_step is None
    assert not torch.equal(table(best), table(run))
    short = overfitted(base, tmp_path / "c", select="last")
    short.resolved = replace(short.resolved, total_steps=run.best_step)
    assert torch.equal(table(finish(short, tmp_path)), table(run))
    for number in (run.best_step, run.best_step + 1, 13):
        folder = tmp_path / f"killed-{number}"
        killed = overfitted(base, folder)
        with pytest.raises(KeyboardInterrupt), listening(at(number, drop)):
            finish(killed, tmp_path)
        resumed = finish(overfitted(base, folder), tmp_path)
        assert torch.equal(table(resumed), table(run))
        assert resumed.best_step == run.best_step


# -- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fused", "generic"])
def test_eight_rows_at_once_train_as_eight_times_one(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, engine: str
) -> None:
    def trained(batch_size: int, accumulation: int, micro_tokens: int) -> Draft[CheckpointBody]:
        settings = {**SMALL, "lora": LoraSpec(4, 8.0), "engine": engine, "max_steps": 6}
        settings |= {"epochs": None, "batch_size": batch_size}
        settings |= {"optimizer": OptimizerSpec("sgd", lr=0.5)}  # AdamW magnifies rounding
        settings |= {"gradient_accumulation": accumulation, "micro_tokens": micro_tokens}
        return finetune(TrainSpec(base, **settings), dataset=rows, store=store)

    whole, single = trained(8, 1, 4096), trained(1, 8, 1)  # a row is longer: each goes alone
    a, b = (load(contents(draft)["adapter_model.safetensors"]) for draft in (whole, single))
    for name in a:
        assert (a[name] - b[name]).norm() <= 1e-5 * a[name].norm()
    assert single.body.epoch_losses == pytest.approx(whole.body.epoch_losses, rel=1e-5)
