"""Asking a judge and reading what it says: prompts, verdicts, second askings, what it took.

A verdict is one JSON object that names the nonce of its request. Everything else that looks like
one is somebody's text: a verdict that the judge quotes from an answer does not count, and two
verdicts that contradict each other are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from string import Template
from typing import Any, Literal

from jsonschema import Draft202012Validator

from nexa.core.errors import EvalError
from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.records import Artifact, JudgementsBody, JudgeSeal, Spent
from nexa.core.scoring import write_rows
from nexa.core.store import Store
from nexa.eval import fence
from nexa.eval.rubrics.rubric import LEVELS, Rubric
from nexa.eval.spent import measured
from nexa.lm.client import Request
from nexa.lm.teaching import (
    NO_ANSWER,
    UNPARSABLE,
    Ask,
    Job,
    NoRow,
    Teacher,
    json_lines,
    public_identity,
)

Mode = Literal["absolute", "pairwise"]

PARSER = "verdict/1"  # raised with any change of how a verdict is read
FOLDER = Path(__file__).parent / "judge_prompts"
NEWEST: Mapping[Mode, int] = {"absolute": 1, "pairwise": 1}
NUDGE = "Your last answer could not be read. Write the JSON object alone, and name its nonce."
SEEDS_APART = 1_000  # between the seeds of a first asking, a second one and so on
MOST_STARTS = 200  # braces that are tried as the beginning of a verdict
MOST_REASON = 2_000  # characters of a reason that are kept
_PART = re.compile(r"^=== (system|user)\n", re.MULTILINE)
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Decoding:
    """How a judge is asked."""

    repeats: int = 1
    retries: int = 2
    temperature: float = 0.0
    seed: int = 0
    max_new_tokens: int = 512

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        least = {"repeats": 1, "retries": 0, "temperature": 0, "max_new_tokens": 1}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise EvalError(f"{name} of a judge is {getattr(self, name)}, less than {low}")


@dataclass(frozen=True)
class Case:
    """One verdict that is wanted: on which data, the how many-th time. `key` is its own."""

    key: str
    data: Mapping[str, Any]
    repeat: int


@dataclass(frozen=True)
class Bench:
    """A judge with its rubric and prompts: what a case needs to become a request."""

    teacher: Teacher
    rubric: Rubric
    decoding: Decoding
    mode: Mode

    @property
    def keys(self) -> list[str]:
        """What a verdict decides."""
        return self.rubric.names if self.mode == "absolute" else self.rubric.metrics

    @property
    def values(self) -> list[Any]:
        """What it may say of each."""
        return list(LEVELS) if self.mode == "absolute" else ["first", "second", "tie"]

    def schema(self, *, strict: bool) -> dict[str, Any]:
        """Of a verdict: `strict` as a model is held to it, else as it is read."""
        text = {"type": "string"}
        properties = {"nonce": text, "reason": text} | {
            key: {"enum": self.values} for key in self.keys
        }
        wanted = ["nonce", *self.keys]
        schema: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "required": wanted,
        }
        if strict:
            kind = "integer" if self.mode == "absolute" else "string"
            schema["properties"] = properties | {
                key: {"type": kind, "enum": self.values} for key in self.keys
            }
            schema |= {"required": list(properties), "additionalProperties": False}
        return schema

    def seal(self) -> JudgeSeal:
        """What makes its verdicts."""
        decoding = self.decoding
        return JudgeSeal(
            judge_model_id=self.teacher.name,
            judge_identity=public_identity(self.teacher.identity),
            judge_prompt_hash=prompt_hash(self.mode),
            rubric=self.rubric.name,
            rubric_sha256=self.rubric.sha256,
            decoding={
                "temperature": decoding.temperature,
                "seed": decoding.seed,
                "max_new_tokens": decoding.max_new_tokens,
                "repeats": decoding.repeats,
                "retries": decoding.retries,
            },
            parser=PARSER,
        )

    def request(self, case: Case, attempt: int = 0) -> tuple[Request, str]:
        """What is sent for a case, and the nonce that its verdict must name."""
        data = fence.inert_json(case.data)
        seed = self.decoding.seed + case.repeat + SEEDS_APART * attempt
        parts = (prompt_hash(self.mode), self.rubric.sha256, data, f"{case.repeat}/{seed}")
        nonce = fence.nonce_for(*parts)
        known = {
            "fence": fence.word_for(*parts),
            "nonce": nonce,
            "data": data,
            "rubric": told(self.rubric),
            "keys": ", ".join(f'"{key}": {_choices(self.values)}' for key in self.keys),
            "nudge": NUDGE if attempt else "",
        }
        turns = _turns(self.mode)
        request = Request(
            id=f"{case.key} #{attempt}",
            messages=tuple(
                {"role": role, "content": Template(text).substitute(known).strip()}
                for role, text in turns.items()
            ),
            max_new_tokens=self.decoding.max_new_tokens,
            temperature=self.decoding.temperature,
            seed=seed,
            json_schema=self.schema(strict=True),
        )
        return request, nonce


@dataclass
class Heard:
    """What a judge said of all cases: verdicts by their keys, or why there is none."""

    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    retried: int = 0
    failed: int = 0

    @property
    def unparsable(self) -> int:
        """Cases that were answered and have no verdict."""
        return len(self.problems) - self.failed

    @property
    def served(self) -> list[str]:
        """What the server said that it ran."""
        return sorted({line["model"] for line in self.requests if line["model"]})


def hear(bench: Bench, cases: Sequence[Case]) -> Heard:
    """Ask the judge for all verdicts; what cannot be read is asked again with another seed.

    Raises:
        EvalError: not one verdict could be had.
        BudgetSpent: the budget does not reach for all; what was answered stays in the journal.
    """
    heard = Heard()
    job = Job(bench.teacher)
    left = list(cases)
    for attempt in range(bench.decoding.retries + 1):
        left = _round(bench, job, heard, left, attempt)
        if not left:
            break
        heard.retried += len(left) if attempt < bench.decoding.retries else 0
    heard.requests = job.requests
    if cases and not heard.verdicts:
        key, problem = next(iter(heard.problems.items()))
        raise EvalError(
            f"{bench.teacher.name} gave no verdict that can be read, on {len(cases):,} asked for",
            found=f"{key}: {problem}",
            fix="its answers are kept; take another judge, or raise --max-new-tokens",
        )
    if heard.problems:
        emit(
            "note",
            text=f"{bench.teacher.name}: {len(heard.problems):,} of {len(cases):,} verdicts are "
            f"missing ({heard.unparsable:,} unreadable, {heard.failed:,} without an answer); "
            "missing is never counted as zero",
        )
    return heard


def read_verdict(text: str, nonce: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The one verdict in a text: a JSON object that names the nonce and fits the schema.

    Raises:
        NoRow: there is none, or two that differ.
    """
    found: list[dict[str, Any]] = []
    problem = "no JSON object names the nonce"
    for said in _objects(_THOUGHTS.sub("", text)):
        if str(said.get("nonce", "")).strip() != nonce:
            continue
        wrong = next(iter(Draft202012Validator(dict(schema)).iter_errors(said)), None)
        if wrong is not None:
            problem = f"{wrong.json_path}: not as its {wrong.validator} wants it"
            continue
        found.append(said)
    decided = [{key: said[key] for key in schema["required"]} for said in found]
    if not found:
        raise NoRow(UNPARSABLE, problem)
    if any(verdict != decided[0] for verdict in decided):
        raise NoRow(UNPARSABLE, "verdicts that contradict each other")
    return found[0]


