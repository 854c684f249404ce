from __future__ import annotations

import json
from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import AnswersBody, Artifact, Draft, ModelRef, SuiteBody
from nexa.core.scoring import derive_scores, write_rows
from nexa.core.store import Store
from nexa.eval.metrics import ScoreSpec, score, seal_of
from nexa.eval.suite import read_suite
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
