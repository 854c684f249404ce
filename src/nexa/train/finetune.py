"""The step: a dataset and a base model become a checkpoint."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from nexa.core.allocator import keep_pages
from nexa.core.errors import ModelError
from nexa.core.events import emit, progress
from nexa.core.hardware import this_machine
from nexa.core.identity import sha256_file
from nexa.core.records import Artifact, CheckpointBody, DatasetBody, Draft
from nexa.core.store import Store, require_space, write_atomic
from nexa.lm import adapters
from nexa.lm.chat import ChatTemplate
from nexa.lm.load import load, load_tokenizer
from nexa.train import guards, optim
from nexa.train.batches import steps
from nexa.train.executor import PROBE_TOKENS, GenericExecutor, Trained, compute, generic
from nexa.train.loop import StepRecord, train
from nexa.train.rows import TrainingRows, training_rows
from nexa.train.spec import Resolved, TrainSpec, resolve_micro_tokens, resolve_precision

WEIGHTS = "model.safetensors"


def finetune(
    spec: TrainSpec, *, dataset: Artifact[DatasetBody], store: Store
) -> Draft[CheckpointBody]:
    """Train an adapter, or all weights, on the split `train` of a dataset.

    The draft's files are those that `CheckpointBody` names. The process's one loaded model is
    left as it was. Equal specs, datasets, machines and thread counts give equal bytes.

    Raises:
        TrainingError: a guard found the run to be worth nothing; at the first step if it can.
        ModelError: the model cannot be loaded, or already carries an adapter.
        StorageError: no space for what would be written.
    """
    allocator = keep_pages()
    if spec.model.adapter is not None:
        raise ModelError(
            f"{spec.model.name} is a base with an adapter on it",
            fix="train from its merged export instead: export/NAME@vN",
        )
    chat = ChatTemplate(load_tokenizer(spec.model))
    data = training_rows(dataset, store, chat, spec.max_length)
    with _scratch(spec) as folder, torch.random.fork_rng(devices=[]):
        run = _run(spec, data, allocator, folder)
        body = _body(spec, run, data, chat)
        draft = Draft("checkpoint", spec.name, body, run.files)
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


@contextlib.contextmanager
def _scratch(spec: TrainSpec) -> Iterator[Path]:
    """A temporary folder that outlives the step if the step succeeds."""
    folder = Path(tempfile.mkdtemp(prefix="nexa-train-", dir=spec.scratch))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _run(spec: TrainSpec, data: TrainingRows, allocator: str, folder: Path) -> _Run:
    """Load, train, check, write."""
    precision = resolve_precision(spec.precision)
    # All weights are trained as float32 masters; bfloat16 is what they are multiplied in.
    autocast = spec.method == "full" and precision == "bfloat16"
    with (
        _trained(spec, "float32" if spec.method == "full" else precision) as (model, trained),
        generic(model, trained, data.rows, autocast=autocast) as executor,
    ):
        guards.check_trainable(executor.adapters())
        count = sum(p.numel() for p in executor.adapters())
        require_space(folder, 4 * count, "the checkpoint")
        resolved = _resolve(spec, data, executor, precision, allocator)
        before = _probe_logits(executor, data)
        records = list(_steps(spec, data, executor, resolved))
        state = executor.state()
        guards.check_changed(before, _probe_logits(executor, data), state)
        layers = list(trained.adapters) if isinstance(trained, adapters.AttachedLora) else []
    files = _write(spec, folder, state, resolved, records)
    return _Run(resolved, records, layers, count, files)


@contextlib.contextmanager
def _trained(spec: TrainSpec, dtype: str) -> Iterator[tuple[PreTrainedModel, Trained]]:
    """The loaded model and what of it is trained; afterwards it is the base again."""
    model = load(spec.model, dtype=dtype).model
    if spec.adapter is not None:
        lora = adapters.attach(model, spec.adapter, spec.seed)
        try:
            yield model, lora
        finally:
            lora.detach()
    else:
        try:
            yield model, AllWeights(model)
        finally:
            model.zero_grad(set_to_none=True)
            load(spec.model, dtype=dtype)  # reads the base's weights back into the module


@dataclass(frozen=True)
class AllWeights:
    """Every parameter of a float32 model."""

    model: PreTrainedModel

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Each one once, tied or not."""
        return list(self.model.parameters())

    def state(self) -> dict[str, Tensor]:
        """A copy of the model's tensors by name; of tied ones, the first name's."""
        seen: set[int] = set()
        kept = {}
        for name, tensor in self.model.state_dict().items():
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                kept[name] = tensor.detach().to("cpu", copy=True).contiguous()
        return kept


