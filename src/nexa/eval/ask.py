"""An API model's answers to a frozen suite.

The prompts are the suite's, as messages: the server writes them in its own template. Nobody here
learns likelihoods from it, so there is no cross-entropy, and what it ran is what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.errors import EvalError
from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import AnswersBody, Artifact, Draft, ModelRef, Spent, SuiteBody
from nexa.core.scoring import write_rows
from nexa.core.seals import REMOTE
from nexa.core.store import Store
from nexa.eval.spent import measured
from nexa.eval.suite import Question, read_suite
from nexa.eval.tasks.table import require_text_answers
from nexa.lm.client import Request
from nexa.lm.requests import Answered, ask_all
from nexa.lm.teaching import MOST_NAME, Teacher, public_identity, request_digest

NAMED_ROWS = 3


@dataclass(frozen=True)
class AskSpec:
    """Which model is asked. `again` counts how often what was left without an answer is asked."""

    teacher: Teacher
    name: str = where()
    again: int = 0


def ask(spec: AskSpec, *, suite: Artifact[SuiteBody], store: Store) -> Draft[AnswersBody]:
    """Ask the model every question of the suite, at temperature 0.

    Answers are in the teacher's journal before they are used: a run that was killed asks only for
    the rest, and nothing is paid for twice.

    The draft's file is `answers.jsonl` (id, text, new_tokens, stopped, latency_s, input_tokens,
    cost_usd, finish). A question without an answer is a row whose text is null, with the `problem`:
    its scores are missing, not 0.

    Raises:
        EvalError: a model of this machine, whose answers `generate` makes; no question answered.
        BudgetSpent: the budget does not reach for all; what was answered stays in the journal.
        AccessError: the server refuses the key.
        RequestFailed: the first requests, or many in a row, failed in the same way.
    """
    teacher = spec.teacher
    if teacher.identity["provider"] == "local":
        raise EvalError(
            f"{teacher.name} is a model of this machine",
            fix="name it as a model, not as a teacher: it is answered here, with its likelihoods",
        )
    require_text_answers(suite.body, teacher.name)
    questions = read_suite(suite, store)
    requests = requests_of(questions, suite.body.max_new_tokens)
    answered = ask_all(teacher.model, requests, journal=teacher.journal, pace=teacher.pace)
    rows = [_row(answer) for answer in answered]
    _tell_failures(teacher, rows)
    extras = [answer.completion.extra for answer in answered if answer.completion]
    body = AnswersBody(
        model=model_ref(teacher),
        suite_digest=suite.digest,
        rows=len(rows),
        decoding=_decoding(suite.body.max_new_tokens, extras),
        stopped=sum(row["stopped"] for row in rows),
        new_tokens=sum(row["new_tokens"] for row in rows),
        template_sha256="",
        first_prompt_sha256=sha256_bytes(canonical_json(_messages(questions[0]))),
        general_cross_entropy=None,
        spent=_spent(teacher, answered, rows),
        served=sorted({a.completion.model[:MOST_NAME] for a in answered if a.completion}),
        failed=sum(row["text"] is None for row in rows),
    )
    return Draft("answers", spec.name, body, {"answers.jsonl": write_rows(rows)})


def requests_of(questions: Sequence[Question], max_new_tokens: int) -> list[Request]:
    """What is sent: one request a question."""
    return [
        Request(
            id=question.id,
            messages=tuple(_messages(question)),
            max_new_tokens=max_new_tokens,
            temperature=0.0,
        )
        for question in questions
    ]


def model_ref(teacher: Teacher) -> ModelRef:
    """Which model: no files stand behind the digest, only who was asked, and for what."""
    identity = public_identity(teacher.identity)
    return ModelRef(
        name=teacher.name,
        origin=f"{REMOTE}{identity['provider']}",
        digest=sha256_bytes(canonical_json(identity)),
    )


def _messages(question: Question) -> list[dict[str, str]]:
    return [dict(turn) for turn in question.messages]


def _decoding(max_new_tokens: int, extras: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How it was asked; `without` names what the server did not take of that."""
    without = sorted({name for extra in extras for name in extra.get("without", ())})
    return {
        "method": "greedy",
        "engine": "api",
        "temperature": 0,
        "max_new_tokens": max_new_tokens,
        **({"without": without} if without else {}),
    }


def _row(answer: Answered) -> dict[str, Any]:
    """A line of `answers.jsonl`; half a surrogate pair, which no file can hold, as `?`."""
    done = answer.completion
    if done is None:
        missing = {"text": None, "new_tokens": 0, "stopped": False, "latency_s": None}
        return {"id": answer.request.id, **missing, "problem": answer.problem}
    return {
        "id": answer.request.id,
        "text": done.text.encode(errors="replace").decode(),
        "new_tokens": done.output_tokens,
        "stopped": done.finish == "stop",
        "latency_s": round(done.latency_s, 3),
        "input_tokens": done.input_tokens,
        "cost_usd": answer.cost_usd,
        "finish": done.finish,
    }


def _spent(
    teacher: Teacher, answered: Sequence[Answered], rows: Sequence[Mapping[str, Any]]
) -> Spent:
    """Tokens and dollars of the answers; of equal questions one was paid for."""
    paid = {request_digest(a.request): a for a in answered if a.completion is not None}
    costs = [answer.cost_usd for answer in paid.values()]
    known = [usd for usd in costs if usd is not None]
    price = teacher.model.price
    return measured(
        rows,
        input_tokens=sum(row["input_tokens"] for row in rows if row["text"] is not None),
        cost_usd=sum(known) if len(known) == len(costs) else None,
        price_source=price.source if price else None,
    )


def _tell_failures(teacher: Teacher, rows: Sequence[Mapping[str, Any]]) -> None:
    """Say which questions have no answer.

    Raises:
        EvalError: none has.
    """
    lost = [row for row in rows if row["text"] is None]
    if not lost:
        return
    named = "; ".join(f"{row['id']}: {row['problem']}" for row in lost[:NAMED_ROWS])
    if len(lost) == len(rows):
        raise EvalError(f"{teacher.name} answered none of {len(rows):,} questions", found=named)
    emit(
        "note",
        text=f"{teacher.name}: {len(lost):,} of {len(rows):,} questions have no answer ({named}); "
        "their scores are missing, not 0",
    )
