"""Two models' answers beside each other: which is better, asked in both orders.

Judges favour a place: many take the first answer more often than it deserves. So every pair is
shown in both orders, and a win counts only if it is one in both; what turns with the order is a
tie. A judge that always says "first" then finds a win rate of exactly one half, and how far it
leans is measured and told.

Source: Zheng et al. 2023, arXiv:2306.05685 (position bias, and swapping against it).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nexa.core.errors import EvalError
from nexa.core.events import emit
from nexa.core.identity import where
from nexa.core.records import (
    AnswersBody,
    Artifact,
    Draft,
    Interval,
    JudgementsBody,
    SuiteBody,
)
from nexa.core.statistics import interval
from nexa.core.store import Store
from nexa.eval.judge import NO_TEXT, Exhibit, exhibit, flagged, texts_of
from nexa.eval.own_judge import refuse_own, require_another, served_itself
from nexa.eval.rubrics.rubric import Rubric
from nexa.eval.suite import Question, read_suite
from nexa.eval.verdicts import Bench, Case, Decoding, Heard, files_of, hear, reason_of, spent_on
from nexa.lm.client import Request
from nexa.lm.teaching import Teacher

Outcome = Literal["win", "tie", "loss"]
ORDERS = ("ab", "ba")
FIRST, SECOND, TIE = "first", "second", "tie"
VALUES: Mapping[str, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}


@dataclass(frozen=True)
class PairSpec:
    """Who compares by which rubric, and how often each pair in each order."""

    judge: Teacher
    rubric: Rubric
    name: str = where()
    decoding: Decoding = field(default_factory=Decoding)
    allow_self_judge: bool = False
    again: int = 0  # raised to ask once more for what was not answered


@dataclass(frozen=True)
class Tally:
    """How A fared against B: rows won, tied, lost and missing, and the share of points won."""

    key: str
    wins: int
    ties: int
    losses: int
    missing: int
    win_rate: Interval | None
    """A win is 1, a tie 1/2; None: no row has an outcome."""
    bounds: tuple[float, float]
    """The win rate if all missing rows were lost, or won."""


def judge_pairs(
    spec: PairSpec,
    *,
    suite: Artifact[SuiteBody],
    answers: Artifact[AnswersBody],
    other: Artifact[AnswersBody],
    store: Store,
) -> Draft[JudgementsBody]:
    """Have each answer compared with the other's to the same question.

    The draft's files are `judgements.jsonl`, `requests.jsonl` and `rubric.json`. A row of the
    first is `{"id", CRITERION: [[verdict as ab, verdict as ba] of each repeat], ..., "overall":
    ..., "reasons", "problem", "flags", "left_out"}`; a verdict is first, second, tie or null.

    Raises:
        EvalError: answers to another suite, twice the same ones, a judge of itself, or not one
            verdict that could be read.
        BudgetSpent: the budget does not reach for all; what was answered stays in the journal.
    """
    if answers.digest == other.digest:
        raise EvalError("a model's answers are compared with themselves", found=answers.label)
    both = (answers, other)
    own = require_another(spec.judge, both, store, allowed=spec.allow_self_judge)
    bench = bench_of(spec)
    questions, pairs = _read(spec, suite, both, store)
    cases = _cases(pairs, spec.decoding)
    heard = hear(bench, cases)
    itself = [one for one in both if served_itself(heard.served, one.body)]
    if itself and not own:
        own = True
        refuse_own(spec.judge.name, itself[0].body.model.name, allowed=spec.allow_self_judge)
    rows = [_row(q.id, pairs[q.id], heard, bench) for q in questions]
    groups = {q.id: q.group for q in questions}
    position = position_of(rows, groups, spec.rubric.primary)
    _tell_bias(spec.judge.name, position)
    body = JudgementsBody(
        model=answers.body.model,
        suite_digest=suite.digest,
        answers_digest=answers.digest,
        other_digest=other.digest,
        mode="pairwise",
        seal=bench.seal(),
        criteria=spec.rubric.names,
        primary=spec.rubric.primary,
        repeats=spec.decoding.repeats,
        requested=len(cases),
        unparsable=heard.unparsable,
        retried=heard.retried,
        failed=heard.failed,
        self_judged=own,
        served=heard.served,
        position=position,
        flagged=flagged(one for pair in pairs.values() for one in pair),
        spent=spent_on(heard.requests, spec.judge),
    )
    return Draft("judgements", spec.name, body, files_of(rows, heard, spec.rubric))


def requests_of(
    spec: PairSpec,
    *,
    suite: Artifact[SuiteBody],
    answers: Artifact[AnswersBody],
    other: Artifact[AnswersBody],
    store: Store,
) -> list[Request]:
    """All requests of the job but those that ask again, for an estimate."""
    bench = bench_of(spec)
    _, pairs = _read(spec, suite, (answers, other), store)
    return [bench.request(case)[0] for case in _cases(pairs, spec.decoding)]


def bench_of(spec: PairSpec) -> Bench:
    """The judge as it will be asked."""
    return Bench(spec.judge, spec.rubric, spec.decoding, "pairwise")


def outcome(verdicts: Sequence[str | None]) -> Outcome | None:
    """Of one repeat: win or loss of A if both orders say so, else a tie; None: one is missing."""
    as_ab, as_ba = verdicts
    if as_ab is None or as_ba is None:
        return None
    if (as_ab, as_ba) == (FIRST, SECOND):
        return "win"
    return "loss" if (as_ab, as_ba) == (SECOND, FIRST) else "tie"


def row_value(repeats: Sequence[Sequence[str | None]]) -> float | None:
    """What a row earns A: the mean over its repeats that have an outcome."""
    found = [VALUES[one] for one in map(outcome, repeats) if one is not None]
    return math.fsum(found) / len(found) if found else None


def tally(rows: Sequence[Mapping[str, Any]], groups: Mapping[str, str], key: str) -> Tally:
    """How A fared on a criterion, or overall."""
    earned = {row["id"]: row_value(row[key]) for row in rows}
    given = {row: value for row, value in earned.items() if value is not None}
    won, lost = (sum(value > 0.5 for value in given.values()), sum(v < 0.5 for v in given.values()))
    missing = len(earned) - len(given)
    total = math.fsum(given.values())
    return Tally(
        key=key,
        wins=won,
        ties=len(given) - won - lost,
        losses=lost,
        missing=missing,
        win_rate=interval(list(given.values()), [groups[row] for row in given]) if given else None,
        bounds=(total / len(earned), (total + missing) / len(earned)),
    )


def position_of(
    rows: Sequence[Mapping[str, Any]], groups: Mapping[str, str], key: str
) -> dict[str, float]:
    """How far the judge leans to a place: two shares, each with its interval and its number.

    `first`: of verdicts that are no tie, those for the answer that stood first; a half is fair, for
    every pair stands in both orders. `turns`: of pairs with both verdicts, those whose verdict
    turns with the order.
    """
    firsts: list[tuple[float, str]] = []
    turns: list[tuple[float, str]] = []
    for row in rows:
        group = groups[row["id"]]
        for as_ab, as_ba in row[key]:
            firsts += [(float(v == FIRST), group) for v in (as_ab, as_ba) if v in (FIRST, SECOND)]
            if as_ab is not None and as_ba is not None:
                turns.append((float(as_ab != _swapped(as_ba)), group))
    found: dict[str, float] = {}
    for name, values in (("first", firsts), ("turns", turns)):
        found[f"{name}_n"] = len(values)
        if values:
            share = interval([value for value, _ in values], [group for _, group in values])
            found |= {name: share.mean, f"{name}_low": share.low, f"{name}_high": share.high}
    return found


def is_biased(position: Mapping[str, float]) -> bool:
    """Whether the judge leans to a place by more than chance."""
    return bool(position["first_n"]) and not (
        position["first_low"] <= 0.5 <= position["first_high"]
    )


def _tell_bias(judge: str, position: Mapping[str, float]) -> None:
    if is_biased(position):
        place = FIRST if position["first"] > 0.5 else SECOND
        emit(
            "note",
            text=f"POSITION BIAS: {judge} leans to the {place} answer: {position['first']:.0%} "
            f"[{position['first_low']:.0%}, {position['first_high']:.0%}] of its "
            f"{position['first_n']:.0f} decided verdicts are for the first one, and "
            f"{position['turns']:.0%} of pairs turn with the order. Both orders were asked and "
            "what turns is a tie, so the win rate does not lean; it sees less",
        )


def _read(
    spec: PairSpec,
    suite: Artifact[SuiteBody],
    both: tuple[Artifact[AnswersBody], Artifact[AnswersBody]],
    store: Store,
) -> tuple[list[Question], dict[str, tuple[Exhibit | None, Exhibit | None]]]:
    """The suite's questions, and of each both answers."""
    bench = bench_of(spec)
    questions = read_suite(suite, store)
    a, b = (texts_of(suite, questions, one, store) for one in both)
    pairs = {q.id: (exhibit(q, a[q.id], bench), exhibit(q, b[q.id], bench)) for q in questions}
    return questions, pairs


