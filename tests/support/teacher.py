"""A teacher for the scripted endpoint: it reads the prompts as they are written, and answers well.

Its rows are those of `tests.support.project`, so they fit the dataset that they are made for.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.project import rows

FENCED = re.compile(r"^(data-\w+) begin\n(.*)\n\1 end$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"number (\d+)")
FIRST = 1000  # its own rows begin where those of the tests end

Messages = list[dict[str, str]]


def inside(messages: Messages) -> Any:
    """What stands between the fences of a prompt, read as JSON."""
    found = FENCED.search(messages[-1]["content"])
    assert found is not None, messages[-1]["content"]
    return json.loads(found[2])


def number_of(messages: Messages) -> int:
    """The variation that a prompt asks for."""
    found = NUMBER.search(messages[-1]["content"].rsplit(" end\n", 1)[-1])
    return int(found[1]) if found else 1


def pair(number: int) -> tuple[str, str]:
    """A question and its answer that nobody asked before."""
    [row] = rows([FIRST + number])
    return f"{row['context']}\n\n{row['prompt']}", json.dumps(row["target_answer"])


def teach(messages: Messages) -> str:
    """The answer to any prompt of `nexa.data.templates`; to any other, the record it asks for."""
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    if system.startswith("You write rows"):
        question, answer = pair(number_of(messages))
        return json.dumps({"instruction": question, "answer": answer})
    if system.startswith("You rephrase"):
        return json.dumps({key: rephrased(text) for key, text in inside(messages).items()})
    if system.startswith("You write questions"):
        text = inside(messages)["text"]
        quote = text.split("\n")[0]
        question = f"What is told about {quote[:20]}, for the {number_of(messages)}. time?"
        return json.dumps({"question": question, "answer": text, "quote": quote})
    if system.startswith("You review"):
        return json.dumps({"good": False, "critique": "The answer has no unit."})
    if system.startswith("You revise"):
        row = inside(messages)
        return json.dumps({"answer": f"{row['answer']} in units, as the critique wants it"})
    return answered(messages)


def answered(messages: Messages) -> str:
    """The record that a prompt of the tests' project asks for, in the teacher's own words."""
    asked = messages[-1]["content"]
    found = re.search(r"The value of (\w+) is (\d+)", asked)
    if found is None:
        return f"Nobody knows the answer to: {asked}"
    return json.dumps({"name": found[1], "value": int(found[2])})


def rephrased(text: str) -> str:
    """The same in other words."""
    return re.sub(r"The value of (\w+) is (\d+) units\.", r"\1 is worth \2 of those units.", text)
