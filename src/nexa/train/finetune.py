"""The step: a dataset and a base model become a checkpoint."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from nexa.core.allocator import keep_pages, prefault
from nexa.core.errors import ModelError
from nexa.core.hardware import this_machine
from nexa.core.identity import sha256_file
from nexa.core.records import Artifact, CheckpointBody, DatasetBody, Draft
from nexa.core.store import Store, write_atomic
from nexa.lm import adapters
from nexa.lm.chat import ChatTemplate
from nexa.lm.tokenizer import load_tokenizer
from nexa.train import checkpoint, guards, optim, resume
from nexa.train.checkpoint import RunState
from nexa.train.engines import engine
from nexa.train.executor import PROBE_TOKENS, Executor
from nexa.train.fused import shared_prefix
from nexa.train.keeper import Keeper
from nexa.train.loop import StepRecord
from nexa.train.memory import ahead_bytes, model_for, resolve_micro_tokens
from nexa.train.rendered import rendered_rows
from nexa.train.rows import TrainingRows, training_rows
from nexa.train.spec import (
    Resolved,
    TrainSpec,
    resolve_every,
    resolve_precision,
)
from nexa.train.stopping import Clock, Watch
from nexa.train.under_way import UnderWay, epoch_losses
from nexa.train.validation import hold_out, resolve_validate_every

WEIGHTS = "model.safetensors"


def finetune(
    spec: TrainSpec,
    *,
    dataset: Artifact[DatasetBody],
    store: Store,
    clock: Clock = time.monotonic,
) -> Draft[CheckpointBody]:
    """Train an adapter, or all weights, on the split `train` of a dataset.

    The draft's files are those that `CheckpointBody` names. The process's one loaded model is
    left as it was. Equal specs, datasets, machines and thread counts give equal bytes, also where
    the run was killed and went on from a checkpoint in `spec.run_state`.

    SIGINT and SIGTERM end it after the step under way, with a checkpoint. `spec.limits` end it with
    the weights so far; `clock` is what tells them the time.

    Raises:
        DataError: the rows are not worth training on; a class of its own for each reason.
        TrainingError: a guard found the run to be worth nothing, at the first step if it can; or
            a checkpoint from which the same weights cannot be reached any more.
        ModelError: the model cannot be loaded, or already carries an adapter.
        StorageError: no space for what would be written.
        MissingExtra: the optimiser is part of an extra that is not installed.
        Interrupted: a signal ended it; says from which step it goes on.
    """
    allocator, watch = keep_pages(), Watch(clock)
    optim.require(spec.optimizer)
    if spec.model.adapter is not None:
        raise ModelError(
            f"{spec.model.name} is a base with an adapter on it",
            fix="train from its merged export instead: export/NAME@vN",
        )
    # While tokenizer and weights are read, the pages of the first pass are made.
    prefault(ahead_bytes(spec, dataset.body, resolve_precision(spec.precision)))
    chat = ChatTemplate(load_tokenizer(spec.model))
    kept = rendered_rows(spec.rendered, spec.model)
    data = hold_out(spec, training_rows(dataset, store, chat, spec.max_length, kept=kept))
    with _scratch(spec) as folder, torch.random.fork_rng(devices=[]):
        run = _run(spec, data, allocator, watch, folder)
        body = _body(spec, run, data, chat)
        draft = Draft("checkpoint", spec.name, body, run.files, own=folder)
        weakref.finalize(draft, shutil.rmtree, folder, ignore_errors=True)
    return draft


@dataclass(frozen=True)
class _Run:
    """What the training left."""

    resolved: Resolved
    records: list[StepRecord]
    layers: list[str]
    parameters: int
    files: dict[str, Path]
    stopped: str | None
    best_step: int | None
    rollbacks: list[str]


@contextlib.contextmanager
def _scratch(spec: TrainSpec) -> Iterator[Path]:
    """A temporary folder that outlives the step if the step succeeds."""
    folder = Path(tempfile.mkdtemp(prefix="nexa-train-", dir=spec.scratch))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _run(spec: TrainSpec, data: TrainingRows, allocator: str, watch: Watch, folder: Path) -> _Run:
    """Load, train, check, write."""
    found = checkpoint.newest_valid(spec.run_state) if spec.run_state else None
    precision = found.resolved["precision"] if found else resolve_precision(spec.precision)
    with engine(spec, [*data.rows, *data.validation], precision) as executor:
        resolved = _resolve(spec, data, executor, precision, allocator)
        under_way = _settled(spec, data, executor, resolved, found, watch)
        records, state = _trained_state(under_way, data, executor, found, folder)
        count = sum(p.numel() for p in executor.adapters())
    files = _write(spec, folder, state, under_way.resolved, records)
    layers = adapters.module_names(state) if spec.adapter is not None else []
    return _Run(
        under_way.resolved,
        records,
        layers,
        count,
        files,
        stopped=under_way.stopped,
        best_step=under_way.best_step,
        rollbacks=[str(rollback) for rollback in under_way.rollbacks],
    )


def _settled(
    spec: TrainSpec,
    data: TrainingRows,
    executor: Executor,
    resolved: Resolved,
    found: RunState | None,
    watch: Watch,
) -> UnderWay:
    """The training with its choices: those that it was begun with, if it is not begun now."""
    facts = resume.facts(this_machine(), data.mask_sha256)
    if found is not None and spec.run_state is not None:
        resolved = resume.settle(spec, found, resolved, facts, spec.run_state)
    return UnderWay(spec, data, executor, resolved, facts, _keeper(spec, resolved), watch)


def _trained_state(
    under_way: UnderWay,
    data: TrainingRows,
    executor: Executor,
    found: RunState | None,
    folder: Path,
) -> tuple[list[StepRecord], dict[str, Tensor]]:
    """Train to the end; what came out has to differ from what the model was without it."""
    before = executor.logits(data.rows[0].ids[:PROBE_TOKENS])
    under_way.begin(found, folder)
    with under_way.given_up_for_good():
        records = under_way.to_the_end()
        state = executor.state()
        guards.check_changed(before, executor.logits(data.rows[0].ids[:PROBE_TOKENS]), state)
    return records, state


def _keeper(spec: TrainSpec, resolved: Resolved) -> Keeper | None:
    """Who keeps the run's checkpoints, if it keeps any."""
    if spec.run_state is None:
        return None
    every = resolve_every(spec.checkpoint_every, resolved.total_steps, spec.method)
    return Keeper(spec.run_state, every, spec.checkpoint_keep, spec.commit)


