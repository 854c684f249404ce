"""A model's answers to a frozen suite, and its cross-entropy on the fixed general text."""

from __future__ import annotations

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
from nexa.eval.suite import Question, read_suite
from nexa.lm.answers import Generation
from nexa.lm.chat import ChatTemplate
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


def generate(
    spec: GenerateSpec,
    *,
    suite: Artifact[SuiteBody],
    export: Artifact[ExportBody] | None = None,
    store: Store,
) -> Draft[AnswersBody]:
    """Ask the model every question of the suite, greedily.

    `export` is the sealed export that `spec.model` is, when it is one: it puts the answers into
    the lineage of the training run.

    The draft's file is `answers.jsonl` (id, text, new_tokens, stopped, latency_s); see
    `nexa.lm.answers.Generation` for what a latency is.

    Raises:
        EvalError: the model is not that export, or a prompt that does not begin with the
            beginning-of-text token once.
        ModelError: a model that cannot be loaded, or has no room for the prompts.
        TemplateError: a chat template that cannot write a prompt.
    """
    if export is not None:
        _require_sealed(spec.model, export)
    questions = read_suite(suite, store)
    keep_pages()
    choice = choose(spec.model, dtype=spec.dtype, engine=spec.engine)
    loaded = open_model(spec.model, dtype=spec.dtype, engine=spec.engine)
    try:
        return _answered(spec, suite, questions, loaded, choice)
    finally:
        close_model(loaded)


def _answered(
    spec: GenerateSpec,
    suite: Artifact[SuiteBody],
    questions: Sequence[Question],
    loaded: Opened,
    choice: Choice,
) -> Draft[AnswersBody]:
    template = ChatTemplate(loaded.tokenizer)
    prompts = [template.prompt(question.messages) for question in questions]
    for question, prompt in zip(questions, prompts, strict=True):
        require_one_bos(loaded, question.id, prompt)
    _tell_short_answers(loaded, questions, suite.body.max_new_tokens)
    made = answer(
        loaded,
        prompts,
        max_new_tokens=suite.body.max_new_tokens,
        stop_ids=template.stop_ids,
        batch_size=spec.batch_size,
    )
    body = AnswersBody(
        model=spec.model.ref,
        suite_digest=suite.digest,
        rows=len(made),
        decoding=_decoding(spec, choice, suite.body.max_new_tokens),
        engine_reason=choice.reason,
        stopped=sum(generation.stopped for generation in made),
        new_tokens=sum(generation.new_tokens for generation in made),
        template_sha256=template.sha256,
        first_prompt_sha256=sha256_bytes(canonical_json(prompts[0])),
        general_cross_entropy=round(general_cross_entropy(loaded), 9),
        general_text_sha256=general_text_sha256(),
    )
    rows = [_row(loaded, q, generation) for q, generation in zip(questions, made, strict=True)]
    return Draft("answers", spec.name, body, {"answers.jsonl": write_rows(rows)})


def _require_sealed(model: ModelFiles, export: Artifact[ExportBody]) -> None:
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


def _tell_short_answers(loaded: Opened, questions: Sequence[Question], max_new_tokens: int) -> None:
    """Say so when a right answer would be cut: the suite then asks for what it forbids."""
    targets = [question.target for question in questions]
    encoded = loaded.tokenizer(targets, add_special_tokens=False, verbose=False)["input_ids"]
    lengths = [len(ids) + 1 for ids in encoded]  # + 1: the end-of-turn token
    if cut := sum(length > max_new_tokens for length in lengths):
        emit(
            "note",
            text=f"{cut} of {len(targets)} wanted answers are longer than max_new_tokens "
            f"{max_new_tokens} (the longest has {max(lengths)} tokens) and cannot be given",
        )
