"""A model's answers to a frozen suite, and its cross-entropy on the fixed general text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.allocator import keep_pages
from nexa.core.errors import EvalError
from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import AnswersBody, Artifact, Draft, ExportBody, SuiteBody
from nexa.core.scoring import write_rows
from nexa.core.store import Store
from nexa.eval.general_text import general_cross_entropy, general_text_sha256
from nexa.eval.likelihood import ask_choices, read_choices
from nexa.eval.spent import on_this_machine
from nexa.eval.suite import Question, read_suite
from nexa.eval.tasks.table import frozen_task
from nexa.eval.tasks.task import Task
from nexa.lm.answers import Generation
from nexa.lm.chat import ChatTemplate
from nexa.lm.continuations import READ_TOKENS
from nexa.lm.llama_cpp import runtime_version
from nexa.lm.local import (
    CACHES,
    LLAMA_CPP,
    Choice,
    Engine,
    Opened,
    choose,
    close_model,
    open_model,
)
from nexa.lm.local import generate as answer
from nexa.lm.resolve import ModelFiles


@dataclass(frozen=True)
class GenerateSpec:
    """Which model answers, and how.

    In bfloat16 an answer's words may change with the engine and the batch it is made in, so both
    are part of what is made.
    """

    model: ModelFiles
    name: str = where()
    batch_size: int = 64
    dtype: str = "bfloat16"
    engine: Engine = "auto"
    cost_per_hour_usd: float = where(default=0.0)  # the machine's price; 0: it has none


def generate(
    spec: GenerateSpec,
    *,
    suite: Artifact[SuiteBody],
    export: Artifact[ExportBody] | None = None,
    store: Store,
) -> Draft[AnswersBody]:
    """Ask the model every question of the suite: greedily, or how likely it finds each choice.

    `export` is the sealed export that `spec.model` is, when it is one: it puts the answers into
    the lineage of the training run.

    The draft's file is `answers.jsonl` (id, text, new_tokens, stopped, latency_s); see
    `nexa.lm.answers.Generation` for what a latency is. Of a task by likelihood the text is null,
    and log_likelihoods, tokens and bytes have a number for each choice.

    Raises:
        EvalError: the model is not that export, or a prompt that does not begin with the
            beginning-of-text token once.
        ModelError: a model that cannot be loaded, or has no room for the prompts.
        TemplateError: a chat template that cannot write a prompt.
    """
    if export is not None:
        require_sealed(spec.model, export)
    questions = read_suite(suite, store)
    keep_pages()
    choice = choose(spec.model, dtype=spec.dtype, engine=spec.engine)
    loaded = open_model(spec.model, dtype=spec.dtype, engine=spec.engine)
    try:
        return _answered(spec, suite, questions, loaded, choice)
    finally:
        close_model(loaded)


@dataclass(frozen=True)
class _Made:
    """Answers as rows, what was read for them, and how they were made."""

    rows: list[dict[str, Any]]
    first_prompt: Sequence[int]
    input_tokens: int
    decoding: dict[str, Any]


def _answered(
    spec: GenerateSpec,
    suite: Artifact[SuiteBody],
    questions: Sequence[Question],
    loaded: Opened,
    choice: Choice,
) -> Draft[AnswersBody]:
    template, task = ChatTemplate(loaded.tokenizer), frozen_task(suite.body)
    start = time.perf_counter()
    if task.by_likelihood:
        made = _read(spec, task, questions, loaded, choice, template)
    else:
        limit = suite.body.max_new_tokens
        made = _written(spec, task, questions, loaded, choice, template, limit)
    spent = on_this_machine(
        made.rows,
        input_tokens=made.input_tokens,
        wall_s=time.perf_counter() - start,
        cost_per_hour_usd=spec.cost_per_hour_usd,
    )
    body = AnswersBody(
        model=spec.model.ref,
        suite_digest=suite.digest,
        rows=len(made.rows),
        decoding=made.decoding,
        engine_reason=choice.reason,
        stopped=sum(row["stopped"] for row in made.rows),
        new_tokens=sum(row["new_tokens"] for row in made.rows),
        template_sha256=template.sha256,
        first_prompt_sha256=sha256_bytes(canonical_json(list(made.first_prompt))),
        general_cross_entropy=round(general_cross_entropy(loaded), 9),
        general_text_sha256=general_text_sha256(),
        # Where nothing is written no row is an answer by itself: each is a prompt all the same.
        spent=spent.model_copy(update={"requests": len(made.rows)}),
    )
    return Draft("answers", spec.name, body, {"answers.jsonl": write_rows(made.rows)})


def _written(
    spec: GenerateSpec,
    task: Task,
    questions: Sequence[Question],
    loaded: Opened,
    choice: Choice,
    template: ChatTemplate,
    max_new_tokens: int,
) -> _Made:
    """Answers in the model's own words."""
    prompts = [template.prompt(question.messages) for question in questions]
    for question, prompt in zip(questions, prompts, strict=True):
        require_one_bos(loaded, question.id, prompt)
    _tell_short_answers(loaded, task, questions, max_new_tokens)
    made = answer(
        loaded,
        prompts,
        max_new_tokens=max_new_tokens,
        stop_ids=template.stop_ids,
        batch_size=spec.batch_size,
    )
    rows = [_row(loaded, q, generation) for q, generation in zip(questions, made, strict=True)]
    decoding = _decoding(spec, choice, max_new_tokens)
    return _Made(rows, prompts[0], sum(map(len, prompts)), decoding)


