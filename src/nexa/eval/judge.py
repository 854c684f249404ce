"""Answers judged one by one: a model grades each by a rubric, as often as is wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nexa.core.errors import EvalError
from nexa.core.identity import where
from nexa.core.records import AnswersBody, Artifact, Draft, JudgementsBody, SuiteBody
from nexa.core.store import Store
from nexa.eval import fence
from nexa.eval.agreement import between_repeats
from nexa.eval.metrics import read_answers
from nexa.eval.own_judge import refuse_own, require_another, served_itself
from nexa.eval.rubrics.rubric import Rubric
from nexa.eval.suite import Question, read_suite
from nexa.eval.verdicts import Bench, Case, Decoding, Heard, files_of, hear, reason_of, spent_on
from nexa.lm.client import Request
from nexa.lm.teaching import Teacher

NO_TEXT = "there is no answer"


@dataclass(frozen=True)
class JudgeSpec:
    """Who judges by which rubric, and how often."""

    judge: Teacher
    rubric: Rubric
    name: str = where()
    decoding: Decoding = field(default_factory=Decoding)
    allow_self_judge: bool = False
    again: int = 0  # raised to ask once more for what was not answered


@dataclass(frozen=True)
class Exhibit:
    """A question with an answer to it, as the judge is shown them."""

    id: str
    data: Mapping[str, Any]
    flags: tuple[str, ...]
    left_out: int


def judge(
    spec: JudgeSpec, *, suite: Artifact[SuiteBody], answers: Artifact[AnswersBody], store: Store
) -> Draft[JudgementsBody]:
    """Have every answer graded.

    The draft's files are `judgements.jsonl`, `requests.jsonl` and `rubric.json`. A row of the
    first is `{"id", CRITERION: [level of each repeat, or null], ..., "reasons": [...], "problem",
    "flags", "left_out"}`; null is a verdict that could not be had.

    Raises:
        EvalError: the answers are another suite's, the judge is the model itself, or not one
            verdict could be read.
        BudgetSpent: the budget does not reach for all; what was answered stays in the journal.
    """
    own = require_another(spec.judge, [answers], store, allowed=spec.allow_self_judge)
    bench = bench_of(spec)
    questions = read_suite(suite, store)
    given = texts_of(suite, questions, answers, store)
    exhibits = {q.id: exhibit(q, given[q.id], bench) for q in questions}
    cases = _cases(exhibits, spec.decoding)
    heard = hear(bench, cases)
    if not own and (own := served_itself(heard.served, answers.body)):
        refuse_own(spec.judge.name, answers.body.model.name, allowed=spec.allow_self_judge)
    rows = [_row(q.id, exhibits[q.id], heard, bench) for q in questions]
    body = JudgementsBody(
        model=answers.body.model,
        suite_digest=suite.digest,
        answers_digest=answers.digest,
        mode="absolute",
        seal=bench.seal(),
        criteria=spec.rubric.names,
        primary=spec.rubric.primary,
        repeats=spec.decoding.repeats,
        requested=len(cases),
        unparsable=heard.unparsable,
        retried=heard.retried,
        failed=heard.failed,
        self_judged=own,
        served=heard.served,
        agreement_between_repeats=between_repeats(rows, spec.rubric.names),
        flagged=flagged(exhibits.values()),
        spent=spent_on(heard.requests, spec.judge),
    )
    return Draft("judgements", spec.name, body, files_of(rows, heard, spec.rubric))


def requests_of(
    spec: JudgeSpec, *, suite: Artifact[SuiteBody], answers: Artifact[AnswersBody], store: Store
) -> list[Request]:
    """All requests of the job but those that ask again, for an estimate."""
    bench = bench_of(spec)
    questions = read_suite(suite, store)
    given = texts_of(suite, questions, answers, store)
    exhibits = {q.id: exhibit(q, given[q.id], bench) for q in questions}
    return [bench.request(case)[0] for case in _cases(exhibits, spec.decoding)]


def bench_of(spec: JudgeSpec) -> Bench:
    """The judge as it will be asked."""
    return Bench(spec.judge, spec.rubric, spec.decoding, "absolute")


def texts_of(
    suite: Artifact[SuiteBody],
    questions: Sequence[Question],
    answers: Artifact[AnswersBody],
    store: Store,
) -> dict[str, str | None]:
    """Each answer's text by its row, None where there is no answer.

    Raises:
        EvalError: the answers are likelihoods, another suite's, or not one for each row.
    """
    given = read_answers(suite, questions, answers, store)
    if any("text" not in row for row in given.values()):
        raise EvalError(
            f"{answers.label} has no texts to judge",
            found=f"the task {suite.body.task} asks how likely given texts are",
        )
    return {row_id: row["text"] for row_id, row in given.items()}


def exhibit(question: Question, text: str | None, bench: Bench) -> Exhibit | None:
    """What the judge is shown of a row; None where there is no answer."""
    if text is None:
        return None
    answer = fence.shown(text, keys=["nonce", *bench.keys])
    data: dict[str, Any] = {"question": asked_of(question), "answer": answer.text}
    if bench.rubric.show_target:
        data["wanted_answer"] = fence.shown(question.target).text
    return Exhibit(question.id, data, answer.flags, answer.left_out)


def asked_of(question: Question) -> Any:
    """The turns before the answer: their text if there is one, else each with its role."""
    turns = [
        {"role": turn["role"], "content": fence.shown(turn["content"]).text}
        for turn in question.messages
    ]
    alone = len(turns) == 1 and turns[0]["role"] == "user"
    return turns[0]["content"] if alone else turns


def flagged(exhibits: Iterable[Exhibit | None]) -> dict[str, int] | None:
    """How many answers try what: kind -> answers; None where none does."""
    kinds = Counter(flag for one in exhibits if one is not None for flag in one.flags)
    return dict(sorted(kinds.items())) or None


def _cases(exhibits: Mapping[str, Exhibit | None], decoding: Decoding) -> list[Case]:
    return [
        Case(f"{row_id} #{repeat}", one.data, repeat)
        for row_id, one in exhibits.items()
        if one is not None
        for repeat in range(decoding.repeats)
    ]


def _row(row_id: str, one: Exhibit | None, heard: Heard, bench: Bench) -> dict[str, Any]:
    """A line of judgements.jsonl."""
    keys = [f"{row_id} #{repeat}" for repeat in range(bench.decoding.repeats)]
    said = [heard.verdicts.get(key) for key in keys]
    problems = [heard.problems[key] for key in keys if key in heard.problems]
    return {
        "id": row_id,
        **{
            name: [None if verdict is None else int(verdict[name]) for verdict in said]
            for name in bench.keys
        },
        "reasons": [None if verdict is None else reason_of(verdict) for verdict in said],
        "problem": NO_TEXT if one is None else "; ".join(problems),
        "flags": [] if one is None else list(one.flags),
        "left_out": 0 if one is None else one.left_out,
    }
