"""Decontamination: no row that is trained on may give a held-out row away."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import IntegrityError
from nexa.core.events import emit
from nexa.core.overlap import Example, Hit
from nexa.data.keys import Keys, keys_of, within

LEAK = "leaks a held-out row"


@dataclass(frozen=True)
class HeldOut:
    """The rows of a suite: what they ask and answer, their ids, and what they belong to."""

    examples: tuple[Example, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]


def leaking(hits: Iterable[Hit], held_out: HeldOut) -> dict[int, str]:
    """Rows that leak, ascending, and how. `hits` are those of `overlap.leaks`, in its order."""
    found: dict[int, str] = {}
    for hit in hits:
        why = f"{hit.reason} ({hit.score:.2f}) of the held-out row {held_out.ids[hit.eval_index]}"
        found.setdefault(hit.train_index, why)
    return found


def tell_groups(groups: Keys, held_out: HeldOut) -> None:
    """Say how many rows that stay belong to a held-out row's group.

    Their texts differ, and what a group means is the user's to know.
    """
    same_group = int(within(groups, keys_of(list(held_out.groups))).sum())
    if same_group:
        text = f"{same_group:,} rows belong to groups that held-out rows belong to; they are kept"
        emit("note", text=text)


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
