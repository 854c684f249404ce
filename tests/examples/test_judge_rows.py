"""The rows that teach a judge: the prompts of `nexa judge`, and verdicts that it can read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nexa.eval.rubrics.reading import load_rubric
from nexa.eval.verdicts import read_verdict
from nexa.orchestrate.evaluate import Asked
from nexa.orchestrate.judging import Judging, judge_answers
from nexa.orchestrate.teaching import Choice
from tests.eval.judging import nonce_of, verdict
from tests.examples.modules import imported
from tests.examples.test_hypotheses import FOLDER, read, with_room
from tests.support.project import write_project
from tests.support.scripted_endpoint import Script, ScriptedEndpoint

NAMES = load_rubric("research").names
SCHEMA = {
    "type": "object",
    "properties": {name: {"enum": [1, 2, 3, 4, 5]} for name in NAMES},
    "required": ["nonce", "reason", *NAMES],
    "additionalProperties": {"type": "string"},
}


@pytest.fixture(scope="module")
def module() -> Iterator[ModuleType]:
    """The example's script, beside the modules that it imports."""
    with imported(FOLDER, ["judge_rows"]) as found:
        yield found["judge_rows"]


def test_every_training_question_is_answered_and_graded_in_every_way(
    module: ModuleType, tmp_path: Path
) -> None:
    module.main([str(tmp_path / "judge.jsonl")])

    rows = [json.loads(line) for line in (tmp_path / "judge.jsonl").read_text().splitlines()]

    assert Counter(row["domain"] for row in rows) == dict.fromkeys(module.KINDS, 48)
    assert len({row["id"] for row in rows}) == 384
    assert {row["group"] for row in rows} == {row["group"] for row in read("train")}
    for row in rows:
        *asked, said = row["messages"]
        levels = read_verdict(said["content"], nonce_of(asked[-1]["content"]), SCHEMA)
        assert tuple(levels[name] for name in NAMES) == module.KINDS[row["domain"]].strict


def test_their_prompts_are_those_that_a_judge_is_sent(
    module: ModuleType, tmp_path: Path, tiny_llama: Path
) -> None:
    write_project(tmp_path, with_room(tiny_llama, tmp_path / "model"))
    sent: list[list[dict[str, Any]]] = []

    def listen(messages: list[dict[str, Any]]) -> str:
        sent.append(messages)
        return verdict(nonce_of(messages[-1]["content"]), dict.fromkeys(NAMES, 3))

    with ScriptedEndpoint(Script(function=listen)) as served:
        judge_answers(
            f"scripted:{FOLDER / 'reference_model.json'}",
            Judging(),
            Choice(name="judge", base_url=served.url),
            Asked(data=FOLDER / "eval.jsonl"),
            tmp_path,
        )

    made = {tuple(turn["content"] for turn in row["messages"][:-1]) for row in module.rows("eval")}
    asked = {tuple(turn["content"] for turn in messages) for messages in sent}
    off_topic = {answer["id"] for answer in read("reference_answers") if "{" not in answer["text"]}
    assert len(asked) == 48
    # What an answer about something else says is drawn.
    assert len(asked - made) <= len(off_topic) == 6
