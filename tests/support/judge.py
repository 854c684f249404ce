"""A judge for the scripted endpoint: it reads the prompts as they are written, and is steady.

Answers that hold what was wanted get 5, others 2; of two answers the longer one is better.
"""

from __future__ import annotations

import json
import re
from typing import Any

FENCED = re.compile(r"^(answer-\w+) begin\n(.*)\n\1 end$", re.DOTALL | re.MULTILINE)
NONCE = re.compile(r'"nonce" \(the text (\w+)\)')
KEY = re.compile(r'"(\w+)": (1\||"first"\|)')

Messages = list[dict[str, str]]


def inside(messages: Messages) -> dict[str, Any]:
    """What stands between the fences of a prompt, read as JSON."""
    found = FENCED.search(messages[-1]["content"])
    assert found is not None, messages[-1]["content"]
    told: dict[str, Any] = json.loads(found[2])
    return told


def decided(messages: Messages, value: Any) -> str:
    """A verdict that says the same of every key."""
    text = messages[-1]["content"]
    keys = [name for name, _ in KEY.findall(text)]
    nonce = NONCE.findall(text)[-1]
    return json.dumps({"nonce": nonce, "reason": "so it is", **dict.fromkeys(keys, value)})


def judge(messages: Messages) -> str:
    """The verdict on any prompt of `nexa.eval.judge_prompts`."""
    data = inside(messages)
    if "answer" in data:
        return decided(messages, 5 if '"value"' in data["answer"] else 2)
    first, second = len(data["first answer"]), len(data["second answer"])
    return decided(messages, "tie" if first == second else "first" if first > second else "second")


def first_place(messages: Messages) -> str:
    """A judge that always takes the first answer."""
    return decided(messages, "first")


def spent(messages: Messages) -> str:
    """A judge that says nothing that can be read."""
    return "I would rather not say."
