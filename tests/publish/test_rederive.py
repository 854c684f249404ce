from __future__ import annotations

from collections.abc import Callable

import pytest

from nexa.core.corpus_metrics import derive_corpus
from nexa.core.records import ReportBody
from nexa.core.scoring import Side, derive_report, read_rows, write_rows
from nexa.publish.records import Records, read_records
from nexa.publish.rederive import report_problems, scores_problems
from tests.publish.conftest import Publication


@pytest.fixture
def records(publication: Publication) -> Records:
    return read_records((publication.folder / "nexa" / "records.jsonl").read_bytes())


@pytest.fixture
def read(publication: Publication) -> Callable[[str], bytes]:
    return lambda name: (publication.folder / name).read_bytes()


def test_scores_and_report_follow_from_the_shipped_rows(
    records: Records, read: Callable[[str], bytes]
) -> None:
    assert list(scores_problems(records, read)) == []
    assert list(report_problems(records, read)) == []


def test_the_last_kept_decimal_may_differ_from_machine_to_machine_and_no_other(
    records: Records, read: Callable[[str], bytes]
) -> None:
    interval = records.role("report").body.tuned["exact"]
    low = interval.low

    object.__setattr__(interval, "low", low + 1e-9)
    assert list(report_problems(records, read)) == []
    object.__setattr__(interval, "low", low + 1e-7)
    assert [name for name, _ in report_problems(records, read)] == ["nexa/records.jsonl"]


def test_what_an_older_version_published_still_follows(
    records: Records, read: Callable[[str], bytes]
) -> None:
    """Before there were p and clean rows, and the bootstrap alone made intervals."""
    report = records.role("report").body
    sides = (
        Side.of(read_rows(read(f"nexa/scores_{s}.jsonl")), records.role(f"{s}_scores").body)
        for s in ("base", "tuned")
    )
    older = derive_report(
        records.role("suite").body,
        *sides,
        forgetting_limit_nats=report.forgetting_limit_nats,
        contaminated_rows=report.contaminated_rows,
        seal=report.seal,
        edition=1,
    )
    assert older != report
    for name in ReportBody.model_fields:
        object.__setattr__(report, name, getattr(older, name))
    assert list(report_problems(records, read)) == []
    object.__setattr__(report.comparisons[0], "p", 0.001)
    told = ["comparisons of the report does not follow from the shipped scores"]
    assert [what for _, what in report_problems(records, read)] == told


@pytest.mark.parametrize("name", ["minimum_detectable", "clean", "comparisons"])
def test_a_number_of_the_tests_that_was_changed_is_found(
    records: Records, read: Callable[[str], bytes], name: str
) -> None:
    report = records.role("report").body
    changed = {
        "minimum_detectable": 0.001,
        "clean": report.comparisons,
        "comparisons": [c.model_copy(update={"adjusted_p": 1e-6}) for c in report.comparisons],
    }
    object.__setattr__(report, name, changed[name])
    [(_, what)] = report_problems(records, read)
    assert what == f"{name} of the report does not follow from the shipped scores"


def test_missing_scores_that_the_record_does_not_tell_of_are_found(
    records: Records, read: Callable[[str], bytes]
) -> None:
    rows = [dict(row) for row in read_rows(read("nexa/scores_base.jsonl"))]
    rows[0]["valid_json"] = None
    shipped = {"nexa/scores_base.jsonl": write_rows(rows)}
    told = [what for _, what in scores_problems(records, lambda n: shipped.get(n) or read(n))]
    assert [what.split(" of the base")[0] for what in told] == [
        "metrics",
        "by_domain",
        "missing",
        "bounds",
    ]


def test_metrics_of_the_corpus_follow_from_the_rows_too(
    records: Records, read: Callable[[str], bytes]
) -> None:
    shipped = read_rows(read("nexa/scores_tuned.jsonl"))
    labelled = [
        {**row, "statistics": {"label": "a", "given": "a" if place % 2 else None}}
        for place, row in enumerate(shipped)
    ]

    def with_labels(name: str) -> bytes:
        return write_rows(labelled) if name == "nexa/scores_tuned.jsonl" else read(name)

    body = records.role("tuned_scores").body
    object.__setattr__(body, "corpus", derive_corpus(labelled, ["f1_micro"]))
    assert list(scores_problems(records, with_labels)) == []
    [(_, problem)] = scores_problems(records, read)
    assert "f1_micro" in problem
    body.corpus["f1_micro"] = body.corpus["f1_micro"].model_copy(update={"mean": 1.0})
    [(_, problem)] = scores_problems(records, with_labels)
    assert "corpus of the tuned scores" in problem
