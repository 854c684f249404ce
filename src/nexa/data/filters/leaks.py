"""Decontamination: no row that is trained on may give a held-out row away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import IntegrityError
from nexa.core.events import emit
from nexa.core.overlap import Example, leaks
from nexa.data.rows import Reject, Row

LEAK = "leaks a held-out row"


@dataclass(frozen=True)
class HeldOut:
    """The rows of a suite: what they ask and answer, their ids, and what they belong to."""

    examples: tuple[Example, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]


def drop_leaks(rows: Sequence[Row], held_out: HeldOut) -> tuple[list[Row], list[Reject]]:
    """Leave out rows that leak.

    Rows of a held-out row's group whose texts differ stay, and their number is told: what a group
    means is the user's to know.
    """
    found: dict[int, str] = {}
    for hit in leaks([row.example for row in rows], held_out.examples):
        why = f"{hit.reason} ({hit.score:.2f}) of the held-out row {held_out.ids[hit.eval_index]}"
        found.setdefault(hit.train_index, why)
    kept = [row for index, row in enumerate(rows) if index not in found]
    same_group = sum(row.group in held_out.groups for row in kept)
    if same_group:
        text = f"{same_group:,} rows belong to groups that held-out rows belong to; they are kept"
        emit("note", text=text)
    return kept, [Reject(rows[index].line, LEAK, why) for index, why in found.items()]


def read_suite(prompts: Path) -> HeldOut:
    """The rows of a suite's `prompts.jsonl`.

    Raises:
        IntegrityError: the file is not a suite's.
    """
    examples, ids, groups = [], [], []
    try:
        for line in prompts.read_text(encoding="utf-8").split("\n"):
            if not line:
                continue
            row = json.loads(line)
            said = [m for m in row["messages"] if m["role"] != "system"]
            target = row["target"]
            text = target if isinstance(target, str) else json.dumps(target, ensure_ascii=False)
            examples.append(Example("\n".join(m["content"] for m in said), text))
            ids.append(str(row["id"]))
            groups.append(str(row["group"]))
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{prompts} is not a suite's prompts", found=repr(error)) from error
    return HeldOut(tuple(examples), tuple(ids), tuple(groups))
