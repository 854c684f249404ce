from __future__ import annotations

import json
from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import AnswersBody, Artifact, Draft, ModelRef, SuiteBody
from nexa.core.scoring import derive_scores, write_rows
from nexa.core.store import Store
from nexa.eval.metrics import ScoreSpec, score, seal_of
from nexa.eval.suite import FreezeSpec, freeze, read_suite
from nexa.eval.tasks.definition import Definition, read_definition
from tests.eval import made

DECODING = {"method": "greedy", "dtype": "float32", "batch_size": 64}


def answers_of(
    store: Store,
    suite: Artifact[SuiteBody],
    texts: dict[str, str],
    **changed: Any,
) -> Artifact[AnswersBody]:
    rows = [
        {"id": row_id, "text": text, "new_tokens": 5, "stopped": bool(text), "latency_s": 0.1}
        for row_id, text in texts.items()
    ]
    body = AnswersBody(
        model=ModelRef(name="m", origin="folder", digest="m"),
        suite_digest=suite.digest,
        rows=len(rows),
        decoding=DECODING,
        stopped=0,
        new_tokens=0,
        template_sha256="t",
        first_prompt_sha256="p",
        general_cross_entropy=2.5,
        general_text_sha256="g",
    ).model_copy(update=changed)
    draft = Draft("answers", "m", body, {"answers.jsonl": write_rows(rows)})
    return made.seal(draft, store, suite=suite)


def test_every_answer_is_marked_on_its_own_line(store: Store, suite: Artifact[SuiteBody]) -> None:
    questions = read_suite(suite, store)
    texts = {q.id: q.target for q in questions}
    broken, other = questions[0], questions[1]
    texts[broken.id] = ""
    texts[other.id] = json.dumps({**json.loads(other.target), "batch": -1})
    answers = answers_of(store, suite, texts)
    draft = score(ScoreSpec(name="m"), suite=suite, answers=answers, store=store)
    rows = [json.loads(line) for line in draft.files["scores.jsonl"].splitlines()]
    assert rows[0] == {
        "id": broken.id,
        "group": broken.group,
        "domain": broken.domain,
        "stopped": 0,
        "exact": 0,
        "valid_json": 0,
        "schema": 0,
        "field_accuracy": 0,
        "field_f1": 0,
        "safety_score": 1,
        "red_flag_count": 0,
        "red_flags": [],
        "detail": {"unparsable": 1, "fields": 3, "missing": 3, "wrong": 0, "extra": 0},
    }
    assert (rows[1]["exact"], rows[1]["schema"]) == (0, 1)
    assert rows[1]["field_f1"] == pytest.approx(2 / 3)
    assert all(row["exact"] == 1 for row in rows[2:])

    body = draft.body
    derived = derive_scores(rows, suite.body.metrics)
    assert body.metrics == derived.metrics
    assert body.by_domain == derived.by_domain
    assert body.metrics["exact"].mean == pytest.approx(10 / 12)
    assert body.stop_rate.mean == pytest.approx(11 / 12)
    assert body.counts == {"unparsable": 1, "fields": 36, "missing": 3, "wrong": 1, "extra": 0}
    assert (body.answers_digest, body.general_cross_entropy) == (answers.digest, 2.5)


def test_the_seal_changes_with_anything_that_makes_a_number(
    store: Store, suite: Artifact[SuiteBody]
) -> None:
    texts = {q.id: q.target for q in read_suite(suite, store)}
    answers = answers_of(store, suite, texts).body
    seals = {
        seal_of(suite.body, answers),
        seal_of(suite.body, answers.model_copy(update={"decoding": {**DECODING, "batch_size": 8}})),
        seal_of(suite.body, answers.model_copy(update={"template_sha256": "u"})),
        seal_of(suite.body, answers.model_copy(update={"general_text_sha256": "h"})),
        seal_of(suite.body.model_copy(update={"metrics": ["exact"]}), answers),
    }
    assert len(seals) == 5
    other_model = answers.model_copy(update={"model": ModelRef(name="n", origin="", digest="n")})
    assert seal_of(suite.body, other_model) in seals


def test_answers_to_other_questions_are_refused(store: Store, suite: Artifact[SuiteBody]) -> None:
    texts = {q.id: q.target for q in read_suite(suite, store)}
    foreign = answers_of(store, suite, texts, suite_digest="0" * 64)
    with pytest.raises(EvalError, match="does not answer suite/metals@v1"):
        score(ScoreSpec(name="m"), suite=suite, answers=foreign, store=store)
    lost = sorted(texts)[0]
    few = answers_of(store, suite, {k: v for k, v in texts.items() if k != lost})
    with pytest.raises(EvalError, match=rf"not one answer for each row(.|\n)*{lost}"):
        score(ScoreSpec(name="m"), suite=suite, answers=few, store=store)


