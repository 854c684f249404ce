"""Halving: the same step in more and smaller passes, where memory is short or would be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nexa.core.allocator import in_use_bytes
from nexa.core.errors import CapacityError
from nexa.core.events import Event, listening
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.lm.adapters import LoraSpec, attach
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer
from nexa.train.accumulate import Accumulation, _corrected, lack_of_memory
from nexa.train.batches import Batch, Cut, Step, steps
from nexa.train.finetune import finetune
from nexa.train.generic import GenericExecutor, generic
from nexa.train.memory import MemoryModel, model_of, sizes_of
from nexa.train.rows import training_rows
from nexa.train.spec import OptimizerSpec, TrainSpec
from tests.support.tiny import tiny_model
from tests.train.sample import notes, random_rows

ROWS = random_rows(16, longest=60)
(STEP,) = steps(ROWS, rows_per_step=16, total_steps=1, micro_tokens=4096, seed=0)


@pytest.fixture
def executor() -> Iterator[GenericExecutor]:
    model = tiny_model()
    lora = attach(model, LoraSpec(rank=4), seed=0)
    for adapter in lora.adapters.values():  # B is zero at the start: A would have no gradient
        torch.nn.init.normal_(adapter.b, std=0.02, generator=torch.Generator().manual_seed(1))
    with generic(model, lora, ROWS) as made:
        yield made
    lora.detach()


def counted(executor: GenericExecutor) -> MemoryModel:
    sizes = sizes_of(executor.config)
    trained = sum(p.numel() for p in executor.adapters())
    return MemoryModel(sizes, "generic", 4, sizes.parameters, trained, rank=4)


def gradients(executor: GenericExecutor) -> list[Tensor]:
    """Those of the last step; the parameters are left without."""
    taken = [p.grad.clone() for p in executor.adapters() if p.grad is not None]
    for parameter in executor.adapters():
        parameter.grad = None
    return taken


def expect_equal(executor: GenericExecutor, one: Accumulation, other: Accumulation) -> None:
    """Both make the same loss and the same gradients of the step."""
    losses, grads = [], []
    for accumulation in (one, other):
        losses.append(accumulation.run(executor, STEP))
        grads.append(gradients(executor))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(grads[0]) == len(executor.adapters())
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


class Short:
    """An executor in front of another, that has no memory for passes of more than some tokens."""

    def __init__(self, inner: Any, most: int, error: BaseException, times: int = 99) -> None:
        self.inner, self.most, self.error, self.times = inner, most, error, times
        self.passes: list[int] = []
        self.checkpointing = False

    def forward_loss(self, batch: Batch) -> tuple[Tensor, int]:
        self.passes.append(len(batch.input_ids))
        if len(batch.input_ids) > self.most and not self.checkpointing and self.times:
            self.times -= 1
            raise self.error
        result: tuple[Tensor, int] = self.inner.forward_loss(batch)
        return result

    def adapters(self) -> list[nn.Parameter]:
        found: list[nn.Parameter] = self.inner.adapters()
        return found


def run(accumulation: Accumulation, executor: Any, step: Step = STEP) -> tuple[float, list[Event]]:
    events: list[Event] = []
    with listening(events.append):
        return accumulation.run(executor, step), events


def test_a_step_goes_through_as_it_is_cut_and_leaves_the_mean_losss_gradient(
    executor: GenericExecutor,
) -> None:
    expect_equal(executor, Accumulation(Cut(4096)), Accumulation(Cut(64)))
    assert Accumulation(Cut(64)).halvings == ()


def test_a_step_without_its_rows_is_taken_as_it_is_cut(executor: GenericExecutor) -> None:
    bare = Step(0, 0, STEP.batches, STEP.rows)
    assert Accumulation(Cut(8)).batches(bare) == STEP.batches


# -- a limit that is planted ---------------------------------------------------------------------


def test_a_limit_halves_twice_before_anything_is_tried(executor: GenericExecutor) -> None:
    memory = counted(executor)
    # Above what a quarter takes, below what a half does.
    whole, half, quarter = (
        max(memory.peak_bytes(batch) for batch in Cut(tokens).batches(STEP.learned))
        for tokens in (512, 256, 128)
    )
    assert whole > half > quarter
    limited = Accumulation(Cut(512), memory, limit_bytes=quarter + (half - quarter) // 2)
    _, events = run(limited, executor)
    gradients(executor)
    assert limited.micro_tokens == 128
    assert [(h["step"], h["from"], h["to"]) for h in limited.halvings] == [
        (1, 512, 256),
        (1, 256, 128),
    ]
    assert all("are allowed" in note for note in notes(events))
    assert "128 tokens a pass instead of 256 from here on, still 16 rows a step" in notes(events)[1]
    expect_equal(executor, Accumulation(Cut(512)), limited)
    assert len(limited.halvings) == 2


def test_the_first_pass_corrects_the_count(executor: GenericExecutor) -> None:
    memory = counted(executor)
    limited = Accumulation(Cut(512), memory, limit_bytes=1 << 50)
    run(limited, executor)
    if not in_use_bytes():
        pytest.skip("this C library does not count")
    assert limited.memory is not None
    assert limited.memory.correction != 1.0
    corrected = limited.memory
    run(limited, executor)
    assert limited.memory is corrected  # once


# -- memory that is not there --------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=["torch", "python", "the processor's allocator"],
)
def test_two_errors_halve_twice_and_the_step_is_the_same(
    executor: GenericExecutor, error: BaseException
) -> None:
    short = Short(executor, most=0, error=error, times=2)
    accumulation = Accumulation(Cut(512))
    loss, events = run(accumulation, short)
    halved = gradients(executor)
    assert accumulation.micro_tokens == 128
    assert len(accumulation.halvings) == len(notes(events)) == 2
    assert loss == pytest.approx(Accumulation(Cut(512)).run(executor, STEP), rel=1e-5)
    for a, b in zip(halved, gradients(executor), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_what_a_failed_attempt_left_is_dropped(executor: GenericExecutor) -> None:
    class LastPassFails(Short):
        """The first passes of the first attempt leave their gradients behind."""

        def forward_loss(self, batch: Batch) -> tuple[Tensor, int]:
            self.passes.append(len(batch.input_ids))
            if len(self.passes) == 3:
                raise self.error
            result: tuple[Tensor, int] = self.inner.forward_loss(batch)
            return result

    accumulation = Accumulation(Cut(128))
    run(accumulation, LastPassFails(executor, 0, MemoryError()))
    halved = gradients(executor)
    Accumulation(Cut(128)).run(executor, STEP)
    for a, b in zip(halved, gradients(executor), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_randomness_is_that_of_the_first_attempt(executor: GenericExecutor) -> None:
    drawn: list[float] = []

    class Drawing(Short):
        def forward_loss(self, batch: Batch) -> tuple[Tensor, int]:
            drawn.append(torch.rand(1).item())
            return super().forward_loss(batch)

    run(Accumulation(Cut(512)), Drawing(executor, 0, MemoryError(), times=1))
    assert drawn[0] == drawn[1]


def test_another_error_is_not_taken_for_memory(executor: GenericExecutor) -> None:
    short = Short(executor, most=0, error=RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes"):
        run(Accumulation(Cut(512)), short)


def test_halving_goes_as_far_as_passes_become_smaller(executor: GenericExecutor) -> None:
    longest = max(len(row.ids) for row in ROWS)
    short = Short(executor, most=longest, error=MemoryError())
    accumulation = Accumulation(Cut(1 << 20))
    run(accumulation, short)
    assert max(short.passes[-len(accumulation.batches(STEP)) :]) <= longest
    tried = sorted({tokens for tokens in short.passes if tokens > longest}, reverse=True)
    assert len(tried) == len(accumulation.halvings)  # no attempt was the one before it again


def test_after_single_rows_activations_are_computed_twice(executor: GenericExecutor) -> None:
    short = Short(executor, most=1, error=MemoryError())
    accumulation = Accumulation(Cut(64))
    loss, events = run(accumulation, short)
    gradients(executor)
    assert short.checkpointing
    assert accumulation.halvings[-1]["checkpointing"] is True
    assert "computed twice" in notes(events)[-1]
    assert loss == pytest.approx(Accumulation(Cut(64)).run(executor, STEP), rel=1e-5)


def test_where_nothing_is_left_to_try_it_says_what_to_do(executor: GenericExecutor) -> None:
    memory = counted(executor)
    hopeless = Accumulation(Cut(512), memory, limit_bytes=1)
    with pytest.raises(CapacityError) as caught:
        run(hopeless, Short(executor, most=0, error=MemoryError()))
    assert "one row a pass with checkpointing" in str(caught.value.found)
    assert "data.max_length" in str(caught.value.fix)


def test_a_model_that_cannot_compute_twice_has_one_way_less(executor: GenericExecutor) -> None:
    class Cannot(Short):
        @property
        def checkpointing(self) -> bool:
            return False

        @checkpointing.setter
        def checkpointing(self, wanted: bool) -> None:
            pass

    with pytest.raises(CapacityError, match="does not hold one row") as caught:
        run(Accumulation(Cut(8)), Cannot(executor, most=0, error=MemoryError()))
    assert "without checkpointing" in str(caught.value.found)


# -- the same again ------------------------------------------------------------------------------


def test_what_was_halved_is_halved_again_at_the_same_step(executor: GenericExecutor) -> None:
    plan = list(steps(ROWS, rows_per_step=8, total_steps=3, micro_tokens=512, seed=0))
    first = Accumulation(Cut(512))
    run(first, executor, plan[0])
    run(first, Short(executor, 0, MemoryError(), times=1), plan[1])
    run(first, executor, plan[2])

    repeated = Short(executor, most=1 << 30, error=MemoryError())
    saved: tuple[Mapping[str, Any], ...] = tuple(json.loads(json.dumps(first.halvings)))
    again = Accumulation(Cut(512), halvings=saved)
    seen = []
    for step in plan:
        run(again, repeated, step)
        seen.append(again.micro_tokens)
    assert seen == [512, first.micro_tokens, first.micro_tokens]
    assert again.halvings == saved


def test_checkpointing_is_turned_on_again(executor: GenericExecutor) -> None:
    saved = ({"step": 1, "from": 8, "to": 8, "why": "", "checkpointing": True},)
    short = Short(executor, most=1 << 30, error=MemoryError())
    run(Accumulation(Cut(8), halvings=saved), short)
    assert short.checkpointing


@pytest.mark.parametrize("text", ["std::bad_alloc", "[enforce fail] Cannot allocate memory"])
def test_memory_is_known_by_its_words_and_in_what_an_error_came_from(text: str) -> None:
    assert lack_of_memory(RuntimeError(text)) == text
    outer = RuntimeError("cannot load")
    outer.__cause__ = MemoryError()
    assert lack_of_memory(outer) == "MemoryError"
    assert lack_of_memory(RuntimeError("other")) is None


# -- a real allocation that fails ----------------------------------------------------------------

STARVED = """
import json, resource
import torch
from nexa.core.allocator import keep_pages
from nexa.core.events import listening
from nexa.train.accumulate import Accumulation
from nexa.train.batches import Cut, steps
from tests.train.sample import random_rows

