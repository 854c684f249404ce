"""What every way of having rows written shares: asking a teacher, reading its answers, the record.

Every request ends in one of three files: a row, a reject with its reason, and in any case a line
of what it took. Nothing that a teacher said is lost in silence, and nothing that it said is an
instruction to anybody here.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from nexa.core import values
from nexa.core.errors import DataError
from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import SyntheticBody
from nexa.lm.client import ChatModel, Request
from nexa.lm.requests import Answered, Pace, ask_all
from nexa.lm.teachers import HOSTS

NO_ANSWER = "no answer"
REFUSED = "refused by the teacher"
CUT_OFF = "cut off"
UNPARSABLE = "unparsable"
MOST_NAME = 200  # characters of what a server calls its model
MOST_TEXT = 4000  # characters of an answer that gave no row, in rejects.jsonl
ANSWER = "answer"  # the key whose text is written as the JSON that it holds now and then
MOST_STARTS = 20  # braces that are tried as the beginning of an object
_DECODER = json.JSONDecoder()
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Teacher:
    """Who is asked, how hard, and the file that keeps what it answers."""

    name: str
    identity: Mapping[str, Any]
    model: ChatModel = where()
    journal: Path = where()
    pace: Pace = where(default=Pace())


class NoRow(ValueError):
    """Why an answer gives no row; the job goes on."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True)
class Ask:
    """A request, what it was made from, and what is made of the text that answers it.

    `make` gets the text and the `Job`, and raises `NoRow` where there is nothing to be made.
    """

    request: Request
    parents: tuple[str, ...]
    make: Callable[[str, Job], Any]