def files_of(
    rows: Sequence[Mapping[str, Any]], heard: Heard, rubric: Rubric
) -> dict[str, bytes | Path]:
    """The files of judgements: rows, what each request took, and the rubric."""
    return {
        "judgements.jsonl": write_rows(rows),
        "requests.jsonl": json_lines(heard.requests),
        "rubric.json": canonical_json(rubric.to_json()),
    }


def rubric_of(judgements: Artifact[JudgementsBody], store: Store) -> Rubric:
    """The rubric that was judged by.

    Raises:
        EvalError: the one that lies beside the judgements is not the one of their seal.
    """
    rubric = Rubric.from_json(json.loads(store.path(judgements, "rubric.json").read_bytes()))
    if rubric.sha256 != judgements.body.seal.rubric_sha256:
        raise EvalError(
            f"the rubric beside {judgements.label} is not the one that it was judged by",
            found=f"{rubric.sha256[:16]}, sealed {judgements.body.seal.rubric_sha256[:16]}",
        )
    return rubric


def reason_of(verdict: Mapping[str, Any]) -> str:
    """What a verdict says for itself, cut; half a surrogate pair, which no file holds, as `?`."""
    return str(verdict.get("reason", ""))[:MOST_REASON].encode(errors="replace").decode()


def spent_on(requests: Sequence[Mapping[str, Any]], teacher: Teacher) -> Spent:
    """What requests took; those without an answer took nothing that is known."""
    answered = [line for line in requests if not line["problem"]]
    costs = [line["cost_usd"] for line in answered]
    price = teacher.model.price
    return measured(
        [{**line, "text": "", "new_tokens": line["output_tokens"]} for line in answered],
        input_tokens=sum(line["input_tokens"] for line in answered),
        cost_usd=None if None in costs else sum(costs),
        price_source=price.source if price else None,
    )