def suite_of(store: Store, targets: dict[str, str], said: str, **spec: Any) -> Artifact[SuiteBody]:
    """A suite of these answers, with a task that a file describes."""
    held = made.dataset(store, {"eval": [made.row(i, f"{i}?", t) for i, t in targets.items()]})
    spec = {"task": Definition("mine", read_definition(said), "0" * 64), **spec}
    return made.seal(freeze(FreezeSpec(name="s", **spec), dataset=held, store=store), store)


def test_an_answer_that_never_came_has_no_score(store: Store, suite: Artifact[SuiteBody]) -> None:
    questions = read_suite(suite, store)
    texts: dict[str, Any] = {q.id: q.target for q in questions}
    texts[questions[0].id] = None
    answers = answers_of(store, suite, texts)
    draft = score(ScoreSpec(name="m"), suite=suite, answers=answers, store=store)
    row = json.loads(draft.files["scores.jsonl"].splitlines()[0])
    assert all(row[metric] is None for metric in suite.body.metrics)
    assert (row["detail"], row["safety_score"]) == ({"unanswered": 1}, None)
    body = draft.body
    assert body.metrics["exact"].n == 11
    assert body.missing == dict.fromkeys(suite.body.metrics, 1)
    assert body.bounds is not None
    assert body.bounds["exact"] == [pytest.approx(11 / 12), 1]
    assert body.counts["unanswered"] == 1


def test_metrics_of_the_corpus_come_with_those_of_rows(store: Store) -> None:
    targets = {"r1": "metal", "r2": "gas", "r3": "metal"}
    suite = suite_of(store, targets, "kind: classification\n")
    texts = {"r1": "metal", "r2": "metal", "r3": "no idea"}
    answers = answers_of(store, suite, texts)
    draft = score(ScoreSpec(name="m"), suite=suite, answers=answers, store=store)
    assert draft.body.metrics["accuracy"].mean == pytest.approx(1 / 3)
    assert draft.body.corpus is not None
    assert draft.body.corpus["f1_macro"].mean == pytest.approx(0.25)
    rows = {row["id"]: row for row in map(json.loads, draft.files["scores.jsonl"].splitlines())}
    assert rows["r2"]["statistics"] == {"label": "gas", "given": "metal"}
    assert rows["r3"]["statistics"] == {"label": "metal", "given": None}


def test_added_metrics_and_their_signatures_are_sealed(store: Store) -> None:
    suite = suite_of(store, {"r1": "Iron melts."}, "kind: text\n", metrics=("bleu", "rougeL"))
    assert suite.body.metrics == ["token_f1", "bleu", "rougeL"]
    answers = answers_of(store, suite, {"r1": "Iron melts."})
    draft = score(ScoreSpec(name="m"), suite=suite, answers=answers, store=store)
    assert draft.body.metrics["rougeL"].mean == 1
    assert draft.body.corpus is not None
    assert set(draft.body.corpus) == {"corpus_bleu"}
    fewer = suite.body.model_copy(update={"metrics": ["token_f1", "rougeL"]})
    assert seal_of(suite.body, answers.body) != seal_of(fewer, answers.body)


def test_the_seal_knows_the_file_that_described_the_task(store: Store) -> None:
    suite = suite_of(store, {"r1": "5 m"}, "kind: numeric\n")
    answers = answers_of(store, suite, {"r1": "500 cm"})
    draft = score(ScoreSpec(name="m"), suite=suite, answers=answers, store=store)
    assert draft.body.metrics["correct"].mean == 1
    other = suite.body.model_copy(update={"task_sha256": "f" * 64})
    assert seal_of(suite.body, answers.body) != seal_of(other, answers.body)


def test_code_is_run_only_where_someone_said_so(store: Store) -> None:
    suite = suite_of(store, {"r1": "assert x == 1"}, "kind: code\n")
    answers = answers_of(store, suite, {"r1": "x = 1"})
    with pytest.raises(EvalError, match=r"nobody allowed that(.|\n)*run_code"):
        score(ScoreSpec(name="m"), suite=suite, answers=answers, store=store)
    spec = ScoreSpec(name="m", run_code=True)
    body = score(spec, suite=suite, answers=answers, store=store).body
    assert body.metrics["passed"].mean == 1
