"""The step `propose`: rows that a teacher writes for the slices a model is weak on.

A generator has questions written. Each is then answered several times over, by the same teacher
under other words and other examples; it becomes a row only where the answers agree, with each
other and with the right one where that is known. So a teacher that is wrong now and then is heard
twice before it is believed. Every question without a row stands in `rejects.jsonl`, with why.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nexa.core.errors import DataError, UsageError
from nexa.core.events import emit
from nexa.core.identity import sha256_bytes, where
from nexa.core.overlap import normalise
from nexa.core.records import (
    AnswersBody,
    Artifact,
    DatasetBody,
    Draft,
    SuiteBody,
    SyntheticBody,
    WeaknessBody,
)
from nexa.core.store import Store
from nexa.feedback.feedback_generators import votes
from nexa.feedback.feedback_generators.agreement import extracts
from nexa.feedback.feedback_generators.closed import LEAK, Closed
from nexa.feedback.feedback_generators.mistakes import missed_fields, wrong_rows
from nexa.feedback.feedback_generators.registry import proposer
from nexa.feedback.feedback_generators.task import (
    Ground,
    Proposer,
    Question,
    Task,
    alone,
    template,
)
from nexa.feedback.items import Item, suite_items, training_items
from nexa.feedback.slices import weak_members
from nexa.lm.client import Request
from nexa.lm.plain_text import is_text
from nexa.lm.teaching import Job, NoRow, Teacher, row_of

WARM = 0.7  # where another question is wanted each time
SHOWS = "would show a held-out row"
TWICE = "asked before"


class NothingProposed(DataError):
    """No question gave a row. `rejected` counts why: reason -> prompts and answers."""

    def __init__(self, told: DataError, rejected: Mapping[str, int]) -> None:
        super().__init__(told.what, found=told.found, fix=told.fix)
        self.rejected = dict(rejected)


@dataclass(frozen=True)
class ProposeSpec:
    """Which rows are wanted, from whom."""

    teacher: Teacher
    name: str = where()  # the synthetic record's
    generator: str = "teacher"  # teacher | paraphrase | hard_negative, or a plugin
    rows: int = 40  # questions that may each give one row
    seed: int = 0
    votes: int = 2  # independent answers that must agree; 1: one answer is believed
    temperature: float = WARM  # of questions; answers are asked at 0
    facts: tuple[str, ...] = ()  # texts that `teacher` has questions asked about
    grounding: Literal["auto", "always", "never"] = "auto"  # a record's values stand in its text
    max_new_tokens: int = 1024
    again: int = 0  # raised to ask once more for what was not answered


def propose(
    spec: ProposeSpec,
    *,
    weakness: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    answers: Artifact[AnswersBody] | None = None,
    store: Store,
) -> Draft[SyntheticBody]:
    """Ask the teacher for rows of the weak slices; `dataset` is what the model was trained on.

    The teacher is shown training rows and facts, never a row of a suite: what would give one away
    is left out. `answers` are those that the weaknesses were found in: `hard_negative` sees in
    them which fields were wrong. The draft's files are `rows.jsonl`, `requests.jsonl` and
    `rejects.jsonl`, as `prepare_synthetic` reads them.

    Raises:
        UsageError: no slice is weak, or a number that cannot be.
        DataError: the training rows have none of the weak slices.
        NothingProposed: no question gave a row; has the counts of why not.
        BudgetSpent: the budget does not reach for all; what was answered stays in the journal.
    """
    job = Job(spec.teacher)
    made_by, work = _prepared(spec, weakness, dataset, answers, store, job)
    written = [(ask.request.id, made) for ask, made in job.ask(made_by.asks(work.task))]
    questions = dict(_clean(written, work.closed, job))
    asks = {
        ask.request.id: (name, ask)
        for name, question in questions.items()
        for ask in votes.asks(name, question, spec.votes, spec.seed, spec.max_new_tokens)
    }
    said: dict[str, list[str]] = defaultdict(list)
    for ask, answer in job.ask([ask for _, ask in asks.values()]):
        said[asks[ask.request.id][0]].append(answer)
    for name, question in questions.items():
        try:
            job.rows.append(_row(spec, question, votes.settled(question, said[name], spec.votes)))
        except NoRow as why:
            job.refuse(name, why, question.parents, question.asked)
    try:
        body = _body(spec, made_by, job)
    except DataError as error:
        rejected = Counter(line["reason"] for line in job.rejects)
        raise NothingProposed(error, rejected) from error
    return Draft("synthetic", spec.name, body, job.files())


def requests_of(
    spec: ProposeSpec,
    *,
    weakness: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    answers: Artifact[AnswersBody] | None = None,
    store: Store,
) -> list[Request]:
    """All requests at most, for an estimate: questions that are not there yet count as the longest.

    Raises:
        UsageError, DataError: as `propose`.
    """
    made_by, work = _prepared(spec, weakness, dataset, answers, store, Job(spec.teacher))
    asks = made_by.asks(work.task)
    for number, ground, _ in work.task.turns():
        model = ground.items[0]
        longest = Question(
            before=alone(model, "word " * spec.max_new_tokens),
            model=model,
            parents=(model.id,),
            group=None,
            ground=ground,
        )
        name = f"question-{number:06}"
        asks += votes.asks(name, longest, spec.votes, spec.seed, spec.max_new_tokens)
    return [ask.request for ask in asks]


@dataclass(frozen=True)
class _Work:
    """What the questions are asked from, and what nobody may be told."""

    task: Task
    closed: Closed


def _prepared(
    spec: ProposeSpec,
    weakness: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    answers: Artifact[AnswersBody] | None,
    store: Store,
    job: Job,
) -> tuple[Proposer, _Work]:
    """The generator and its task; rows and facts that would give a suite's row away are refused.

    Raises:
        UsageError, DataError: as `propose`.
    """
    made_by = proposer(spec.generator)
    if made_by is None:
        raise UsageError(f"{spec.generator} asks no teacher: its step is select, not propose")
    if spec.rows < 1 or spec.votes < 1:
        raise UsageError(
            "rows and votes are at least 1", found=f"rows {spec.rows}, votes {spec.votes}"
        )
    suite: Artifact[SuiteBody] = store.by_digest(weakness.body.suite_digest)
    asked = suite_items(suite, store)
    closed = Closed(asked)
    items = [item for item in training_items(dataset, store) if _is_conversation(item)]
    weak = weak_members(weakness.body, items)
    if not weak:
        raise UsageError(f"{weakness.label} has no weak slice: there is nothing to ask for")
    items_of = _shown({name: [items[at] for at in places] for name, places in weak.items()},
                      closed, job)  # fmt: skip
    if not any(items_of.values()):
        raise DataError(
            f"{dataset.label} has no training row of a weak slice to show to the teacher",
            found=", ".join(items_of),
            fix="the generator pool, or rows of that kind in the training data",
        )
    wrong = wrong_rows(weakness, asked, store)
    missed = missed_fields(weakness, asked, answers, store)
    grounds = [
        Ground(name, of_slice, wrong[name], missed, _grounded(spec, of_slice))
        for name, of_slice in items_of.items()
        if of_slice
    ]
    facts = _facts(spec, closed, job)
    task = Task(spec.rows, spec.seed, spec.temperature, spec.max_new_tokens, grounds, facts)
    return made_by, _Work(task, closed)


def _body(spec: ProposeSpec, made_by: Proposer, job: Job) -> SyntheticBody:
    used = [*map(template, made_by.templates), *votes.templates(spec.votes)]
    facts = enumerate(spec.facts, 1)
    return job.body(
        spec.generator,
        templates={prompt.name: prompt.sha256 for prompt in used},
        sources={f"fact {number}": sha256_bytes(fact.encode()) for number, fact in facts},
        seed=spec.seed,
    )


def _is_conversation(item: Item) -> bool:
    return not is_text(item.messages[:1]) and any(turn["role"] == "user" for turn in item.before)


def _shown(weak: Mapping[str, list[Item]], closed: Closed, job: Job) -> dict[str, list[Item]]:
    """The weak slices' training rows without those that a suite's row can be read off."""
    every = list({item.id: item for items in weak.values() for item in items}.values())
    given_away = closed.given_away([(item.asked, item.answer) for item in every])
    hidden = {every[at].id for at in given_away}
    for name in sorted(hidden):
        job.refuse(name, NoRow(SHOWS, "it is no example for the teacher"), [name])
    for name, items in weak.items():
        if not items:
            emit("note", text=f"there is no training row of {name} to show to the teacher")
    return {name: [i for i in items if i.id not in hidden] for name, items in weak.items()}


def _facts(spec: ProposeSpec, closed: Closed, job: Job) -> list[str]:
    hidden = closed.given_away([("", fact) for fact in spec.facts])
    for at in sorted(hidden):
        job.refuse(f"fact {at + 1}", NoRow(SHOWS, "it is not shown to the teacher"))
    return [fact for at, fact in enumerate(spec.facts) if at not in hidden]


def _grounded(spec: ProposeSpec, items: Sequence[Item]) -> bool:
    return spec.grounding == "always" or (spec.grounding == "auto" and extracts(items))


def _clean(
    questions: Sequence[tuple[str, Question]], closed: Closed, job: Job
) -> list[tuple[str, Question]]:
    """The questions that echo no row of the suite and no other: nobody answers the rest."""
    echoed = closed.given_away([(question.asked, "") for _, question in questions])
    seen: set[str] = set()
    kept = []
    for at, (name, question) in enumerate(questions):
        key = normalise(question.asked).casefold()
        if at in echoed:
            why = NoRow(LEAK, "the teacher wrote a question of the suite")
        elif key in seen:
            why = NoRow(TWICE, "the teacher wrote the same question before")
        else:
            seen.add(key)
            kept.append((name, question))
            continue
        job.refuse(name, why, question.parents, question.asked)
    return kept


def _row(spec: ProposeSpec, question: Question, answer: str) -> dict[str, Any]:
    return row_of(
        spec.teacher,
        question.before,
        answer,
        parents=question.parents,
        group=question.group,
        domain=question.model.domain,
    )
