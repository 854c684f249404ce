from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import Artifact, SuiteBody
from nexa.core.store import Store
from nexa.eval.generate import GenerateSpec, generate
from nexa.eval.likelihood import ask_choices, blank_answer, likelihoods_of
from nexa.eval.metrics import ScoreSpec, score
from nexa.eval.suite import FreezeSpec, Question, freeze
from nexa.eval.tasks.choices import MULTIPLE_CHOICE, choices_task
from nexa.eval.tasks.definition import Definition, read_definition
from nexa.eval.tasks.perplexity import PERPLEXITY, perplexity_task
from nexa.eval.tasks.task import Likelihoods
from nexa.eval.tasks.text import TEXT
from nexa.lm.chat import ChatTemplate
from nexa.lm.continuations import Continued, log_likelihoods
from nexa.lm.load import LoadedModel, load
from nexa.lm.resolve import ModelFiles, resolve
from tests.eval import made

METALS = ("iron", "gold", "tin")


@pytest.fixture
def model(tiny_llama: Path) -> ModelFiles:
    return resolve(str(tiny_llama))


@pytest.fixture
def loaded(model: ModelFiles) -> LoadedModel:
    return load(model, dtype="float32")


@pytest.fixture
def bos(loaded: LoadedModel) -> Iterator[LoadedModel]:
    """A tokenizer with a beginning-of-text token that no text gets by itself."""
    loaded.tokenizer.bos_token = "<|im_start|>"
    yield loaded
    loaded.tokenizer.bos_token = None


def suite_of(store: Store, rows: list[dict[str, Any]], **spec: Any) -> Artifact[SuiteBody]:
    held = made.dataset(store, {"eval": rows}, "held")
    return made.seal(freeze(FreezeSpec(name="s", **spec), dataset=held, store=store), store)


def choices(answer: int) -> str:
    return json.dumps({"choices": METALS, "answer": answer})


def rows(file: str, draft: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in draft.files[file].splitlines()]


@pytest.mark.parametrize("engine", ["fused", "transformers"])
def test_a_model_is_asked_how_likely_each_choice_is(
    store: Store, model: ModelFiles, engine: Any
) -> None:
    held = [made.row(f"r{i}", f"Metal {i}?", choices(i % 3)) for i in range(6)]
    suite = suite_of(store, held, task="multiple_choice")
    spec = GenerateSpec(model=model, name="m", dtype="float32", engine=engine)
    draft = generate(spec, suite=suite, store=store)
    loaded = load(model, dtype="float32")
    template = ChatTemplate(loaded.tokenizer)
    answers = {row["id"]: row for row in rows("answers.jsonl", draft)}
    for row in held:
        prompt = template.prompt(row["messages"][:1])
        ids = loaded.tokenizer(list(METALS), add_special_tokens=False)["input_ids"]
        [expected] = log_likelihoods(loaded, [Continued(prompt, tuple(ids))])
        found = answers[row["row_id"]]
        assert found["log_likelihoods"] == pytest.approx(expected, abs=1e-4)
        assert found["tokens"] == [len(each) for each in ids]
        assert (found["bytes"], found["text"], found["stopped"]) == ([4, 4, 3], None, True)
    body = draft.body
    assert body.decoding["method"] == "likelihood"
    assert (body.decoding["engine"], body.decoding["through"]) == (engine, "template")
    assert (body.stopped, body.new_tokens) == (6, 0)
    assert body.spent is not None
    assert (body.spent.requests, body.spent.output_tokens) == (6, 0)

    sealed = made.seal(draft, store, suite=suite)
    scored = score(ScoreSpec(name="m"), suite=suite, answers=sealed, store=store)
    for row in rows("scores.jsonl", scored):
        nats = answers[row["id"]]["log_likelihoods"]
        right = int(row["id"][1:]) % 3
        assert row["acc"] == (nats.index(max(nats)) == right)
    assert scored.body.safety is None
    assert scored.body.corpus is None


def test_perplexity_of_a_suite_is_the_models_own(store: Store, model: ModelFiles) -> None:
    held = [made.row(f"r{i}", "Say so", f"It is {i}, and é.") for i in range(3)]
    text = {"role": "text", "content": "Iron melts at 1811 kelvin and boils at 3134."}
    held.append({**made.row("t", "", ""), "messages": [text]})
    suite = suite_of(store, held, task="perplexity")
    draft = generate(GenerateSpec(model=model, name="m", dtype="float32"), suite=suite, store=store)
    answers = rows("answers.jsonl", draft)
    sealed = made.seal(draft, store, suite=suite)
    body = score(ScoreSpec(name="m"), suite=suite, answers=sealed, store=store).body
    nats = sum(row["log_likelihoods"][0] for row in answers)
    assert body.corpus is not None
    assert set(body.corpus) == {"perplexity", "bits_per_byte"}
    size = sum(row["bytes"][0] for row in answers)
    assert size == 3 * 16 + len("boils at 3134.")
    assert body.corpus["bits_per_byte"].mean == pytest.approx(-nats / size / 0.693147, rel=1e-5)
    # A random model: about as many choices a token as the vocabulary has.
    assert body.corpus["perplexity"].mean == pytest.approx(320, rel=0.2)


