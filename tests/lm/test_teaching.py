"""What becomes of a teacher's words: rows, rejects with a reason, and a line of what each took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import DataError
from nexa.lm.client import Price, Request
from nexa.lm.scripted_chat import ScriptedChat
from nexa.lm.teachers import open_model
from nexa.lm.teaching import (
    MOST_TEXT,
    Ask,
    Job,
    NoRow,
    Teacher,
    json_lines,
    request_digest,
    row_of,
)
from tests.support.scripted_endpoint import Script, ScriptedEndpoint

SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "good": {"type": "boolean"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def job_of(tmp_path: Path, said: Any, price: Price | None = None) -> Job:
    model = ScriptedChat(said, name="wise", price=price)
    return Job(Teacher("wise", dict(model.identity), model, tmp_path / "journal.jsonl"))


def ask(text: str, **fields: Any) -> Ask:
    request = Request(text, ({"role": "user", "content": text},), 32, **fields)
    return Ask(request, ("parent",), lambda said, _: {"said": said})


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ('{"answer": "yes"}', 0),
        ('\n {"answer": "yes"} \n', 0),
        ('```json\n{"answer": "yes"}\n```', 1),
        ('Here you are: {"answer": "yes"} Enjoy!', 1),
        ('<think>{"answer": "no"}</think>\n{"answer": "yes"}', 1),
        ('{"answer": "yes"}\n{"answer": "and no"}', 1),
        ('{"answer": "yes"}\n{"and so on', 1),
        ('The set {1, 2} says: {"answer": "yes"}', 1),
    ],
)
def test_json_is_read_strictly_and_else_without_what_stands_around_it(
    tmp_path: Path, text: str, repaired: int
) -> None:
    job = job_of(tmp_path, {})
    assert job.read(text, SCHEMA) == {"answer": "yes"}
    assert job.repaired == repaired


def test_an_answer_that_is_json_may_be_written_as_it_is(tmp_path: Path) -> None:
    job = job_of(tmp_path, {})
    assert job.read('{"answer": {"rho": 7.87, "name": "Eisen \u00e4"}}', SCHEMA) == {
        "answer": '{"rho": 7.87, "name": "Eisen \u00e4"}'
    }
    assert job.read('{"answer": [1, 2]}', SCHEMA) == {"answer": "[1, 2]"}
    assert job.repaired == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "[1]",
        '{"answer": "yes"',
        '{"answer": 1}',
        '{"reply": "yes"}',
        '{"answer": "yes", "more": 1}',
        '{"answer": "yes", "answer": "no"}',
        '{"answer": " "}',
        '{"answer": NaN}',
        '{"answer": "\\ud800"}',
        "\ud800",
        "{" * 5000,
    ],
)
def test_anything_else_is_unparsable_and_says_why(tmp_path: Path, text: str) -> None:
    with pytest.raises(NoRow) as refused:
        job_of(tmp_path, {}).read(text, SCHEMA)
    assert refused.value.reason == "unparsable"
    assert refused.value.detail


def test_every_request_is_a_line_without_its_text(tmp_path: Path) -> None:
    job = job_of(tmp_path, {"a": "A", "b": "B"}, Price(1.0, 2.0, source="a test"))
    made = job.ask([ask("a"), ask("b"), ask("c")])
    assert [row for _, row in made] == [{"said": "A"}, {"said": "B"}]
    assert [line["id"] for line in job.requests] == ["a", "b", "c"]
    first, _, last = job.requests
    assert (first["model"], first["finish"], first["cached"], first["attempts"]) == (
        *("wise", "stop", False),
        1,
    )
    assert first["cost_usd"] == pytest.approx((first["input_tokens"] + 2) / 1e6)
    assert (last["model"], last["input_tokens"], last["latency_s"]) == (None, 0, None)
    assert "none for a prompt" in last["problem"]
    assert [line["reason"] for line in job.rejects] == ["no answer"]
    assert "A" not in {str(value) for value in first.values()}


def test_the_record_counts_what_it_has(tmp_path: Path) -> None:
    job = job_of(tmp_path, {"a": "A", "b": "B"}, Price(1.0, 2.0, source="a test"))
    job.rows = [row for _, row in job.ask([ask("a"), ask("b"), ask("c")])]
    body = job.body("distill", templates={}, sources={"f": "0"}, seed=3)
    assert (body.requested, body.answered, body.failed, body.rows) == (3, 2, 1, 2)
    assert body.rejected == {"no answer": 1}
    assert (body.served, body.seed, body.price_source) == (["wise"], 3, "a test")
    assert body.cost_usd == pytest.approx(sum(line["cost_usd"] or 0 for line in job.requests))
    assert set(job.files()) == {"rows.jsonl", "requests.jsonl", "rejects.jsonl"}


def test_an_unknown_price_stays_unknown(tmp_path: Path) -> None:
    job = job_of(tmp_path, {"a": "A"})
    job.rows = [row for _, row in job.ask([ask("a")])]
    body = job.body("distill", templates={}, sources={}, seed=0)
    assert (body.cost_usd, body.price_source) == (None, None)


def test_a_job_without_a_row_says_what_was_said_instead(tmp_path: Path) -> None:
    job = job_of(tmp_path, {"a": "x" * (MOST_TEXT + 1)})

    def refuse(said: str, _: Job) -> None:
        raise NoRow("unparsable", "no JSON")

    job.ask([Ask(ask("a").request, ("parent",), refuse)])
    assert len(job.rejects[0]["text"]) == MOST_TEXT
    with pytest.raises(DataError, match="gave no row in 1 requests: unparsable 1") as told:
        job.body("distill", templates={}, sources={}, seed=0)
    assert told.value.found == "a: no JSON"


def test_a_row_has_its_labels_its_teacher_and_its_parents(tmp_path: Path) -> None:
    teacher = job_of(tmp_path, {}).teacher
    user = {"role": "user", "content": "Why?"}
    row = row_of(teacher, [user], "So.", parents=["p"], group="g", domain=None)
    assert row == {
        "prompt": "Why?",
        "completion": "So.",
        "source": "synthetic",
        "group": "g",
        "teacher": "wise",
        "parents": ["p"],
    }
    system = {"role": "system", "content": "Be brief."}
    talk = row_of(teacher, [system, user], "So.", parents=[], group=None, domain="d")
    assert talk["prompt"] == [system, user]
    assert (talk["domain"], "group" in talk) == ("d", False)


def test_a_digest_is_of_what_is_asked_and_how_and_not_of_the_caller_s_id() -> None:
    one = ask("a").request
    assert request_digest(one) == request_digest(Request("other", one.messages, one.max_new_tokens))
    changed = [ask("a", seed=1), ask("a", temperature=1.0), ask("a", json_schema=SCHEMA), ask("b")]
    digests = {request_digest(item.request) for item in changed}
    assert len(digests | {request_digest(one)}) == 5


def test_no_text_can_break_a_line_or_a_file() -> None:
    data = json_lines([{"text": "a\nb\u2028\ud800"}, {"text": "c"}])
    assert [json.loads(line)["text"] for line in data.decode().split("\n")[:-1]] == [
        "a\nb\u2028?",
        "c",
    ]


def test_what_was_cut_off_counts_if_all_of_it_is_there(tmp_path: Path) -> None:
    answers = [
        {"when": "whole", "answer": '{"answer": "yes"}, and more', "finish": "length"},
        {"when": "", "answer": '{"answer": "ye', "finish": "length"},
    ]
    with ScriptedEndpoint(Script(answers=answers)) as endpoint:
        model = open_model("wise", project=tmp_path, base_url=endpoint.url)
        job = Job(Teacher("wise", dict(model.identity), model, tmp_path / "journal.jsonl"))
        made = job.ask(
            [
                Ask(ask("whole", json_schema=SCHEMA).request, (), read),
                Ask(ask("half", json_schema=SCHEMA).request, (), read),
                Ask(ask("whole text").request, (), read),
                Ask(ask("other", json_schema=SCHEMA).request, (), refuse_numbers),
            ]
        )
    assert [row for _, row in made] == [{"answer": "yes"}]
    reasons = {line["id"]: line["reason"] for line in job.rejects}
    assert reasons == {"half": "cut off", "whole text": "cut off", "other": "numbers"}


def read(text: str, job: Job) -> Any:
    return job.read(text, SCHEMA)


def refuse_numbers(_text: str, _job: Job) -> None:
    raise NoRow("numbers", "other ones")