@dataclass
class Job:
    """Requests to one teacher, and what came of them so far."""

    teacher: Teacher
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    repaired: int = 0

    def ask(self, asks: Sequence[Ask]) -> list[tuple[Ask, Any]]:
        """Send all requests; what was made of each answer that gave something, in their order.

        Raises:
            BudgetSpent: the budget does not reach for all; what was answered stays in the journal.
            AccessError: the server refuses the key.
            RequestFailed: no request is answered.
        """
        teacher = self.teacher
        requests = [ask.request for ask in asks]
        answered = ask_all(teacher.model, requests, journal=teacher.journal, pace=teacher.pace)
        made = []
        for ask, answer in zip(asks, answered, strict=True):
            self.requests.append(_line(answer))
            try:
                made.append((ask, _made(ask, answer, self)))
            except NoRow as why:
                said = answer.completion.text if answer.completion else ""
                self.refuse(ask.request.id, why, ask.parents, said)
        return made

    def refuse(self, name: str, why: NoRow, parents: Sequence[str] = (), text: str = "") -> None:
        """Keep what gave no row, with the reason."""
        self.rejects.append(
            {
                "id": name,
                "reason": why.reason,
                "detail": why.detail,
                "parents": list(parents),
                "text": text[:MOST_TEXT],
            }
        )

    def read(self, text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """An answer that shall be JSON, strictly; else the first whole object in it.

        Raises:
            NoRow: it is none, or not an instance of the schema.
        """
        data, problem = values.parse(text.strip().encode(errors="surrogatepass"))
        if data is None:
            data, _ = values.parse(_inner(text).encode(errors="surrogatepass"))
            self.repaired += data is not None
        if data is None:
            raise NoRow(UNPARSABLE, problem)
        if isinstance(data.get(ANSWER), dict | list):  # where the answers of the data are JSON
            data[ANSWER] = json.dumps(data[ANSWER], ensure_ascii=False)
            self.repaired += 1
        wrong = next(iter(Draft202012Validator(dict(schema)).iter_errors(data)), None)
        if wrong is not None:
            raise NoRow(UNPARSABLE, f"{wrong.json_path}: not as its {wrong.validator} wants it")
        for key, value in data.items():
            if key in schema.get("required", ()) and isinstance(value, str) and not value.strip():
                raise NoRow(UNPARSABLE, f"{key!r} is empty")
        return data

    def body(
        self,
        method: str,
        *,
        templates: Mapping[str, str],
        sources: Mapping[str, str],
        seed: int,
    ) -> SyntheticBody:
        """The record of the whole job.

        Raises:
            DataError: no answer gave a row; says why not.
        """
        rejected = Counter(line["reason"] for line in self.rejects)
        if not self.rows:
            first = next((f"{line['id']}: {line['detail']}" for line in self.rejects), "")
            counts = ", ".join(f"{reason} {n:,}" for reason, n in rejected.most_common())
            raise DataError(
                f"{self.teacher.name} gave no row in {len(self.requests):,} requests: {counts}",
                found=first or None,
                fix="the answers are kept: look at them, then take another teacher or method",
            )
        answered = [line for line in self.requests if not line["problem"]]
        costs = [line["cost_usd"] for line in answered]
        price = self.teacher.model.price
        body = SyntheticBody(
            method=method,
            teacher=self.teacher.name,
            identity=public_identity(self.teacher.identity),
            served=sorted({line["model"] for line in answered}),
            templates=dict(templates),
            sources=dict(sources),
            seed=seed,
            requested=len(self.requests),
            answered=len(answered),
            cached=sum(line["cached"] for line in answered),
            failed=len(self.requests) - len(answered),
            repaired=self.repaired,
            unparsable=rejected[UNPARSABLE],
            rejected=dict(sorted(rejected.items())),
            rows=len(self.rows),
            input_tokens=sum(line["input_tokens"] for line in answered),
            output_tokens=sum(line["output_tokens"] for line in answered),
            cost_usd=None if None in costs else round(sum(costs), 9),
            price_source=price.source if price else None,
        )
        _tell(body)
        return body

    def files(self) -> dict[str, bytes | Path]:
        """The files of the record."""
        return {
            "rows.jsonl": json_lines(self.rows),
            "requests.jsonl": json_lines(self.requests),
            "rejects.jsonl": json_lines(self.rejects),
        }


def json_lines(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Records, one a line; half a surrogate pair, which no file can hold, as `?`."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return "".join(lines).encode(errors="replace")


def row_of(
    teacher: Teacher,
    prompt: Sequence[Mapping[str, str]],
    completion: str,
    *,
    parents: Sequence[str],
    group: str | None,
    domain: str | None,
) -> dict[str, Any]:
    """A line of rows.jsonl, in the shape `distill`: trainable as prompt and completion."""
    alone = len(prompt) == 1 and prompt[0]["role"] == "user"
    labels = {"group": group, "domain": domain}
    return {
        "prompt": prompt[0]["content"] if alone else [dict(turn) for turn in prompt],
        "completion": completion,
        "source": "synthetic",
        **{name: value for name, value in labels.items() if value is not None},
        "teacher": teacher.name,
        "parents": list(parents),
    }


def public_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """A teacher's identity for records, which are published: no address but the APIs' own."""
    told = dict(identity)
    endpoint = told.get("endpoint")
    if endpoint is not None and endpoint not in HOSTS.values():
        told["endpoint"] = f"sha256:{sha256_bytes(str(endpoint).encode())}"
    return told


def request_digest(request: Request) -> str:
    """sha256 of what is asked and how, without the caller's own id."""
    asked = {
        "messages": [dict(turn) for turn in request.messages],
        "max_new_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "json_schema": dict(request.json_schema) if request.json_schema else None,
    }
    return sha256_bytes(canonical_json(asked))


def _made(ask: Ask, answer: Answered, job: Job) -> Any:
    """What an answer gives. One that was cut off counts only if all that was asked for is there.

    Raises:
        NoRow: nothing was said, or not to its end, or that it will not be said.
    """
    done = answer.completion
    if done is None:
        raise NoRow(NO_ANSWER, answer.problem)
    if done.finish == "refused":
        raise NoRow(REFUSED, done.text[:200] or "without a word")
    cut_off = NoRow(CUT_OFF, f"after {done.output_tokens:,} tokens")
    if done.finish == "length" and ask.request.json_schema is None:
        raise cut_off
    try:
        return ask.make(done.text, job)
    except NoRow as why:
        if done.finish == "length" and why.reason == UNPARSABLE:
            raise cut_off from why
        raise


def _inner(text: str) -> str:
    """The first whole JSON object: without a fence, a greeting, thoughts, or what follows it."""
    said = _THOUGHTS.sub("", text)
    starts = (match.start() for match in re.finditer(r"\{", said))
    for start in islice(starts, MOST_STARTS):
        with contextlib.suppress(ValueError, RecursionError):
            _, end = _DECODER.raw_decode(said, start)
            return said[start:end]
    return ""


def _line(answer: Answered) -> dict[str, Any]:
    """A line of requests.jsonl: no text, no secret."""
    done = answer.completion
    return {
        "id": answer.request.id,
        "sha256": request_digest(answer.request),
        "model": done.model[:MOST_NAME] if done else None,
        "finish": done.finish if done else None,
        "input_tokens": done.input_tokens if done else 0,
        "output_tokens": done.output_tokens if done else 0,
        "cost_usd": answer.cost_usd,
        "latency_s": round(done.latency_s, 3) if done else None,
        "attempts": answer.attempts,
        "cached": answer.cached,
        "problem": answer.problem if done is None else "",
    }


def _tell(body: SyntheticBody) -> None:
    """Say what came of the requests: the numbers are in the record, the texts in rejects.jsonl."""
    lost = ", ".join(f"{reason} {count:,}" for reason, count in body.rejected.items())
    cost = "at an unknown price" if body.cost_usd is None else f"for {body.cost_usd:.4f} USD"
    emit(
        "note",
        text=f"{body.teacher}: {body.rows:,} rows of {body.requested:,} requests {cost}"
        + (f"; without a row: {lost}" if lost else ""),
    )
