"""A project whose tiny model can be improved: it learns one word a domain, and one is left out.

The weak domain is in the pool. Every question has six made-up words of its own, so that no row
gives another away; what is to be answered hangs on the first word alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.support.project import write_config, write_rows
from tests.support.teacher import inside, number_of

ANSWERS = {"metals": "heavy", "salts": "white", "gases": "light"}
WEAK = "gases"
KNOWN = tuple(name for name in ANSWERS if name != WEAK)
RULE = "exact_match < 0.6"
SECTIONS: dict[str, dict[str, Any] | None] = {
    "optimizer": {"lr": 4e-3},
    "lora": None,
    "training": {
        **{"method": "full", "max_steps": 120, "precision": "float32"},
        "checkpoints": {"every": 40},
    },
    "data": {"batch_size": 8},
    "eval": {"rows": 90, "max_new_tokens": 6, "forgetting_limit_nats": 50.0},
    "feedback": {"rules": [RULE], "by": ["domain"], "rows": 40},
}


def question(domain: str, number: int) -> str:
    """What nobody else asks."""
    drawn = random.Random(f"{domain}{number}")
    words = ["".join(drawn.choices("abcdefghijklmnop", k=5)) for _ in range(6)]
    return f"{domain} {' '.join(words)}"


def rows(
    domain: str, numbers: Iterable[int], answers: Mapping[str, str] = ANSWERS
) -> list[dict[str, Any]]:
    """Questions of a domain, each in a group of its own."""
    return [
        {
            "prompt": question(domain, number),
            "completion": answers[domain],
            "domain": domain,
            "group": f"{domain}{number}",
        }
        for number in numbers
    ]


def write_improvable(
    folder: Path, model: str | Path, *, pool: list[dict[str, Any]] | None = None, **changes: Any
) -> Path:
    """Training rows without the weak domain, held-out rows of all, a pool; the config's path."""
    write_rows(folder / "train.jsonl", [r for name in KNOWN for r in rows(name, range(40))])
    write_rows(folder / "eval.jsonl", [r for name in ANSWERS for r in rows(name, range(100, 130))])
    offered = [r for name in ANSWERS for r in rows(name, range(200, 240))]
    write_rows(folder / "pool.jsonl", offered if pool is None else pool)
    sections = {name: {**(SECTIONS.get(name) or {}), **change} for name, change in changes.items()}
    return write_config(folder, model, **{**SECTIONS, **sections})


def teach(messages: list[dict[str, str]]) -> str:
    """A teacher for the scripted endpoint that knows the weak domain: it asks, and it answers."""
    given = inside(messages)
    if "question" in given:
        return json.dumps({"answer": ANSWERS[given["question"].partition(" ")[0]]})
    return json.dumps({"question": question(WEAK, 1000 + number_of(messages))})
