"""Scores and report, derived again from the rows that a publication ships.

The arithmetic is `nexa.core.scoring`, the same that wrote the records; what is new here is only
the comparison with what the records say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nexa.core.errors import EvalError
from nexa.core.scoring import Side, alike, derive_report, derive_scores, read_rows
from nexa.publish.layout import RECORDS
from nexa.publish.records import Records

Read = Callable[[str], bytes]
Problem = tuple[str, str]
SIDES = ("base", "tuned")


def scores_problems(records: Records, read: Read) -> Iterator[Problem]:
    """Where the scores' records do not follow from the shipped rows, answers and prompts."""
    metrics = records.role("suite").body.metrics
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
            derived = derive_scores(rows, metrics)
            ids = sorted(row["id"] for row in rows)
        except (EvalError, KeyError) as error:
            yield place, f"gives no scores: {error}"
            continue
        if ids != sorted(asked):
            yield place, "its rows are not those of nexa/prompts.jsonl"
        told = body.model_dump(mode="json")
        for name in ("metrics", "by_domain", "stop_rate", "counts"):
            if not alike(_plain(getattr(derived, name)), told[name]):
                yield RECORDS, f"{name} of the {side} scores do not follow from {place}"
        if (body.model, body.general_cross_entropy) != (
            answers.model,
            answers.general_cross_entropy,
        ):
            yield RECORDS, f"the {side} scores tell of another model than the {side} answers"


def report_problems(records: Records, read: Read) -> Iterator[Problem]:
    """Where the report's record does not follow from the shipped rows."""
    report = records.role("report").body
    try:
        base, tuned = (
            Side(
                read_rows(read(f"nexa/scores_{side}.jsonl")),
                records.role(f"{side}_scores").body.general_cross_entropy,
            )
            for side in SIDES
        )
        derived = derive_report(
            records.role("suite").body,
            base,
            tuned,
            forgetting_limit_nats=report.forgetting_limit_nats,
            contaminated_rows=report.contaminated_rows,
            seal=report.seal,
        )
    except (EvalError, KeyError) as error:
        yield RECORDS, f"no report follows from the shipped scores: {error}"
        return
    before, after = _plain(report), _plain(derived)
    for name in before:
        if not alike(before[name], after[name]):
            yield RECORDS, f"{name} of the report does not follow from the shipped scores"


def _plain(value: Any) -> Any:
    """An interval, a report, a count, or a mapping of them, as plain data."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value if isinstance(value, int) else value.model_dump(mode="json")
