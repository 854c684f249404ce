"""What the child process does: the longest batch, then merge and publication of a stand-in.

The model is loaded once. The memory is probed as the training will use it: the same executor, the
same batch layout, gradients, the optimiser's moments. Then the adapter gets small random numbers
in place of what training would have learnt, and goes through the real merge with its proof and the
real publication, into a store and a Hub that are folders in scratch.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn.utils import clip_grad_norm_

from nexa.core.allocator import keep_pages, peak_bytes, restart_peak
from nexa.core.config import Config, load_config
from nexa.core.hardware import this_machine
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.lm import adapters
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles, resolve
from nexa.lm.tokenizer import load_tokenizer
from nexa.orchestrate import plan
from nexa.orchestrate.check.stand_ins import NAME, StandIns
from nexa.orchestrate.runner import run_step
from nexa.train import guards, optim
from nexa.train.accumulate import Accumulation
from nexa.train.batches import Batch, Cut, Step, TokenRow, lay
from nexa.train.engines import engine
from nexa.train.executor import Executor
from nexa.train.finetune import WEIGHTS
from nexa.train.memory import model_for, resolve_micro_tokens
from nexa.train.rendered import rendered_rows
from nexa.train.rows import TrainingRows, training_rows
from nexa.train.spec import TrainSpec, resolve_precision
from nexa.weights.convert import ConvertSpec
from nexa.weights.merge_adapter import PARITY

# Of B's numbers: with a rank of 16 it moves a layer's weights by a few per cent, as training does.
SMALL = 0.01
# Of each matrix's own spread, where all weights are trained: survives rounding to bfloat16.
SMALL_SHARE = 0.02

Measured = Callable[..., None]


class Rehearsal:
    """One job of the child; its stages are to be run in their order."""

    def __init__(self, job: dict[str, Any], measured: Measured) -> None:
        self._job = job
        self._measured = measured
        # The checkpoint, the export, then gguf1 and so on.
        self._made: dict[str, Artifact[Any]] = {}

    def stages(self) -> dict[str, Callable[[], str]]:
        """Name -> what to run."""
        return {
            "memory": self.memory,
            "merge": self.merge,
            "gguf": self.gguf,
            "publish": self.publish,
        }

    # -- memory --------------------------------------------------------------------------

    def memory(self) -> str:
        """Forward and backward on the longest batch, and one step of the optimiser.

        Raises:
            NexaError: what would stop the training at its first step.
            MemoryError, RuntimeError: an allocation failed.
        """
        keep_pages()
        spec, data = self._spec, self._data
        # Only now: rendering is Rust's, which may wait for ever where an allocation fails.
        _limit_memory(self._job["memory_limit_bytes"])
        precision = resolve_precision(spec.precision)
        with engine(spec, data.rows, precision) as executor:
            micro_tokens = resolve_micro_tokens(
                spec.micro_tokens,
                model_for(spec, executor, precision),
                data.rows,
                this_machine().memory_bytes,
            )
            told = self._probe(executor, micro_tokens)
            self._write_trained(executor)
        return told

    def _probe(self, executor: Executor, micro_tokens: int) -> str:
        """A small pass to measure by, then the largest there can be; returns what was seen."""
        spec, rows, engine_name = self._spec, self._data.rows, executor.way.engine
        optimizer = optim.optimizer(spec.optimizer, executor.adapters())
        longest = max(rows, key=lambda row: len(row.ids))
        held = restart_peak()
        _forward_backward(executor, lay([longest]))
        self._measured(
            held_bytes=held,
            bytes_a_token=(peak_bytes() - held) / len(longest.ids),
            longest_row_tokens=len(longest.ids),
            micro_tokens=micro_tokens,
            engine=engine_name,
        )
        memory = model_for(spec, executor, resolve_precision(spec.precision))
        limited = Accumulation(Cut(micro_tokens, memory.padded), memory, spec.memory_limit)
        batch = longest_batch(rows, spec.rows_per_step, executor, limited)
        begin = time.monotonic()
        _forward_backward(executor, batch)
        speed = sum(batch.lengths) / (time.monotonic() - begin)
        optimizer.step()
        peak = peak_bytes()
        tokens = sum(len(row.ids) for row in rows) / len(rows) * spec.rows_per_step
        seconds = spec.total_steps(len(rows)) * tokens / speed
        self._measured(peak_bytes=peak, tokens_per_s=round(speed), training_s=round(seconds))
        room = self._job["memory_limit_bytes"] / 1e9
        return (
            f"{peak / 1e9:.1f} GB at the longest batch ({sum(batch.lengths):,} tokens) with the "
            f"{engine_name} engine, {room:.1f} GB free; about {seconds:.0f} s of training at "
            f"{speed:.0f} tokens/s"
        )

    def _write_trained(self, executor: Executor) -> None:
        """Small random numbers in place of what is learnt, written and sealed as a checkpoint."""
        folder = self._scratch / "trained"
        folder.mkdir()
        _disturb(executor)
        state = executor.state()
        adapter, layers = self._spec.adapter, list[str]()
        if adapter is not None:
            adapters.write(folder, state, adapter, self.base.ref)
            layers = adapters.module_names(state)
        else:
            save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        self._made["checkpoint"] = self._stand_ins.checkpoint(
            self._spec, self._chat, folder, layers, parameters=sum(map(torch.numel, state.values()))
        )

    # -- merge, conversion and publication -----------------------------------------------

    def merge(self) -> str:
        """The real merge with its proof, on the untrained model.

        Raises:
            ParityError: the merged model is not base and adapter.
        """
        made, _ = run_step(
            "merge",
            plan.merge(self.base, self._scratch),
            self._made,
            store=self._stand_ins.store,
        )
        self._made["export"] = made
        checks = made.body.parity["checks"]
        return f"{len(checks)} checks of parity passed on a random adapter"

    def gguf(self) -> str:
        """The real conversion to each GGUF file that is to be published, with its proof.

        Raises:
            ModelError: GGUF cannot hold a model of this family, tokenizer or shape.
            MissingExtra: a K-quant without the extra `gguf`.
            ParityError: the file is not the merged model.
        """
        wanted = self.config.publish.quantizations if self.config.publish else ()
        if not wanted:
            return "not published as GGUF"
        export, store = self._made["export"], self._stand_ins.store
        folder = store.checkout(export, self._scratch / "merged")
        (folder / PARITY).unlink()
        seen: dict[str, dict[str, float]] = {}
        for number, name in enumerate(wanted, 1):
            begin = time.monotonic()
            spec = ConvertSpec(resolve(str(folder)), "gguf", name, name=NAME, scratch=self._scratch)
            made, _ = run_step("convert", spec, {"export": export}, store=store)
            self._made[f"gguf{number}"] = made
            size = sum(store.path(made, file).stat().st_size for file in made.files)
            seen[name] = {"bytes": size, "seconds": round(time.monotonic() - begin, 1)}
        self._measured(gguf=seen)
        told = [f"{n}: {s['bytes'] / 1e6:,.1f} MB in {s['seconds']:g} s" for n, s in seen.items()]
        return f"{', '.join(told)}, proved on the untrained model"

    def publish(self) -> str:
        """Card, records and files of a publication, into a folder, and verified there.

        The answers stand in for both models': nothing was generated, so no score means anything,
        and nothing of it leaves the scratch folder.

        Raises:
            GateError: a secret in a file, or evidence that does not hang together.
        """
        made = {**self._records, **self._made}
        files = self._stand_ins.publication(self.config, made, self._chat)
        size = sum(path.stat().st_size for path in files.values())
        return f"{len(files)} files, {size / 1e6:.0f} MB, card and records verified"

    # -- what all of them share ------------------------------------------------------------

    @cached_property
    def config(self) -> Config:
        """The configuration under check."""
        return load_config(Path(self._job["config"]))

    @cached_property
    def base(self) -> ModelFiles:
        """The model to start from."""
        return plan.base_model(self.config, self._tiers)

    @cached_property
    def _tiers(self) -> Tiers:
        return Tiers.of(Path(self._job["config"]).parent)

    @cached_property
    def _scratch(self) -> Path:
        return Path(self._job["scratch"])

    @cached_property
    def _spec(self) -> TrainSpec:
        return plan.finetune(self.config, self._tiers.root, self.base, self._scratch)

    @cached_property
    def _records(self) -> dict[str, Artifact[Any]]:
        """The dataset and the suite, as they were sealed for the training."""
        found = self._job["records"]
        return {role: self._tiers.store.by_digest(digest) for role, digest in found.items()}

    @cached_property
    def _chat(self) -> ChatTemplate:
        return ChatTemplate(load_tokenizer(self.base))

    @cached_property
    def _data(self) -> TrainingRows:
        dataset: Artifact[DatasetBody] = self._records["dataset"]
        spec = self._spec
        kept = rendered_rows(spec.rendered, spec.model)
        return training_rows(dataset, self._tiers.store, self._chat, spec.max_length, kept=kept)

    @cached_property
    def _stand_ins(self) -> StandIns:
        return StandIns(self.base, self._tiers.store, Store(self._scratch / "store"), self._scratch)


def longest_batch(
    rows: Sequence[TokenRow], rows_per_step: int, executor: Executor, accumulation: Accumulation
) -> Batch:
    """The largest batch that any step of any epoch could hold: the longest rows in one step."""
    longest = tuple(sorted(rows, key=lambda row: -len(row.ids))[:rows_per_step])
    step = Step(0, 0, (), len(longest), longest)

    def cells(batch: Batch) -> int:
        lengths = batch.lengths
        return max(lengths) * len(lengths) if accumulation.cut.padded else sum(lengths)

    return max(accumulation.settle(executor, step), key=cells)


def _forward_backward(executor: Executor, batch: Batch) -> None:
    """One pass as the training makes it, with the training's own guards.

    Raises:
        TrainingError: loss or gradient is nothing, or not a number.
    """
    loss, labels = executor.forward_loss(batch)
    (loss / max(1, labels)).backward()
    norm = clip_grad_norm_(executor.adapters(), float("inf")).item()
    step = Step(0, 0, (batch,), len(batch.lengths))
    guards.check_step(step, loss=loss.item() / max(1, labels), grad_norm=norm)


@torch.no_grad()
def _disturb(executor: Executor) -> None:
    """Put something where training would have put what it learnt: seeded, small, everywhere."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in zip(executor.names(), executor.adapters(), strict=True):
        if ".lora_B." in name:
            parameter.normal_(0.0, SMALL, generator=generator)
        elif ".lora_" not in name and parameter.ndim >= 2:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (SMALL_SHARE * parameter.std()))


# -- memory of this process ----------------------------------------------------------------------


def _limit_memory(room_bytes: int, process: Path = Path("/proc/self")) -> None:
    """Let an allocation fail here instead of having the system kill some other program.

    The limit is what this process holds now and `room_bytes` more. Only Linux knows it.
    """
    status = process / "status"
    if not status.exists():
        return
    held = _status_bytes(status.read_text(encoding="utf-8"), "VmData")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = max(0, held + room_bytes)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _status_bytes(status: str, name: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
