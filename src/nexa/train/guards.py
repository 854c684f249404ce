"""What stops a run that would be worth nothing: at the first step, not after the last.

Each guard names what it saw and what to do. None of them warns and goes on.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor, nn

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
from nexa.core.overlap import Example, leaks
from nexa.train.batches import Step, TokenRow
from nexa.train.spikes import Astray

# Shares of rows. A few answers may be cut or end oddly in any data; more than one in a hundred is
# a fault of the length or of the template.
LOST_ANSWERS_ALLOWED, OPEN_ANSWERS_ALLOWED = 0.01, 0.01
ALIKE_ALLOWED = 0.02  # of the held-out rows
SAMPLE = 4096  # numbers of each parameter that are watched during the first step


def check_labels(
    rows: Sequence[TokenRow], *, without_label: int, max_length: int, cut: int | None = None
) -> None:
    """There are rows, and almost all of them have an answer left after the cut to `max_length`.

    `rows` are those that have a label; `without_label` counts the others, and `cut` those of the
    others that had one before the cut (None: all of them).

    Raises:
        DataError: no rows at all.
        TruncationError: the cut takes answers away.
        MaskError: rows bear no loss, whatever their length.
    """
    total = len(rows) + without_label
    cut = without_label if cut is None else cut
    if total == 0:
        raise DataError("cannot train: the dataset has no training rows")
    if without_label - cut > LOST_ANSWERS_ALLOWED * total:
        raise MaskError(
            "cannot train: no token of the answers bears loss",
            found=f"{without_label - cut} of {total} rows, none of them cut",
            fix="look at what is trained: nexa data mask",
        )
    if not rows:
        raise TruncationError(
            "cannot train: no token bears loss, every answer is cut off",
            found=f"{total} rows, none with an answer inside the first {max_length} tokens",
            fix="raise data.max_length, or shorten the context of each row",
        )
    if cut > LOST_ANSWERS_ALLOWED * total:
        raise TruncationError(
            f"cannot train: the cut to {max_length} tokens takes whole answers away",
            found=f"{cut} of {total} rows have no answer left",
            fix="raise data.max_length, or shorten the context of each row",
        )


def check_end_of_turn(
    rows: Sequence[TokenRow],
    end_of_turn: Collection[int],
    token: str,
    cut: Collection[str] = (),
) -> None:
    """Answers end with a trained end-of-turn token: without it the tuned model never stops.

    `cut` has the ids of rows that were cut, whose end is gone for that reason.

    Raises:
        TruncationError: the ends were cut off.
        MaskError: the token is there and bears no loss, as where padding is the same token.
        TemplateError: the template writes none.
    """
    ends, gone = set(end_of_turn), set(cut)
    is_open = [row for row in rows if not _ends_with(row, ends)]
    if len(is_open) <= OPEN_ANSWERS_ALLOWED * len(rows):
        return
    first = is_open[0]
    found = (
        f"{len(is_open)} of {len(rows)} answers have no trained end-of-turn token {token}, "
        f"first row {first.row_id}"
    )
    if all(row.row_id in gone for row in is_open):
        raise TruncationError(
            "cannot train: the model would not learn to stop, the ends of the answers are cut off",
            found=found,
            fix="raise data.max_length, or shorten the context of each row",
        )
    if any(_has_untrained_end(row, ends) for row in is_open):
        raise MaskError(
            "cannot train: the model would not learn to stop, the end of turn bears no loss",
            found=found,
            fix="leave the token out of what is masked: it must not be masked as padding is",
        )
    raise TemplateError(
        "cannot train: the model would not learn to stop, the template ends no turn",
        found=found,
        fix="end the assistant's turn with the eos token in the tokenizer's chat template",
    )


def _ends_with(row: TokenRow, ends: set[int]) -> bool:
    """Whether the row's last trained token ends a turn."""
    last = _last_trained(row)
    return last is not None and row.ids[last] in ends


def _has_untrained_end(row: TokenRow, ends: set[int]) -> bool:
    """Whether an end of turn that bears no loss comes after what is trained last."""
    last = _last_trained(row)
    return any(token in ends for token in row.ids[0 if last is None else last + 1 :])


def _last_trained(row: TokenRow) -> int | None:
    return next((i for i in reversed(range(len(row.ids))) if row.trained[i]), None)


