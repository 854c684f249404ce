"""Tasks of the lm-evaluation-harness, sealed: suite, answers, scores."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import Artifact, SuiteBody
from nexa.core.store import Store
from nexa.eval.compare import compare
from nexa.eval.harness import (
    HarnessAnswersSpec,
    HarnessScoresSpec,
    HarnessSuiteSpec,
    harness_answers,
    harness_scores,
    harness_suite,
)
from nexa.eval.harness_model import HarnessModel, as_lm
from nexa.eval.harness_tasks import FEWSHOT_SEED, Loaded, inside
from nexa.lm.llama_cpp import available
from nexa.lm.load import load
from nexa.lm.resolve import ModelFiles, resolve
from tests.eval import made
from tests.eval.harnessed import LAST_WORD, MEAN, Tasks, write_model, write_task, write_tasks
from tests.lm.gguf_models import write_gguf


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(write_tasks(tmp_path / "tasks"), tmp_path / "cache")


@pytest.fixture
def model(tiny_llama: Path) -> ModelFiles:
    return resolve(str(tiny_llama))


def suite_of(loaded: Loaded, store: Store) -> Artifact[SuiteBody]:
    spec = HarnessSuiteSpec(
        name=loaded.name, task=loaded.name, identity=loaded.identity, loaded=loaded
    )
    return made.seal(harness_suite(spec, store=store), store)


def answered(
    loaded: Loaded, suite: Artifact[Any], store: Store, model: ModelFiles, **options: Any
) -> Artifact[Any]:
    fields = {"model": model, "loaded": loaded, "name": "tiny", "dtype": "float32", **options}
    spec = HarnessAnswersSpec(**fields)
    draft = harness_answers(spec, suite=suite, store=store)
    return made.seal(dataclasses.replace(draft, name=f"a{len(options)}-{suite.name}"), store)


def scored(loaded: Loaded, suite: Artifact[Any], answers: Artifact[Any], store: Store) -> Any:
    spec = HarnessScoresSpec(loaded=loaded, name=answers.name)
    draft = harness_scores(spec, suite=suite, answers=answers, store=store)
    return made.seal(draft, store)


def lines(artifact: Artifact[Any], name: str, store: Store) -> list[dict[str, Any]]:
    return [json.loads(line) for line in store.path(artifact, name).read_text().splitlines()]


def by_hand(loaded: Loaded, model: ModelFiles, *, chat: bool) -> Any:
    """lm-eval's own evaluation of Nexa's model."""
    from lm_eval.evaluator import evaluate

    lm = as_lm(HarnessModel(load(model, dtype="float32")))
    for task in loaded.tasks.values():
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    with inside(loaded.cache):
        return evaluate(
            lm,
            {"tasks": dict(loaded.tasks), "groups": {}},
            bootstrap_iters=10,
            apply_chat_template=chat,
            fewshot_as_multiturn=True,
        )


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("name", ["toy_choice", "toy_text"])
def test_every_number_is_what_lm_eval_s_own_evaluation_says(
    tasks: Tasks, store: Store, model: ModelFiles, name: str, chat: bool
) -> None:
    loaded = tasks.load(name, num_fewshot=1)
    suite = suite_of(loaded, store)
    scores = scored(loaded, suite, answered(loaded, suite, store, model, chat_template=chat), store)
    theirs = by_hand(loaded, model, chat=chat)
    for metric, found in scores.body.metrics.items():
        assert found.mean == round(theirs["results"][name][f"{metric},none"], 9)
    samples = {f"{name}/{each['doc_id']}": each for each in theirs["samples"][name]}
    for row in lines(scores, "scores.jsonl", store):
        for metric in scores.body.metrics:
            assert row[metric] == samples[row["id"]][metric]
    if name == "toy_text":
        assert set(scores.body.corpus) == {"chrf"}
        told = json.loads(store.path(scores, "lm_eval.json").read_text())["results"][name]
        assert scores.body.corpus["chrf"].mean == round(theirs["results"][name]["chrf,none"], 9)
        assert told["chrf,none"] == theirs["results"][name]["chrf,none"]


def test_choices_are_weighed_and_the_likeliest_is_the_answer(
    tasks: Tasks, store: Store, model: ModelFiles
) -> None:
    loaded = tasks.load("toy_choice")
    suite = suite_of(loaded, store)
    assert (suite.body.task, suite.body.primary) == ("lm-eval:toy_choice", "acc")
    assert suite.body.max_new_tokens == 0
    answers = answered(loaded, suite, store, model)
    assert answers.body.decoding == {
        "method": "likelihood",
        "engine": "fused",
        "dtype": "float32",
        "batch_size": 1,
        "cache": "contiguous",
        "max_new_tokens": 0,
        "chat_template": False,
        "device": "cpu",
    }
    assert answers.body.spent.input_tokens > 0
    assert answers.body.general_cross_entropy is not None
    rows = lines(answers, "answers.jsonl", store)
    choices = ("iron", "a copper pan", "pure gold")
    for row in rows:
        nats = [nats for nats, _ in row["responses"]]
        assert row["text"] == choices[nats.index(max(nats))]
    scores = scored(loaded, suite, answers, store)
    assert scores.body.safety is None
    assert scores.body.ruler is None
    assert scores.body.spent == answers.body.spent
    acc = [float(row["text"] == choices[n % 3]) for n, row in enumerate(rows)]
    assert [row["acc"] for row in lines(scores, "scores.jsonl", store)] == acc


def test_written_answers_are_looked_through_for_hazards(
    tasks: Tasks, store: Store, model: ModelFiles
) -> None:
    loaded = tasks.load("toy_filtered")
    suite = suite_of(loaded, store)
    scores = scored(loaded, suite, answered(loaded, suite, store, model, batch_size=3), store)
    assert set(scores.body.metrics) == {"exact_match,first", "exact_match,number"}
    assert scores.body.safety is not None
    assert all(row["red_flag_count"] == 0 for row in lines(scores, "scores.jsonl", store))


def test_whole_texts_have_a_probability_a_byte_and_lm_eval_s_figures_over_all(
    tasks: Tasks, store: Store, model: ModelFiles
) -> None:
    loaded = tasks.load("toy_rolling")
    suite = suite_of(loaded, store)
    scores = scored(loaded, suite, answered(loaded, suite, store, model), store)
    assert 0 < scores.body.metrics["byte_probability"].mean < 1
    assert set(scores.body.corpus) == {"word_perplexity", "bits_per_byte"}
    bits = scores.body.corpus["bits_per_byte"]
    assert bits.low == bits.mean == bits.high
    assert bits.groups == 0


def test_a_group_is_one_suite_with_a_domain_a_task(
    tasks: Tasks, store: Store, model: ModelFiles
) -> None:
    loaded = tasks.load("toy_group")
    suite = suite_of(loaded, store)
    assert suite.body.domains == {"toy_choice": 5, "toy_last_word": 5}
    scores = scored(loaded, suite, answered(loaded, suite, store, model), store)
    assert set(scores.body.by_domain) == {"toy_choice", "toy_last_word"}
    assert scores.body.missing == {"acc_norm": 5}
    assert set(scores.body.corpus) == {"toy_last_word: perplexity"}
    interval = scores.body.corpus["toy_last_word: perplexity"]
    assert interval.low < interval.mean < interval.high


def test_scores_meet_only_when_the_models_were_asked_alike(
    tasks: Tasks, store: Store, model: ModelFiles, tmp_path: Path
) -> None:
    loaded = tasks.load("toy_choice")
    suite = suite_of(loaded, store)
    other = resolve(str(write_model(tmp_path / "other", seed=5)))
    same = [
        scored(loaded, suite, answered(loaded, suite, store, each), store)
        for each in (model, other)
    ]
    assert {c.metric for c in compare(suite, *same, store=store)} == {"acc", "acc_norm"}
    chat = scored(loaded, suite, answered(loaded, suite, store, model, chat_template=True), store)
    with pytest.raises(EvalError, match="not taken alike"):
        compare(suite, same[0], chat, store=store)


def test_another_task_is_refused(tasks: Tasks, store: Store, model: ModelFiles) -> None:
    loaded, other = tasks.load("toy_choice"), tasks.load("toy_choice", limit=2)
    suite = suite_of(loaded, store)
    with pytest.raises(EvalError, match="is not what suite/toy_choice@v1 was made of"):
        answered(other, suite, store, model)
    answers = answered(loaded, suite, store, model)
    with pytest.raises(EvalError, match="is not what"):
        scored(other, suite, answers, store)
    few = suite_of(other, store)
    with pytest.raises(EvalError, match="does not answer"):
        scored(other, few, answers, store)


def test_a_score_outside_0_to_1_is_refused(tasks: Tasks, store: Store, model: ModelFiles) -> None:
    (tasks.folder / "odd.py").write_text("def marks(doc, results):\n    return {'points': 7.0}\n")
    write_task(
        tasks.folder,
        "toy_odd",
        LAST_WORD.replace(MEAN.format(name="acc"), MEAN.format(name="points")).replace(
            "metric_list:", "process_results: !function odd.marks\nmetric_list:"
        ),
    )
    loaded = tasks.load("toy_odd")
    suite = suite_of(loaded, store)
    with pytest.raises(EvalError, match="points of row toy_odd/0 is 7"):
        scored(loaded, suite, answered(loaded, suite, store, model), store)


def test_the_export_is_the_model_that_it_says(
    tasks: Tasks, store: Store, model: ModelFiles
) -> None:
    loaded = tasks.load("toy_choice")
    suite = suite_of(loaded, store)
    body = type("Body", (), {"format": "safetensors", "model_digest": "another"})()
    export: Any = type("Export", (), {"body": body, "label": "export/x@v1"})()
    spec = HarnessAnswersSpec(model=model, loaded=loaded, name="x", dtype="float32")
    with pytest.raises(EvalError, match="is not the model of export/x@v1"):
        harness_answers(spec, suite=suite, export=export, store=store)


@pytest.mark.skipif(available() is not None, reason="llama.cpp is not installed")
def test_llama_cpp_answers_one_text_at_a_time_and_says_so(
    tasks: Tasks, store: Store, model: ModelFiles, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "m.gguf", model.folder)
    loaded = tasks.load("toy_text", limit=2)
    suite = suite_of(loaded, store)
    files = resolve(str(tmp_path / "m.gguf"))
    answers = answered(loaded, suite, store, files, engine="llama.cpp", batch_size=4)
    assert answers.body.decoding["batch_size"] == 1
    assert "version" in answers.body.decoding
    assert "dtype" not in answers.body.decoding
