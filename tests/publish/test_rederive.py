from __future__ import annotations

from collections.abc import Callable

import pytest

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