def check_bos(rows: Sequence[TokenRow], bos: int | None) -> None:
    """No row begins with two beginning-of-sequence tokens.

    Raises:
        BosError: names the first row that does.
    """
    twice = [row.row_id for row in rows if bos is not None and row.ids[:2] == [bos, bos]]
    if twice:
        raise BosError(
            "cannot train: rows begin with two beginning-of-sequence tokens",
            found=f"{len(twice)} of {len(rows)} rows, first row {twice[0]}",
            fix="remove one bos_token from the chat template, or from the texts themselves",
        )


def check_vocabulary(rows: Sequence[TokenRow], vocabulary: int) -> None:
    """Every token has a row of the embedding, which has `vocabulary` of them.

    Raises:
        VocabularyError: names the first row with a token beyond it.
    """
    for row in rows:
        if max(row.ids) >= vocabulary:
            raise VocabularyError(
                "cannot train: the tokenizer does not belong to this model",
                found=f"token {max(row.ids)} in row {row.row_id}; "
                f"the model's embedding has {vocabulary} rows",
                fix="put the model's own tokenizer into its folder",
            )


def check_held_out(train: Collection[str], held_out: Collection[str]) -> None:
    """No evaluation row is trained on. Both are digests of whole conversations.

    Raises:
        LeakError: some are.
    """
    both = sorted(set(train) & set(held_out))
    if both:
        raise LeakError(
            "cannot train: evaluation rows are among the training rows",
            found=f"{len(both)} rows, the first has the digest {both[0][:16]}",
            fix="prepare the dataset again, so that its splits share no row",
        )


def check_leaks(train: Sequence[Example], held_out: Sequence[Example]) -> None:
    """No training row gives a held-out one away: no equal prompt, near-duplicate or quotation.

    Likeness is weighed over the whole corpus, so that a pair just below the limit when the data
    was prepared may be just above it without the rows left out since: so few pass here, and the
    report calls them by name. An equal prompt never passes.

    Raises:
        LeakError: some do; says how many and in which way.
    """
    hits = leaks(train, held_out)
    asked = len({hit.eval_index for hit in hits})
    exact = any(hit.reason == "same prompt" for hit in hits)
    if exact or asked > ALIKE_ALLOWED * len(held_out):
        rows = len({hit.train_index for hit in hits})
        first = max(hits, key=lambda hit: hit.score)
        raise LeakError(
            "cannot train: evaluation rows are among the training rows",
            found=f"{rows} training rows give {asked} of {len(held_out)} held-out rows away; "
            f"first: {first.reason} ({first.score:.2f})",
            fix="take them out of data.train_path, and prepare the dataset again",
        )


def check_weights(tensors: Iterable[tuple[str, Tensor]]) -> None:
    """All weights are numbers before the first step.

    Raises:
        WeightsError: names the tensors that are not.
    """
    broken = [n for n, t in tensors if t.is_floating_point() and not bool(t.isfinite().all())]
    if broken:
        raise WeightsError(
            "cannot train: the model's weights are not numbers",
            found=f"{len(broken)} tensors: {', '.join(broken[:3])}",
            fix="download or convert the model again",
        )


def check_trainable(parameters: Sequence[nn.Parameter]) -> None:
    """Something is trained.

    Raises:
        NothingTrained: nothing is.
    """
    if not any(p.requires_grad and p.numel() for p in parameters):
        raise NothingTrained(
            "cannot train: no parameter is trained",
            found=f"{len(parameters)} parameters, all of them frozen or empty",
            fix="set lora.target_modules: all-linear",
        )


def check_step(step: Step, *, loss: float, grad_norm: float) -> None:
    """Loss and gradient are numbers, and neither is nothing.

    Raises:
        Astray: one is no number; an earlier state may lead past it.
        TrainingError: one is zero.
    """
    where = f"step {step.index + 1}: loss {loss:.6g}, gradient norm {grad_norm:.6g}"
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise Astray(
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


def check_moved(before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    """The first step moved something; both are what `samples` took of the parameters.

    Raises:
        TrainingError: every weight is what it was.
    """
    if all(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
        raise TrainingError(
            "training changed nothing: every weight is what it was before the first step",
            found=f"{len(before)} tensors",
            fix="raise optimizer.lr",
        )


def samples(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The beginning of each parameter, copied: enough to see whether it moves."""
    return [p.detach().flatten()[:SAMPLE].clone() for p in parameters]


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