class Hungry:
    '''Keeps half a megabyte a token until the way back, as a real model does.'''
    checkpointing = False
    table = torch.nn.Parameter(torch.full((300,), 0.5))

    def forward_loss(self, batch):
        tokens = len(batch.input_ids)
        wide = self.table[batch.input_ids][:, None].expand(tokens, 1 << 17).exp()
        return wide.mean(1)[batch.label_positions].sum(), len(batch.targets)

    def adapters(self):
        return [self.table]

torch.set_num_threads(1)
keep_pages()
rows = random_rows(16, longest=60)
(step,) = steps(rows, rows_per_step=16, total_steps=1, micro_tokens=512, seed=0)
free = Accumulation(Cut(64))
expected = free.run(Hungry(), step)
grad = Hungry.table.grad.clone()
Hungry.table.grad = None
with open('/proc/self/status') as file:
    held = next(int(line.split()[1]) for line in file if line.startswith('VmData')) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + {room}, resource.RLIM_INFINITY))
starved = Accumulation(Cut(512))
told = []
with listening(told.append):
    loss = starved.run(Hungry(), step)
far = (Hungry.table.grad - grad).abs().max().item()
print(json.dumps([loss, expected, far, starved.micro_tokens, len(starved.halvings), len(told)]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_DATA")
def test_an_allocation_that_fails_halves_and_the_process_goes_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARVED.replace("{room}", str(60_000_000))],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loss, expected, far, micro_tokens, halvings, told = json.loads(done.stdout)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert far < 1e-6
    assert micro_tokens < 512
    assert halvings == told >= 1


def test_the_correction_is_bounded_and_left_out_where_nobody_counts(
    executor: GenericExecutor,
) -> None:
    memory, batch = counted(executor), STEP.batches[0]
    assert _corrected(memory, batch, 1 << 40).correction == 4.0
    assert _corrected(memory, batch, 1).correction == 0.5
    assert _corrected(memory, batch, 0) is memory


# -- a whole training ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fused", "generic"])
def test_a_training_with_a_planted_limit_learns_the_same(
    engine: Any, base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    asked = TrainSpec(
        base,
        lora=LoraSpec(rank=4, alpha=8.0),
        optimizer=OptimizerSpec(lr=1e-2),
        engine=engine,
        precision="float32",
        batch_size=8,
        epochs=2,
        micro_tokens=512,
    )
    free, choices = trained(asked, rows, store)
    assert choices["executor"] == engine
    assert choices["halvings"] == []
    limit = limit_for_a_quarter(asked, rows, store, choices)
    events: list[Event] = []
    with listening(events.append):
        limited, halved = trained(replace(asked, memory_limit=limit), rows, store)
    assert [(h["step"], h["from"], h["to"]) for h in halved["halvings"]] == [
        (1, 512, 256),
        (1, 256, 128),
    ]
    assert halved["micro_tokens"] == 512  # what was resolved; the halvings say the rest
    assert sum("memory is short" in note for note in notes(events)) == 2
    assert limited == pytest.approx(free, abs=1e-4)


def trained(
    spec: TrainSpec, rows: Artifact[DatasetBody], store: Store
) -> tuple[list[float], dict[str, Any]]:
    """The losses of all steps, and what was resolved."""
    draft = finetune(spec, dataset=rows, store=store)  # its files go with it
    losses, resolved = (
        content if isinstance(content, bytes) else content.read_bytes()
        for content in (draft.files["losses.jsonl"], draft.files["resolved.json"])
    )
    choices: dict[str, Any] = json.loads(resolved)
    return [json.loads(line)["loss"] for line in losses.splitlines()], choices


def limit_for_a_quarter(
    spec: TrainSpec, rows: Artifact[DatasetBody], store: Store, choices: Mapping[str, Any]
) -> int:
    """Bytes that passes of 256 tokens would pass, in every step, and those of 128 do not."""
    chat = ChatTemplate(load_tokenizer(spec.model))
    data = training_rows(rows, store, chat, None)
    memory = model_of(spec, spec.model.config, engine=choices["executor"], precision="float32")

    def largest(micro_tokens: int) -> list[int]:
        plan = steps(
            data.rows,
            rows_per_step=8,
            total_steps=4,
            micro_tokens=micro_tokens,
            seed=0,
            share_prefix=choices["prefix"] > 0,
        )
        return [max(map(memory.peak_bytes, step.batches)) for step in plan]

    half, quarter = largest(256), largest(128)
    assert max(quarter) < half[0]
    return (max(quarter) + half[0]) // 2
