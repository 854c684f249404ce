"""A real OpenAI-compatible server on loopback as a judge: `transformers serve`.

It wants the packages of transformers' extra `serving`, which Nexa does not: NEXA_TEST_SERVE names
a Python that has them, where this one has not. NEXA_TEST_MODEL names the folder of the model, else
it is SmolLM2 135M from its wheel. So small a model rarely writes a verdict that can be read; what
is tested is that whatever it says is accounted for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nexa.core.errors import EvalError
from nexa.core.records import Artifact, SuiteBody
from nexa.core.store import Store
from nexa.eval.judge import JudgeSpec, judge
from nexa.eval.verdicts import Decoding
from nexa.lm.journal import read_journal
from nexa.lm.requests import Pace
from nexa.lm.teachers import open_model
from nexa.lm.teaching import Teacher
from tests.eval.judging import RUBRIC, answers, rows_of
from tests.lm.test_served_teacher import pytestmark, served

__all__ = ["pytestmark", "served"]


def test_a_served_model_judges_and_whatever_it_says_is_accounted_for(
    served: str, tmp_path: Path, store: Store, suite: Artifact[SuiteBody]
) -> None:
    model = open_model(served, project=tmp_path, environment={})
    journal = tmp_path / "journal.jsonl"
    teacher = Teacher("served", dict(model.identity), model, journal, Pace(concurrency=2))
    decoding = Decoding(retries=1, max_new_tokens=96)
    short = replace(RUBRIC, criteria=RUBRIC.criteria[:1])
    spec = JudgeSpec(teacher, short, name="served", decoding=decoding)
    given = answers(store, suite, '{"metal": "iron", "batch": 5, "pure": null}')
    told, draft = "", None
    try:
        draft = judge(spec, suite=suite, answers=given, store=store)
    except EvalError as nothing_read:
        told = str(nothing_read)
    if draft is None:
        assert "gave no verdict that can be read, on 12" in told
        assert len(read_journal(journal).answers) == 24  # each was asked for twice
        return
    body, rows = draft.body, rows_of(draft)
    levels = [row["clarity"][0] for row in rows]
    assert all(level in (None, 1, 2, 3, 4, 5) for level in levels)
    assert sum(level is None for level in levels) == body.unparsable + body.failed
    assert body.spent.requests == 12 + body.retried
    assert body.spent.latency_s_p50 is not None
    assert body.spent.latency_s_p50 > 0
    assert judge(spec, suite=suite, answers=given, store=store).files == draft.files
    assert len(read_journal(journal).answers) == body.spent.requests