def test_a_prompt_may_go_on_as_plain_text(loaded: LoadedModel) -> None:
    template = ChatTemplate(loaded.tokenizer)
    task = choices_task(choices=METALS, through="plain")
    turns = ({"role": "system", "content": "Metals."}, {"role": "user", "content": "Which? "})
    [asked] = ask_choices(task, [Question("r", "r", None, turns, "iron")], template)
    ids = loaded.tokenizer("Metals.\n\nWhich?")["input_ids"]
    assert list(asked.continued.prompt) == ids
    whole = loaded.tokenizer("Metals.\n\nWhich?  gold")["input_ids"]
    assert list(asked.continued.continuations[1]) == whole[len(ids) :]
    assert asked.bytes == (4, 4, 3)


def test_without_a_prompt_something_is_read_first(loaded: LoadedModel) -> None:
    template = ChatTemplate(loaded.tokenizer)
    task = perplexity_task(through="plain", separator="")
    [asked] = ask_choices(task, [Question("r", "r", None, (), "iron")], template)
    assert list(asked.continued.prompt) == [loaded.tokenizer.eos_token_id]
    assert list(asked.continued.continuations[0]) == loaded.tokenizer("iron")["input_ids"]


def test_the_beginning_of_text_token_is_read_first_where_there_is_one(bos: LoadedModel) -> None:
    template = ChatTemplate(bos.tokenizer)
    task = perplexity_task(through="plain", separator="")
    [asked] = ask_choices(task, [Question("r", "r", None, (), "iron")], template)
    assert list(asked.continued.prompt) == [bos.tokenizer.bos_token_id]


def test_a_tokenizer_that_joins_prompt_and_choice_changes_no_prompt(loaded: LoadedModel) -> None:
    template = ChatTemplate(loaded.tokenizer)
    question = Question("r", "r", None, ({"role": "user", "content": "Which?"},), "\u0301x")
    prompt = template.prompt(question.messages)

    class Joins:
        """Writes prompt and choice as other tokens than the prompt alone has."""

        def __call__(self, texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
            whole = loaded.tokenizer(texts, **options)["input_ids"]
            return {"input_ids": [[9] * len(ids) if len(ids) > 9 else ids for ids in whole]}

        def __getattr__(self, name: str) -> Any:
            return getattr(loaded.tokenizer, name)

    template.prompt = lambda messages: prompt  # type: ignore[method-assign]
    template.tokenizer = Joins()  # type: ignore[assignment]
    [asked] = ask_choices(PERPLEXITY, [question], template)
    assert list(asked.continued.prompt) == prompt
    own = loaded.tokenizer("\u0301x", add_special_tokens=False)["input_ids"]
    assert list(asked.continued.continuations[0]) == own


def test_a_choice_without_a_token_is_refused(loaded: LoadedModel) -> None:
    template = ChatTemplate(loaded.tokenizer)
    task = perplexity_task(through="plain", separator="")
    turns = ({"role": "user", "content": "Which?"},)
    with pytest.raises(EvalError, match="choice of row r has no tokens"):
        ask_choices(task, [Question("r", "r", None, turns, "")], template)


def test_how_it_was_asked_is_part_of_the_seal(store: Store, model: ModelFiles) -> None:
    held = [made.row(f"r{i}", f"Metal {i}?", "iron" if i else "gold") for i in range(4)]
    seals, decodings = set(), []
    for text in ("", "through: plain\n", "through: plain\nseparator: '|'\n"):
        content = read_definition(f"kind: choices\nchoices: [iron, gold]\n{text}")
        suite = suite_of(store, held, task=Definition("c", content, "0" * 64))
        draft = generate(
            GenerateSpec(model=model, name="m", dtype="float32"), suite=suite, store=store
        )
        sealed = made.seal(draft, store, suite=suite)
        body = score(ScoreSpec(name="m"), suite=suite, answers=sealed, store=store).body
        seals.add(body.seal)
        decodings.append({**draft.body.decoding})
    assert len(seals) == 3
    assert [told.get("separator") for told in decodings] == [None, " ", "|"]


def test_answers_in_words_are_no_likelihoods() -> None:
    told = {"id": "r", "log_likelihoods": [-1.0], "tokens": [1], "bytes": [2]}
    assert likelihoods_of(told) == Likelihoods((-1.0,), (1,), (2,))
    with pytest.raises(EvalError, match="the answer r has no likelihoods"):
        likelihoods_of({"id": "r", "text": "iron"})


def test_a_blank_answer_can_be_scored() -> None:
    assert blank_answer(TEXT, "iron")["text"] == ""
    blank = blank_answer(MULTIPLE_CHOICE, choices(1))
    made_of = MULTIPLE_CHOICE.grader([])(likelihoods_of({"id": "r", **blank}), choices(0))
    assert made_of.scores["acc"] == 1