def prompt_hash(mode: Mode) -> str:
    """The digest of all that Nexa itself says to a judge, and of how texts are made inert."""
    said = {"turns": _turns(mode), "nudge": NUDGE, "fence": fence.VERSION, "mode": mode}
    return sha256_bytes(canonical_json(said))


def told(rubric: Rubric) -> str:
    """A rubric as the judge reads it."""
    parts = []
    for criterion in rubric.criteria:
        levels = "\n".join(
            f"  {level} = {words}" for level, words in zip(LEVELS, criterion.levels, strict=True)
        )
        parts.append(f"{criterion.name}: {criterion.asks}\n{levels}\n")
    return "\n".join(parts)


@cache
def _turns(mode: Mode) -> dict[str, str]:
    text = (FOLDER / f"{mode}-v{NEWEST[mode]}.txt").read_text(encoding="utf-8")
    _, _, system, _, user = _PART.split(text)
    return {"system": system.strip(), "user": user.strip()}


def _choices(values: Sequence[Any]) -> str:
    """What a key may say, in a form that is no JSON: nobody can hand it back as a verdict."""
    return "|".join(json.dumps(value) for value in values)


def _round(bench: Bench, job: Job, heard: Heard, cases: Sequence[Case], attempt: int) -> list[Case]:
    """Ask once for each case; those whose answer was no verdict."""
    asks, by_request = [], {}
    for case in cases:
        request, nonce = bench.request(case, attempt)
        by_request[request.id] = case
        asks.append(Ask(request, (), partial(_verdict, nonce, bench.schema(strict=False))))
    before = len(job.rejects)
    for ask, verdict in job.ask(asks):
        case = by_request[ask.request.id]
        heard.verdicts[case.key] = verdict
        heard.problems.pop(case.key, None)
    again = []
    for reject in job.rejects[before:]:
        case = by_request[reject["id"]]
        heard.problems[case.key] = f"{reject['reason']}: {reject['detail']}"
        if reject["reason"] == NO_ANSWER:
            heard.failed += 1
        else:
            again.append(case)
    return again


def _verdict(nonce: str, schema: Mapping[str, Any], text: str, job: Job) -> dict[str, Any]:
    return read_verdict(text, nonce, schema)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text that do not lie in each other, as far as they are whole."""
    decoder = json.JSONDecoder(object_pairs_hook=_single)
    at = 0
    for _ in range(MOST_STARTS):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            said, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        yield said


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one that says a key twice is none."""
    said = dict(pairs)
    if len(said) < len(pairs):
        raise ValueError("a key twice")
    return said