def _resolve(
    spec: TrainSpec, data: TrainingRows, executor: Executor, precision: str, allocator: str
) -> Resolved:
    """Settle every automatic choice."""
    rows, way = len(data.rows), executor.way
    total_steps = spec.total_steps(rows)
    memory = model_for(spec, executor, precision)
    micro_tokens = resolve_micro_tokens(
        spec.micro_tokens, memory, data.rows, this_machine().memory_bytes
    )
    is_fused = way.engine == "fused"
    return Resolved(
        precision=precision,
        micro_tokens=micro_tokens,
        prefix=shared_prefix(data.rows, spec.rows_per_step, micro_tokens) if is_fused else 0,
        max_length=data.max_length,
        total_steps=total_steps,
        steps_per_epoch=spec.steps_per_epoch(rows),
        warmup_steps=spec.scheduler.warmup(total_steps),
        threads=torch.get_num_threads(),
        allocator=allocator,
        executor=way.engine,
        executor_reason=way.engine_reason,
        layout=way.layout,
        layout_reason=way.layout_reason,
        head=way.head,
        head_reason=way.head_reason,
        device=executor.adapters()[0].device.type,
        attention=way.attention,
        kernels=way.kernels,
        rows=rows,
        rows_truncated=data.truncated,
        rows_without_label=data.without_label,
        halvings=spec.again.halvings if spec.again else (),
        validation_rows=len(data.validation),
        validate_every=resolve_validate_every(spec, total_steps),
    )


def _write(
    spec: TrainSpec,
    folder: Path,
    state: dict[str, Tensor],
    resolved: Resolved,
    records: list[StepRecord],
) -> dict[str, Path]:
    """Write the checkpoint's files; returns them by name."""
    if spec.adapter is not None:
        adapters.write(folder, state, spec.adapter, spec.model.ref)
    else:
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    write_atomic(folder / "resolved.json", json.dumps(asdict(resolved), indent=2).encode())
    lines = [json.dumps(record.told()) for record in records]
    write_atomic(folder / "losses.jsonl", ("\n".join(lines) + "\n").encode())
    return {path.name: path for path in sorted(folder.iterdir())}


def _body(spec: TrainSpec, run: _Run, data: TrainingRows, chat: ChatTemplate) -> CheckpointBody:
    """The record."""
    losses = epoch_losses(run.records)
    adapter = spec.adapter
    return CheckpointBody(
        base=spec.model.ref,
        method=spec.method,
        rank=adapter.rank if adapter else None,
        alpha=adapter.alpha if adapter else None,
        variant=adapter.variant if adapter else None,
        plus_ratio=adapter.plus_ratio if adapter else None,
        quantization=spec.quantize.scheme if spec.quantize else None,
        double_quantization=spec.quantize.double if spec.quantize else None,
        target_modules=sorted({name.rsplit(".", 1)[-1] for name in run.layers}),
        engine=run.resolved.engine,
        precision=run.resolved.precision,
        seed=spec.seed,
        epochs=len(run.records) / run.resolved.steps_per_epoch,
        steps=len(run.records),
        rows=len(data.rows),
        tokens_trained=sum(record.tokens for record in run.records),
        label_tokens=sum(record.label_tokens for record in run.records),
        trainable_parameters=run.parameters,
        first_loss=run.records[0].loss,
        final_loss=losses[-1],
        epoch_losses=losses,
        stopped=run.stopped,
        best_step=run.best_step,
        rollbacks=run.rollbacks,
        validation_rows=len(data.validation),
        template_sha256=chat.sha256,
        mask_sha256=data.mask_sha256,
        end_of_turn=list(chat.end_of_turn),
        weights_sha256=sha256_file(run.files[adapters.WEIGHTS if adapter else WEIGHTS]),
    )
