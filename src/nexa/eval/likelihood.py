"""Answers by likelihood: how likely a model finds each choice of each question.

A prompt goes through the chat template, up to the answer to come, or stands as plain text with a
separator before the choice: then prompt and choice are cut into tokens together, and what the
prompt alone has is taken off, as lm-evaluation-harness does. Which of the two is part of a score's
identity, and each prompt begins with the beginning-of-text token once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.errors import EvalError
from nexa.eval.suite import Question
from nexa.eval.tasks.task import Likelihoods, Task
from nexa.lm.chat import ChatTemplate
from nexa.lm.continuations import Continued, log_likelihoods
from nexa.lm.local import Opened
from nexa.lm.plain_text import is_text, wrapped

BETWEEN_TURNS = "\n\n"  # of plain text: what stands between the turns of a conversation


@dataclass(frozen=True)
class Asked:
    """A question as it is read: token ids, and the bytes of each choice."""

    question: Question
    continued: Continued
    bytes: tuple[int, ...]


def ask_choices(task: Task, questions: Sequence[Question], template: ChatTemplate) -> list[Asked]:
    """Every question with the texts whose likelihood is asked for.

    Raises:
        EvalError: a choice that no token is left of.
        TemplateError: a chat template that cannot write a prompt.
    """
    return [_asked(task, question, template) for question in questions]


def read_choices(loaded: Opened, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """The rows of `answers.jsonl`: nats, tokens and bytes of each choice, in their order.

    Raises:
        ModelError: a text that outgrows the model's positions.
    """
    found = log_likelihoods(loaded, [each.continued for each in asked])
    return [
        {
            "id": each.question.id,
            "text": None,  # nothing was written
            "log_likelihoods": [round(value, 9) + 0.0 for value in nats],
            "tokens": [len(ids) for ids in each.continued.continuations],
            "bytes": list(each.bytes),
            "new_tokens": 0,
            "stopped": True,  # nothing was cut off
            "latency_s": None,
        }
        for each, nats in zip(asked, found, strict=True)
    ]


def blank_answer(task: Task, target: str) -> dict[str, Any]:
    """What stands in for an answer: no text, or choices that are all as likely."""
    if task.continuations is None:
        return {"text": "", "new_tokens": 1, "stopped": True}
    each = len(task.continuations(target))
    told = {"log_likelihoods": [0.0] * each, "tokens": [1] * each, "bytes": [1] * each}
    return {"text": None, "new_tokens": 0, "stopped": True, **told}


def likelihoods_of(row: Mapping[str, Any]) -> Likelihoods:
    """What a row of `answers.jsonl` says.

    Raises:
        EvalError: it has no likelihoods.
    """
    if "log_likelihoods" not in row:
        raise EvalError(
            f"the answer {row['id']} has no likelihoods, and its task is scored by them",
            fix="answer the suite with a model of this machine",
        )
    return Likelihoods(*(tuple(row[key]) for key in ("log_likelihoods", "tokens", "bytes")))


def _asked(task: Task, question: Question, template: ChatTemplate) -> Asked:
    choices = () if task.continuations is None else task.continuations(question.target)
    if task.through == "template" and not is_text(question.messages):
        prompt, ids = _templated(question, choices, template)
    else:
        prompt, ids = _plain(question, [task.separator + choice for choice in choices], template)
    for choice, tokens in zip(choices, ids, strict=True):
        if not tokens:
            raise EvalError(f"a choice of row {question.id} has no tokens", found=repr(choice))
    sizes = tuple(len(choice.encode()) for choice in choices)
    return Asked(question, Continued(prompt, tuple(ids)), sizes)


def _templated(
    question: Question, choices: Sequence[str], template: ChatTemplate
) -> tuple[list[int], list[list[int]]]:
    """The prompt that answers are generated after, and what each choice would be there."""
    prompt = template.prompt(question.messages)
    text = template.text_of(question.messages, prompt=True) + template.lead
    together = _ids(template, [text + choice for choice in choices])
    alone = _ids(template, [template.lead + choice for choice in choices])
    # A tokenizer that joins the prompt's last characters to the choice would make another prompt.
    return prompt, [
        whole[len(prompt) :] if whole[: len(prompt)] == prompt else own
        for whole, own in zip(together, alone, strict=True)
    ]


def _plain(
    question: Question, choices: Sequence[str], template: ChatTemplate
) -> tuple[list[int], list[list[int]]]:
    """Prompt and choices as one text each, cut where the prompt's own tokens end."""
    tokenizer = template.tokenizer
    said = BETWEEN_TURNS.join(turn["content"] for turn in question.messages)
    # Blanks at a prompt's end belong to the word that follows.
    begin = wrapped(said.rstrip(), tokenizer, end=False)
    blanks = said[len(said.rstrip()) :]
    [prompt] = _ids(template, [begin])
    wholes = _ids(template, [begin + blanks + choice for choice in choices])
    if prompt:
        return prompt, [whole[len(prompt) :] for whole in wholes]
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [first], wholes  # something must be read before the first token can be predicted


def _ids(template: ChatTemplate, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts in which every special token is written already."""
    encoded = template.tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids
