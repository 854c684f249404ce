"""Judges by a script, and answers for them to judge."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nexa.core.records import AnswersBody, Artifact, Draft, ModelRef, SuiteBody
from nexa.core.scoring import read_rows, write_rows
from nexa.core.store import Store
from nexa.eval.rubrics.rubric import Criterion, Rubric
from nexa.eval.suite import read_suite
from nexa.lm.client import Price, Request
from nexa.lm.scripted_chat import FREE, ScriptedChat
from nexa.lm.teaching import Teacher
from tests.eval import made

FENCED = re.compile(r"^(answer-\w+) begin\n(.*)\n\1 end$", re.DOTALL | re.MULTILINE)
NONCE = re.compile(r'"nonce" \(the text (\w+)\)')
LEVELS = ("none", "some", "half", "most", "all")
RUBRIC = Rubric(
    "two",
    (Criterion("clarity", "Is it clear?", LEVELS), Criterion("depth", "Is it deep?", LEVELS, 3.0)),
)
Answering = Callable[[Mapping[str, Any], str, Request], str]


def data_of(text: str) -> dict[str, Any]:
    """What stands between the fences of a prompt, read as JSON."""
    found = FENCED.search(text)
    assert found is not None, text
    told: dict[str, Any] = json.loads(found[2])
    return told


def nonce_of(text: str) -> str:
    """The number that a verdict on the prompt must name."""
    return NONCE.findall(text)[-1]


def teacher(
    say: Answering, folder: Path, *, name: str = "judge", price: Price | None = FREE
) -> Teacher:
    """A judge that says what a function makes of the data, the nonce and the request."""

    def answer(request: Request) -> str:
        text = request.messages[-1]["content"]
        return say(data_of(text), nonce_of(text), request)

    model = ScriptedChat(answer, name=name, price=price)
    return Teacher(name, dict(model.identity), model, folder / f"{name}.jsonl")


def verdict(nonce: str, levels: Mapping[str, Any], reason: str = "as it is") -> str:
    """A verdict as it should be."""
    return json.dumps({"nonce": nonce, "reason": reason, **levels})


def both(level: Any) -> dict[str, Any]:
    """The same for every criterion of `RUBRIC`."""
    return {"clarity": level, "depth": level}


def pair(place: str) -> dict[str, str]:
    """The same for every criterion of `RUBRIC` and overall."""
    return {"clarity": place, "depth": place, "overall": place}


def fair(data: Mapping[str, Any], nonce: str, request: Request) -> str:
    """A judge that finds `level N` in an answer, 3 where there is none."""
    found = re.search(r"level (\d)", str(data["answer"]))
    return verdict(nonce, both(int(found[1]) if found else 3))


def answers(
    store: Store,
    suite: Artifact[SuiteBody],
    texts: Sequence[str | None] | str = "an answer",
    *,
    name: str = "model",
    **changes: Any,
) -> Artifact[AnswersBody]:
    """Sealed answers to the suite; one text stands for all rows."""
    questions = read_suite(suite, store)
    given = [texts] * len(questions) if isinstance(texts, str) else list(texts)
    rows = [
        {"id": q.id, "text": text, "new_tokens": 5, "stopped": text is not None, "latency_s": 0.1}
        for q, text in zip(questions, given, strict=True)
    ]
    fields: dict[str, Any] = {
        "model": ModelRef(name=name, origin="folder", digest=name),
        "suite_digest": suite.digest,
        "rows": len(rows),
        "decoding": {"method": "greedy", "engine": "made"},
        "stopped": len(rows),
        "new_tokens": 5 * len(rows),
        "template_sha256": "0" * 64,
        "first_prompt_sha256": "0" * 64,
        "general_cross_entropy": 3.0,
    }
    inputs = changes.pop("inputs", {})
    body = AnswersBody(**{**fields, **changes})
    draft = Draft("answers", name, body, {"answers.jsonl": write_rows(rows)})
    return made.seal(draft, store, suite=suite, **inputs)


def rows_of(draft: Draft[Any], name: str = "judgements.jsonl") -> list[dict[str, Any]]:
    """The rows of a draft's file."""
    content = draft.files[name]
    assert isinstance(content, bytes)
    return read_rows(content)
