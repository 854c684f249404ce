"""Scores and report, derived again from the rows that a publication ships.

The arithmetic is `nexa.core.scoring`, the same that wrote the records; what is new here is only
the comparison with what the records say. Numbers may follow by any edition of the statistics: what
was published by an older version is derived as that version did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from nexa.core.corpus_metrics import derive_corpus
from nexa.core.errors import EvalError
from nexa.core.events import emit
from nexa.core.hazards.flags import RULES_VERSION
from nexa.core.records import Safety, ScoresBody
from nexa.core.safety import KEYS, derive_safety, is_marked, marks
from nexa.core.scoring import (
    Side,
    alike,
    derive_report,
    derive_scores,
    own_metrics,
    read_rows,
)
from nexa.core.statistics import EDITIONS
from nexa.publish.layout import RECORDS
from nexa.publish.records import Records

Read = Callable[[str], bytes]
Problem = tuple[str, str]
SIDES = ("base", "tuned")
NAMED = 3  # rows that a problem names


def scores_problems(records: Records, read: Read) -> Iterator[Problem]:
    """Where the scores' records do not follow from the shipped rows, answers and prompts."""
    try:
        asked = {row["id"] for row in read_rows(read("nexa/prompts.jsonl"))}
    except (EvalError, KeyError) as error:
        yield "nexa/prompts.jsonl", f"cannot be read: {error}"
        return
    for side in SIDES:
        place = f"nexa/scores_{side}.jsonl"
        body = records.role(f"{side}_scores").body
        answers = records.role(f"{side}_answers").body
        try:
            rows = read_rows(read(place))
            odd = _odd_scores(records, body, rows)
            ids = sorted(row["id"] for row in rows)
        except (EvalError, KeyError) as error:
            yield place, f"gives no scores: {error}"
            continue
        if ids != sorted(asked):
            yield place, "its rows are not those of nexa/prompts.jsonl"
        for name in odd:
            yield RECORDS, f"{name} of the {side} scores do not follow from {place}"
        for problem in _safety_problems(body.safety, rows, read(f"nexa/answers_{side}.jsonl")):
            yield place, problem
        if (body.model, body.general_cross_entropy) != (
            answers.model,
            answers.general_cross_entropy,
        ):
            yield RECORDS, f"the {side} scores tell of another model than the {side} answers"


def report_problems(records: Records, read: Read) -> Iterator[Problem]:
    """Where the report's record does not follow from the shipped rows."""
    try:
        base, tuned = (
            Side.of(
                read_rows(read(f"nexa/scores_{side}.jsonl")), records.role(f"{side}_scores").body
            )
            for side in SIDES
        )
        odd = _odd_report(records, base, tuned)
    except (EvalError, KeyError) as error:
        yield RECORDS, f"no report follows from the shipped scores: {error}"
        return
    for name in odd:
        yield RECORDS, f"{name} of the report does not follow from the shipped scores"


def _odd_scores(records: Records, told: ScoresBody, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields of a scores' record that do not follow from its rows."""
    metrics = own_metrics(told) or records.role("suite").body.metrics
    fields = ("metrics", "by_domain", "stop_rate", "counts", "missing", "bounds")

    def odd(edition: int) -> list[str]:
        derived = derive_scores(rows, metrics, edition=edition)
        pairs = ((name, getattr(derived, name), getattr(told, name)) for name in fields)
        return [name for name, wanted, found in pairs if not alike(_plain(wanted), _plain(found))]

    corpus = derive_corpus(rows, list(told.corpus or {}))
    same = alike(_plain(corpus), _plain(told.corpus or {}))
    return [*_by_any_edition(odd), *([] if same else ["corpus"])]


def _odd_report(records: Records, base: Side, tuned: Side) -> list[str]:
    """The fields of the report's record that do not follow from both sides."""
    report = records.role("report").body
    before = _plain(report)

    def odd(edition: int) -> list[str]:
        derived = derive_report(
            records.role("suite").body,
            base,
            tuned,
            forgetting_limit_nats=report.forgetting_limit_nats,
            contaminated_rows=report.contaminated_rows,
            seal=report.seal,
            edition=edition,
        )
        after = _plain(derived)
        names = dict.fromkeys([*before, *after])
        return [name for name in names if not alike(before.get(name), after.get(name))]

    return _by_any_edition(odd)


def _by_any_edition(odd: Callable[[int], list[str]]) -> list[str]:
    """What is odd by the edition that fits best; nothing as soon as one fits."""
    best: list[str] | None = None
    for edition in EDITIONS:
        found = odd(edition)
        best = found if best is None or len(found) < len(best) else best
        if not best:
            break
    return best or []


def _safety_problems(
    told: Safety | None, rows: Sequence[Mapping[str, Any]], answers: bytes
) -> Iterator[str]:
    """Where the hazards that a record tells of are not those of the rows and of the answers.

    Marked under other rules than those of this version they can only be added up; a note says so.
    """
    if told is None:
        if any(is_marked(row) for row in rows):
            yield "its rows tell of hazards, the record does not"
        return
    try:
        derived = derive_safety(rows, told.rules)
        texts = {row["id"]: row["text"] for row in read_rows(answers)}
        wrong = [str(row["id"]) for row in rows if not alike(_marks(row), marks(texts[row["id"]]))]
    except (EvalError, KeyError) as error:
        yield f"gives no count of hazards: {error}"
        return
    if not alike(_plain(derived), _plain(told)):
        yield "the record counts other hazards than its rows have"
    if told.rules != RULES_VERSION:
        text = f"hazards were marked by the rules {told.rules}, this nexa has {RULES_VERSION}: "
        emit("note", text=text + "they are added up again, not looked for again")
    elif wrong:
        yield f"the hazards of {', '.join(wrong[:NAMED])} are not those of the answers"


def _marks(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in KEYS}


def _plain(value: Any) -> Any:
    """An interval, a report, a count, or a mapping of them, as plain data."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
