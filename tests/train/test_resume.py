"""A training that is stopped and goes on: the same bytes, or a clear refusal."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nexa.core.errors import TrainingError
from nexa.core.events import Event, listening
from nexa.core.hardware import this_machine
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.lm.adapters import LoraSpec
from nexa.lm.resolve import ModelFiles
from nexa.train import checkpoint, resume
from nexa.train.checkpoint import RunState, newest_valid
from nexa.train.finetune import finetune
from nexa.train.loop import StepRecord
from nexa.train.optim import optimizer
from nexa.train.spec import OptimizerSpec, Resolved, SchedulerSpec, TrainSpec, ValidationSpec
from tests.train.bigram import RESOLVED
from tests.train.sample import notes
from tests.train.stopping import SMALL, at, contents, drop, spec_of

FULL = {"lora": None, "method": "full", "optimizer": OptimizerSpec(lr=1e-3, weight_decay=0.1)}
SGD = {"optimizer": OptimizerSpec("sgd", lr=0.5)}
BFLOAT16 = {**FULL, "precision": "bfloat16"}
ADAFACTOR = {"optimizer": OptimizerSpec("adafactor", lr=1e-2)}
EIGHT_BIT = {**FULL, "optimizer": OptimizerSpec("adamw8bit", lr=1e-3)}
PLUS = {"lora": LoraSpec(4, 8.0, plus_ratio=8.0), "scheduler": SchedulerSpec("wsd")}
GENERIC, FUSED = ({"engine": name, "lora": LoraSpec(4, 8.0)} for name in ("generic", "fused"))
FUSED_BFLOAT16 = {**FUSED, "precision": "bfloat16"}
VALIDATED = {**FUSED, "batch_size": 3, "validation": ValidationSpec(3, every=1), "select": "best"}
NO_EXTRA = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the extra quant is not installed"
)


# -- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        *({}, FULL, SGD, BFLOAT16, ADAFACTOR, {**FULL, **ADAFACTOR}, PLUS),
        *(GENERIC, FUSED, FUSED_BFLOAT16, VALIDATED),
        pytest.param(EIGHT_BIT, marks=NO_EXTRA),
    ],
)
def test_a_run_that_was_stopped_twice_ends_with_the_bytes_of_an_unbroken_one(
    base: ModelFiles,
    rows: Artifact[DatasetBody],
    store: Store,
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    unbroken = finetune(TrainSpec(base, **{**SMALL, **changes}), dataset=rows, store=store)
    spec = spec_of(base, tmp_path / "run", **changes)
    for step in (3, 7):
        with pytest.raises(KeyboardInterrupt), listening(at(step, drop)):
            finetune(spec, dataset=rows, store=store)
    events: list[Event] = []
    with listening(events.append):
        resumed = finetune(spec, dataset=rows, store=store)
    assert contents(resumed) == contents(unbroken)
    assert resumed.body == unbroken.body
    [told] = [event for event in events if event["kind"] == "train.resumed"]
    assert (told["step"], told["total"]) == (6, 9)
    bars = [e["done"] for e in events if e["kind"] == "progress" and e["task"] == "training"]
    assert bars == [7, 8, 9]
    losses = [event["loss"] for event in events if event["kind"] == "train.epoch"]
    assert losses == unbroken.body.epoch_losses[2:]
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "run")] == [
        *("step-000008", "step-000006"),
    ]


# -- what no longer fits -------------------------------------------------------------------------


@pytest.fixture
def stopped(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> tuple[TrainSpec, RunState]:
    """A run that was stopped after step 3, and its newest checkpoint."""
    spec = spec_of(base, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), listening(at(3, drop)):
        finetune(spec, dataset=rows, store=store)
    assert spec.run_state is not None
    state = newest_valid(spec.run_state)
    assert state is not None
    return spec, state


def save_changed(spec: TrainSpec, state: RunState, **changes: Any) -> None:
    """The same checkpoint with other choices or facts."""
    resolved = {k: changes.get(k, v) for k, v in state.resolved.items()}
    facts = {k: changes.get(k, v) for k, v in state.facts.items()}
    assert spec.run_state is not None
    checkpoint.save(spec.run_state, replace(state, resolved=resolved, facts=facts))


@pytest.mark.parametrize(
    ("changes", "says", "way"),
    [
        ({"threads": 77}, "threads: 77 then, ", "OMP_NUM_THREADS=77"),
        ({"layout": "padded"}, "layout: padded then, flat now", "--allow-inexact"),
        ({"torch": "1.0"}, "torch: 1.0 then, ", "--allow-inexact"),
        ({"instructions": "AVX9"}, "instructions: AVX9 then, ", "--allow-inexact"),
    ],
)
def test_what_would_give_other_weights_stops_and_may_be_allowed(
    stopped: tuple[TrainSpec, RunState],
    rows: Artifact[DatasetBody],
    store: Store,
    changes: dict[str, Any],
    says: str,
    way: str,
) -> None:
    spec, state = stopped
    save_changed(spec, state, **changes)
    with pytest.raises(TrainingError, match="same weights") as caught:
        finetune(spec, dataset=rows, store=store)
    assert says in str(caught.value.found)
    assert way in str(caught.value.fix)
    events: list[Event] = []
    with listening(events.append):
        draft = finetune(replace(spec, allow_inexact=True), dataset=rows, store=store)
    assert any(note.startswith("going on inexactly from step 2") for note in notes(events))
    [line] = json.loads(contents(draft)["resolved.json"])["inexact"]
    assert line.startswith(f"step 2: {says}")
    assert "resumed inexactly" in draft.body.engine


def test_what_was_allowed_once_stays_written_down(
    stopped: tuple[TrainSpec, RunState], rows: Artifact[DatasetBody], store: Store
) -> None:
    spec, state = stopped
    save_changed(spec, state, threads=77)
    inexact = replace(spec, allow_inexact=True)
    with pytest.raises(KeyboardInterrupt), listening(at(7, drop)):
        finetune(inexact, dataset=rows, store=store)
    draft = finetune(spec, dataset=rows, store=store)  # exact again from here on
    assert len(json.loads(contents(draft)["resolved.json"])["inexact"]) == 1


def test_choices_are_taken_from_the_checkpoint_and_not_made_again(
    stopped: tuple[TrainSpec, RunState], rows: Artifact[DatasetBody], store: Store
) -> None:
    spec, state = stopped
    save_changed(spec, state, micro_tokens=1234, layout_reason="as it was found then")
    resolved = json.loads(contents(finetune(spec, dataset=rows, store=store))["resolved.json"])
    assert resolved["micro_tokens"] == 1234
    assert resolved["layout_reason"] == "as it was found then"
    with pytest.raises(TrainingError, match="micro tokens: 1234 then, 99 now"):
        resume.settle(
            replace(spec, micro_tokens=99),
            replace(state, resolved={**state.resolved, "micro_tokens": 1234}),
            replace(resume._resolved(state.resolved), micro_tokens=99),
            state.facts,
            Path("run"),
        )


def test_another_run_s_checkpoint_is_refused_whatever_is_allowed(
    stopped: tuple[TrainSpec, RunState], rows: Artifact[DatasetBody], store: Store
) -> None:
    spec, state = stopped
    save_changed(spec, state, rows=99)
    with pytest.raises(TrainingError, match="it was another run") as caught:
        finetune(replace(spec, allow_inexact=True), dataset=rows, store=store)
    assert "rows: 99 then, 10 now" in str(caught.value.found)
    assert f"rm -r {spec.run_state}" in str(caught.value.fix)


def test_tensors_of_another_model_are_refused() -> None:
    parameters = [nn.Parameter(torch.zeros(2, 2))]
    sgd = optimizer(OptimizerSpec("sgd"), parameters)
    state = RunState(1, {"00000": torch.zeros(3)}, {}, [], {}, {})
    with pytest.raises(TrainingError, match="not this model's"):
        resume.restore(state, parameters, sgd)


def test_the_facts_name_libraries_processor_and_data() -> None:
    told = resume.facts(this_machine(), "ab12")
    assert told["torch"] == torch.__version__
    assert told["rows and masks"] == "ab12"
    assert all(isinstance(value, str) and value for value in told.values())


def test_every_kind_of_optimiser_state_comes_back_as_it_was() -> None:
    pair = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    sgd = optimizer(OptimizerSpec("sgd"), pair)
    table = torch.linspace(0, 1, 4)  # one for both, as 8-bit optimisers have it
    for count, parameter in enumerate(pair):
        bits = torch.tensor([count, 255], dtype=torch.uint8)
        sgd.state[parameter] = {
            "step": count,
            "bits": bits,
            "table": table,
            "momentum_buffer": None,
        }
    sizes = {"rows": 1, "total_steps": 1, "steps_per_epoch": 1}
    record = StepRecord(1, 1, 1.0, 1.0, 1, 1, 1.0)
    state = resume.snapshot([record], pair, sgd, Resolved(**RESOLVED, **sizes), {})
    assert len({tensor.data_ptr() for tensor in state.optimizer.values()}) == len(state.optimizer)
    fresh = optimizer(OptimizerSpec("sgd"), pair)
    resume.restore(state, pair, fresh)
    for count, parameter in enumerate(pair):
        found = fresh.state[parameter]
        assert found["step"] == count
        assert isinstance(found["step"], int)
        assert found["bits"].dtype == torch.uint8
        assert found["bits"].tolist() == [count, 255]
        assert torch.equal(found["table"], table)
