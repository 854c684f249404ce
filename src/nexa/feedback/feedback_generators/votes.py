"""Answers to a question that a teacher wrote, asked for several times, and whether they agree."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from nexa.feedback.feedback_generators.agreement import in_form, not_found, record_of, same
from nexa.feedback.feedback_generators.task import Question, fitting, template
from nexa.feedback.items import Item
from nexa.lm.client import Request
from nexa.lm.prompt_templates import PromptTemplate
from nexa.lm.teaching import Ask, Job, NoRow

PROMPTS = ("answer", "answer_again")  # in turn: no answer repeats the words that asked for another
EXAMPLES = 3
DISAGREE = "answers disagree"
NOT_ALL = "not answered each time"
NO_VALUE = "value not in context"
OTHER_FORM = "another form than the answers of its kind"
MOST_DETAIL = 500


def asks(name: str, question: Question, votes: int, seed: int, max_new_tokens: int) -> list[Ask]:
    """So many requests for the question's answer: other words, other examples, another seed."""
    return [_ask(name, question, vote, seed, max_new_tokens) for vote in range(votes)]


def templates(votes: int) -> list[PromptTemplate]:
    """The prompts that so many votes are asked with."""
    return [template(prompt) for prompt in PROMPTS[:votes]]


def settled(question: Question, answers: Sequence[str], votes: int) -> str:
    """The answer that a question gets, in the form of its kind's answers.

    Raises:
        NoRow: answers are missing, do not agree, or hold what the question does not.
    """
    if len(answers) < votes:
        raise NoRow(NOT_ALL, f"{len(answers)} of {votes} times")
    first = answers[0]
    against = next((other for other in answers[1:] if not same(first, other)), None)
    if against is not None:
        raise NoRow(DISAGREE, f"{first} | {against}"[:MOST_DETAIL])
    if question.answer is not None:
        if not same(first, question.answer):
            detail = f"the right one is {question.answer} | {first}"
            raise NoRow(DISAGREE, detail[:MOST_DETAIL])
        return question.answer
    _require_form(question, first)
    if question.ground.grounded:
        lacking = not_found(question.asked, first)
        if lacking is not None:
            raise NoRow(NO_VALUE, lacking[:MOST_DETAIL])
    return in_form(first, question.model.answer)


def _require_form(question: Question, answer: str) -> None:
    """Raises: NoRow: the kind's answers are records, and this is none, or of other fields."""
    forms = [record_of(item.answer) for item in question.ground.items]
    known = {frozenset(form) for form in forms if form is not None}
    if len(known) and all(form is not None for form in forms):
        found = record_of(answer)
        if found is None or frozenset(found) not in known:
            raise NoRow(OTHER_FORM, answer[:MOST_DETAIL])


def _ask(name: str, question: Question, vote: int, seed: int, max_new_tokens: int) -> Ask:
    asked = template(PROMPTS[vote % len(PROMPTS)])
    shown = _examples(question, random.Random(f"{seed} {name} {vote}"))
    given = {
        "examples": [{"question": item.asked, "answer": item.answer} for item in shown],
        "question": question.asked,
    }
    request = Request(
        id=f"{name}-{vote + 1}",
        messages=asked.messages({"given": given}, {"number": str(vote + 1)}),
        max_new_tokens=max_new_tokens,
        temperature=0.0,
        seed=seed + vote,
        json_schema=asked.schema,
    )
    return Ask(request, question.parents, partial(_answer, asked))


def _examples(question: Question, draw: random.Random) -> list[Item]:
    """Other rows of the kind; not the row itself where its answer is to be found out anew."""
    own = question.parents if question.answer is not None else ()
    others = [item for item in question.ground.items if item.id not in own]
    return fitting(draw.sample(others, min(EXAMPLES, len(others))))


def _answer(asked: PromptTemplate, text: str, job: Job) -> str:
    return str(job.read(text, asked.schema)["answer"]).strip()