def _resolve(
    spec: TrainSpec, data: TrainingRows, executor: GenericExecutor, precision: str, allocator: str
) -> Resolved:
    """Settle every automatic choice."""
    rows, way = len(data.rows), executor.way
    total_steps = spec.total_steps(rows)
    return Resolved(
        precision=precision,
        micro_tokens=resolve_micro_tokens(
            spec.micro_tokens, executor.model.config, precision, this_machine().memory_bytes
        ),
        max_length=data.max_length,
        total_steps=total_steps,
        steps_per_epoch=spec.steps_per_epoch(rows),
        warmup_steps=spec.scheduler.warmup(total_steps),
        threads=torch.get_num_threads(),
        allocator=allocator,
        layout=way.layout,
        layout_reason=way.layout_reason,
        head=way.head,
        head_reason=way.head_reason,
        rows=rows,
        rows_truncated=data.truncated,
        rows_without_label=data.without_label,
    )


def _steps(
    spec: TrainSpec, data: TrainingRows, executor: GenericExecutor, resolved: Resolved
) -> Iterator[StepRecord]:
    """Run the loop and tell how it goes: a bar, and a line at the end of each epoch."""
    total = resolved.total_steps
    plan = steps(
        data.rows,
        rows_per_step=spec.rows_per_step,
        total_steps=total,
        micro_tokens=resolved.micro_tokens,
        seed=spec.seed,
        padded=resolved.layout == "padded",
    )
    loop = train(
        executor,
        plan,
        optim.optimizer(spec.optimizer, executor.adapters()),
        optim.schedule(spec.scheduler, lr=spec.optimizer.lr, total_steps=total),
        max_grad_norm=spec.optimizer.max_grad_norm,
        seed=spec.seed,
    )
    epochs = -(-total // resolved.steps_per_epoch)
    epoch: list[StepRecord] = []
    begin = time.monotonic()
    with progress("training", total, "steps") as bar:
        for record in loop:
            now = time.monotonic()
            speed = round(record.tokens / (now - begin))
            bar.advance(loss=round(record.loss, 4), lr=record.lr, tokens_per_s=speed)
            begin = now
            epoch.append(record)
            if record.step == total or record.step % resolved.steps_per_epoch == 0:
                loss = epoch_losses(epoch)[-1]
                emit("train.epoch", epoch=record.epoch, epochs=epochs, loss=loss, lr=record.lr)
                epoch.clear()
            yield record


def epoch_losses(records: list[StepRecord]) -> list[float]:
    """The mean loss of each epoch, over label tokens."""
    nats: dict[int, float] = defaultdict(float)
    tokens: dict[int, int] = defaultdict(int)
    for record in records:
        nats[record.epoch] += record.loss * record.label_tokens
        tokens[record.epoch] += record.label_tokens
    return [nats[epoch] / tokens[epoch] for epoch in nats]


@torch.no_grad()
def _probe_logits(executor: GenericExecutor, data: TrainingRows) -> Tensor:
    """Logits of the beginning of the first row, as the model is now."""
    model = executor.model
    ids = torch.tensor([data.rows[0].ids[:PROBE_TOKENS]], device=model.device)
    model.train(False)
    with compute(model, executor.autocast):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    model.train(True)
    return logits


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
    lines = [json.dumps(asdict(record)) for record in records]
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
        template_sha256=chat.sha256,
        mask_sha256=data.mask_sha256,
        end_of_turn=list(chat.end_of_turn),
        weights_sha256=sha256_file(run.files[adapters.WEIGHTS if adapter else WEIGHTS]),
    )
