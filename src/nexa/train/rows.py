"""The rows of a dataset as the model reads them: token ids, and which of them bear loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from nexa.core.errors import TemplateError
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.overlap import Example, example
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.lm.chat import ChatTemplate
from nexa.train import guards
from nexa.train.batches import TokenRow
from nexa.train.rendered import RenderedRows, mask_digest

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class TrainingRows:
    """What there is to learn from, after the cut to `max_length`."""

    rows: list[TokenRow]
    max_length: int
    truncated: int  # rows that were longer
    without_label: int  # rows left out, because no label was left
    mask_sha256: str  # over token ids and loss masks, those of `validation` too
    validation: Sequence[TokenRow] = ()  # taken out of `rows`: only measured


def training_rows(
    dataset: Artifact[DatasetBody],
    store: Store,
    chat: ChatTemplate,
    max_length: int | None,
    *,
    kept: RenderedRows | None = None,
) -> TrainingRows:
    """Render the split `train`, cut it, and check that it is worth training on.

    What was rendered before is taken from `kept`.

    A row longer than `max_length` (None: what the dataset was prepared for, 0: no limit) keeps
    its beginning, so it loses the end of its answer.

    Raises:
        TemplateError: a row whose trained tokens cannot be known; names the row.
        DataError: no rows.
        TruncationError: the cut takes answers, or their ends, away.
        MaskError: answers, or their ends, bear no loss.
        BosError: rows begin with two beginning-of-sequence tokens.
        LeakError: evaluation rows are among them.
    """
    limit = max_length or dataset.body.max_length
    conversations = read_conversations(store.path(dataset, "train.parquet"))
    _check_splits(dataset, store, conversations)
    _check_suite(dataset, store, conversations)
    whole = _rendered(dataset, conversations, chat, kept)
    cut = [_cut(row, limit) for row in whole]
    rows = [row for row in cut if row.labels]
    lost = [a for a, b in zip(whole, cut, strict=True) if a.labels and not b.labels]
    shorter = {a.row_id for a, b in zip(whole, cut, strict=True) if len(a.ids) > len(b.ids)}
    guards.check_labels(rows, without_label=len(cut) - len(rows), max_length=limit, cut=len(lost))
    guards.check_bos(rows, chat.tokenizer.bos_token_id)
    token = str(chat.tokenizer.convert_ids_to_tokens(chat.end_of_turn[-1]))
    guards.check_end_of_turn(rows, chat.stop_ids, token, shorter)
    return TrainingRows(
        rows=rows,
        max_length=limit,
        truncated=sum(len(a.ids) > len(b.ids) for a, b in zip(whole, cut, strict=True)),
        without_label=len(cut) - len(rows),
        mask_sha256=mask_digest(rows),
    )


def _rendered(
    dataset: Artifact[DatasetBody],
    conversations: Sequence[tuple[str, Messages]],
    chat: ChatTemplate,
    kept: RenderedRows | None,
) -> list[TokenRow]:
    if kept is None:
        return render(conversations, chat)
    return kept.get(
        [row_id for row_id, _ in conversations],
        content=dataset.files["train.parquet"],
        template=chat.sha256,
        render=lambda: render(conversations, chat),
    )


def read_conversations(path: Path) -> list[tuple[str, Messages]]:
    """Row id and messages of every row of a split, in its order."""
    table: dict[str, list[Any]] = pq.read_table(path, columns=["row_id", "messages"]).to_pydict()
    return list(zip(table["row_id"], table["messages"], strict=True))


def render(conversations: Sequence[tuple[str, Messages]], chat: ChatTemplate) -> list[TokenRow]:
    """Token ids and loss mask of every conversation.

    Raises:
        TemplateError: names the row.
    """
    rows = []
    rendered = chat.render_each(messages for _, messages in conversations)
    for (row_id, _), result in zip(conversations, rendered, strict=True):
        if isinstance(result, TemplateError):
            raise TemplateError(
                f"row {row_id}: {result.what}", found=result.found, fix=result.fix
            ) from result
        rows.append(TokenRow(row_id, result.ids, result.trained))
    return rows


def _cut(row: TokenRow, limit: int) -> TokenRow:
    if not limit or len(row.ids) <= limit:
        return row
    return TokenRow(row.row_id, row.ids[:limit], row.trained[:limit])


def _check_splits(
    dataset: Artifact[DatasetBody], store: Store, training: Sequence[tuple[str, Messages]]
) -> None:
    """No conversation of another split is trained on, whatever its id."""
    own = {_said(messages) for _, messages in training}
    for split in dataset.body.splits:
        file = f"{split}.parquet"
        if split != "train" and file in dataset.files:
            others = read_conversations(store.path(dataset, file))
            guards.check_held_out(own, {_said(messages) for _, messages in others})


def _check_suite(
    dataset: Artifact[DatasetBody], store: Store, training: Sequence[tuple[str, Messages]]
) -> None:
    """No row gives a prompt away of the frozen suite that the dataset was made beside."""
    if "suite" not in dataset.inputs:
        return  # its own splits are all that is held out, and `_check_splits` has compared them
    suite = store.by_digest(dataset.inputs["suite"])
    lines = store.path(suite, "prompts.jsonl").read_bytes().split(b"\n")
    held_out = [_asked(json.loads(line)) for line in lines if line]
    guards.check_leaks([example(messages) for _, messages in training], held_out)


def _asked(row: dict[str, Any]) -> Example:
    """A suite's row as prompt and answer, as `overlap.example` has a conversation."""
    target = row["target"]
    text = target if isinstance(target, str) else json.dumps(target, ensure_ascii=False)
    return example([*row["messages"], {"role": "assistant", "content": text}])


def _said(messages: Messages) -> str:
    return sha256_bytes(canonical_json([[m["role"], m["content"]] for m in messages]))
