"""What stops a run that would be worth nothing: at the first step, not after the last.

Each guard names what it saw and what to do. None of them warns and goes on.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from nexa.core.errors import TrainingError
from nexa.train.batches import Step, TokenRow

# Shares of rows. A few answers may be cut or end oddly in any data; more than one in a hundred is
# a fault of the length or of the template.
LOST_ANSWERS_ALLOWED, OPEN_ANSWERS_ALLOWED = 0.01, 0.01


def check_labels(rows: Sequence[TokenRow], *, without_label: int, max_length: int) -> None:
    """There are rows, and almost all of them have an answer left after the cut to `max_length`.

    `rows` are those that have a label; `without_label` counts the others.
    """
    total = len(rows) + without_label
    if total == 0:
        raise TrainingError("cannot train: the dataset has no training rows")
    if not rows:
        raise TrainingError(
            "cannot train: no token bears loss, every answer is cut off",
            found=f"{total} rows, none with an answer inside the first {max_length} tokens",
            fix="raise data.max_length, or shorten the context of each row",
        )
    if without_label > LOST_ANSWERS_ALLOWED * total:
        raise TrainingError(
            f"cannot train: the cut to {max_length} tokens takes whole answers away",
            found=f"{without_label} of {total} rows have no answer left",
            fix="raise data.max_length, or shorten the context of each row",
        )


def check_end_of_turn(rows: Sequence[TokenRow], end_of_turn: Collection[int], token: str) -> None:
    """Answers end with a trained end-of-turn token: without it the tuned model never stops."""
    ends = set(end_of_turn)
    is_open = [not _ends_with(row, ends) for row in rows]
    if sum(is_open) > OPEN_ANSWERS_ALLOWED * len(rows):
        first = rows[is_open.index(True)].row_id
        raise TrainingError(
            "cannot train: the model would not learn to stop",
            found=f"{sum(is_open)} of {len(rows)} answers have no trained end-of-turn token "
            f"{token}, first row {first}",
            fix="raise data.max_length if they are cut; else mend the chat template",
        )


def _ends_with(row: TokenRow, ends: set[int]) -> bool:
    """Whether the row's last trained token ends a turn."""
    last = next((i for i in reversed(range(len(row.ids))) if row.trained[i]), None)
    return last is not None and row.ids[last] in ends


def check_held_out(train: Collection[str], held_out: Collection[str]) -> None:
    """No evaluation row is trained on. Both are digests of whole conversations."""
    both = sorted(set(train) & set(held_out))
    if both:
        raise TrainingError(
            "cannot train: evaluation rows are among the training rows",
            found=f"{len(both)} rows, the first has the digest {both[0][:16]}",
            fix="prepare the dataset again, so that its splits share no row",
        )


def check_trainable(parameters: Sequence[nn.Parameter]) -> None:
    """Something is trained."""
    if not any(p.requires_grad and p.numel() for p in parameters):
        raise TrainingError(
            "cannot train: no parameter is trained",
            found=f"{len(parameters)} parameters, all of them frozen or empty",
            fix="set lora.target_modules: all-linear",
        )


def check_step(step: Step, *, loss: float, grad_norm: float) -> None:
    """Loss and gradient are numbers, and neither is nothing."""
    where = f"step {step.index + 1}: loss {loss:.6g}, gradient norm {grad_norm:.6g}"
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise TrainingError(
            "training stopped: the loss or its gradient is not a number",
            found=where,
            fix="lower optimizer.lr, or set training.precision: float32",
        )
    if loss == 0.0:
        raise TrainingError(
            "training stopped: the loss is zero, so there is nothing to learn from",
            found=f"{where}, {step.label_tokens} label tokens",
            fix="look at what is trained: nexa data mask",
        )
    if grad_norm == 0.0:
        raise TrainingError(
            "training stopped: no gradient reaches what is trained",
            found=where,
            fix="set lora.target_modules: all-linear",
        )


def check_changed(before: Tensor, after: Tensor, state: dict[str, Tensor]) -> None:
    """Training changed the model: an adapter with B = 0, or equal logits, is no result.

    `before` and `after` are the logits of one document without and with what was trained.
    """
    sides = [tensor for name, tensor in state.items() if ".lora_B." in name]
    if sides and not any(bool(tensor.any()) for tensor in sides):
        raise TrainingError(
            "training changed nothing: B of every adapted layer is zero",
            fix="raise optimizer.lr or the number of steps",
        )
    if torch.equal(before, after):
        raise TrainingError(
            "training changed nothing: the model gives the same logits as before",
            fix="raise optimizer.lr, or set training.precision: float32",
        )
    broken = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    if broken or not bool(after.isfinite().all()):
        raise TrainingError(
            "training ended with weights that are not numbers",
            found=", ".join(broken[:3]) or "logits that are not numbers",
            fix="lower optimizer.lr",
        )