def _read(
    spec: GenerateSpec,
    task: Task,
    questions: Sequence[Question],
    loaded: Opened,
    choice: Choice,
    template: ChatTemplate,
) -> _Made:
    """How likely the model finds each choice: nothing is written."""
    asked = ask_choices(task, questions, template)
    for each in asked:
        require_one_bos(loaded, each.question.id, each.continued.prompt)
    how = {"version": runtime_version()} if choice.engine == LLAMA_CPP else {"dtype": spec.dtype}
    decoding = {
        "method": "likelihood",
        "engine": choice.engine,
        **how,
        "through": task.through,
        **({"separator": task.separator} if task.through == "plain" else {}),
        "read_tokens": READ_TOKENS,
        "device": "cpu",
    }
    prompts = [each.continued.prompt for each in asked]
    choices = sum(len(ids) for each in asked for ids in each.continued.continuations)
    tokens = sum(map(len, prompts)) + choices
    return _Made(read_choices(loaded, asked), prompts[0], tokens, decoding)


def require_sealed(model: ModelFiles, export: Artifact[ExportBody]) -> None:
    """Refuse a model that is not the export: by its own digest, or by that of its GGUF file."""
    gguf = export.body.format == "gguf"
    same = (
        model.source_sha256 in export.files.values()
        if gguf
        else model.digest == export.body.model_digest
    )
    if not same:
        raise EvalError(
            f"{model.name} is not the model of {export.label}",
            found=f"digest {model.digest[:16]}, sealed {export.body.model_digest[:16]}",
        )


def require_one_bos(loaded: Opened, row_id: str, prompt: Sequence[int]) -> None:
    """Refuse prompts that no model was trained on: two beginning-of-text tokens, or a lost one.

    A tokenizer that puts the token before plain text wants it before a conversation, too; one
    that does not may leave it to its template. A double one moved published scores by six points.

    Raises:
        EvalError: names the row.
    """
    bos = loaded.tokenizer.bos_token_id
    if bos is None:
        return
    leading = next((i for i, token in enumerate(prompt) if token != bos), len(prompt))
    adds_bos = loaded.tokenizer("")["input_ids"][:1] == [bos]
    if leading > 1 or (adds_bos and leading == 0):
        raise EvalError(
            f"the prompt of row {row_id} begins with {leading} beginning-of-text tokens, not 1",
            found=repr(loaded.tokenizer.decode(list(prompt[:8]))),
            fix="mend bos_token in the chat template",
        )


def _decoding(spec: GenerateSpec, choice: Choice, max_new_tokens: int) -> dict[str, Any]:
    """What answers hang on beside model and prompts. Whoever answers reads the general text too."""
    if choice.engine == LLAMA_CPP:
        # The dtype is the file's, tensor by tensor, and a property of the model.
        how: dict[str, Any] = {"version": runtime_version(), "batch_size": 1}
    else:
        how = {"dtype": spec.dtype, "batch_size": spec.batch_size}
    return {
        "method": "greedy",
        "engine": choice.engine,
        **how,
        "cache": CACHES[choice.engine],
        "max_new_tokens": max_new_tokens,
        "device": "cpu",  # where all three of them put a model
    }


def _row(loaded: Opened, question: Question, made: Generation) -> dict[str, Any]:
    return {
        "id": question.id,
        "text": str(loaded.tokenizer.decode(made.ids, skip_special_tokens=True)),
        "new_tokens": made.new_tokens,
        "stopped": made.stopped,
        "latency_s": round(made.latency_s, 3),
    }


def _tell_short_answers(
    loaded: Opened, task: Task, questions: Sequence[Question], max_new_tokens: int
) -> None:
    """Say so when a right answer would be cut: the suite then asks for what it forbids."""
    wanted = [task.wanted(question.target) for question in questions]
    targets = [text for text in wanted if text is not None]
    if not targets:
        return
    encoded = loaded.tokenizer(targets, add_special_tokens=False, verbose=False)["input_ids"]
    lengths = [len(ids) + 1 for ids in encoded]  # + 1: the end-of-turn token
    if cut := sum(length > max_new_tokens for length in lengths):
        emit(
            "note",
            text=f"{cut} of {len(targets)} wanted answers are longer than max_new_tokens "
            f"{max_new_tokens} (the longest has {max(lengths)} tokens) and cannot be given",
        )
