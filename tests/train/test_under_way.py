"""A training that is told to end does so within a step, and loses nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nexa.core.errors import TrainingError
from nexa.core.events import Event, listening
from nexa.core.interrupts import Interrupted
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.lm.resolve import ModelFiles
from nexa.train.finetune import finetune
from nexa.train.spec import OptimizerSpec, TrainSpec
from tests.train.stopping import SMALL, at, contents, send, spec_of


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