def _cases(
    pairs: Mapping[str, tuple[Exhibit | None, Exhibit | None]], decoding: Decoding
) -> list[Case]:
    """Each pair in both orders, as often as is wanted; none where an answer is missing."""
    cases = []
    for row_id, (a, b) in pairs.items():
        if a is None or b is None:
            continue
        for repeat in range(decoding.repeats):
            for order, (first, second) in zip(ORDERS, ((a, b), (b, a)), strict=True):
                rest = {key: value for key, value in a.data.items() if key != "answer"}
                data = {
                    **rest,
                    "first answer": first.data["answer"],
                    "second answer": second.data["answer"],
                }
                cases.append(Case(f"{row_id} #{repeat}{order}", data, repeat))
    return cases


def _row(
    row_id: str, pair: tuple[Exhibit | None, Exhibit | None], heard: Heard, bench: Bench
) -> dict[str, Any]:
    """A line of judgements.jsonl."""
    keys = [
        [f"{row_id} #{repeat}{order}" for order in ORDERS]
        for repeat in range(bench.decoding.repeats)
    ]
    said = [[heard.verdicts.get(key) for key in both] for both in keys]
    problems = [heard.problems[key] for both in keys for key in both if key in heard.problems]
    there = [one for one in pair if one is not None]
    return {
        "id": row_id,
        **{
            name: [[None if v is None else v[name] for v in both] for both in said]
            for name in bench.keys
        },
        "reasons": [[None if v is None else reason_of(v) for v in both] for both in said],
        "problem": NO_TEXT if len(there) < len(pair) else "; ".join(problems),
        "flags": sorted({flag for one in there for flag in one.flags}),
        "left_out": sum(one.left_out for one in there),
    }


def _swapped(verdict: str) -> str:
    """What a verdict of the other order says in this one."""
    return {FIRST: SECOND, SECOND: FIRST}.get(verdict, TIE)
