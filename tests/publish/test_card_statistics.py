"""What the card says of how sure its numbers are."""

from __future__ import annotations

from typing import Any

import pytest

from nexa.core.scoring import Side, derive_report, read_rows
from nexa.publish.card_statistics import statistics
from nexa.publish.records import Records, read_records
from tests.core.test_scoring import JUDGE
from tests.publish.conftest import Publication


@pytest.fixture
def records(publication: Publication) -> Records:
    return read_records((publication.folder / "nexa" / "records.jsonl").read_bytes())


def rewritten(records: Records, publication: Publication, missing: int = 0, **how: Any) -> str:
    """The section for the report that these scores give in another way."""
    sides = []
    for side in ("base", "tuned"):
        rows = read_rows((publication.folder / "nexa" / f"scores_{side}.jsonl").read_bytes())
        rows = [{**row, "exact": None} if i < missing else row for i, row in enumerate(rows)]
        sides.append(Side(rows, 3.0))
    made = derive_report(
        records.role("suite").body,
        *sides,
        **{"forgetting_limit_nats": 0.3, "contaminated_rows": [], "seal": "s", **how},
    )
    report = records.role("report").body
    for name in type(made).model_fields:
        object.__setattr__(report, name, getattr(made, name))
    return "\n".join(statistics(records))


def test_every_difference_has_its_p_and_the_suite_what_it_shows(
    records: Records, publication: Publication
) -> None:
    report = records.role("report").body
    told = statistics(records)
    assert told[0] == "### How sure this is"
    assert f"{report.minimum_detectable:.2f} on, four times in five" in told[2]
    primary = next(c for c in report.comparisons if c.metric == report.primary)
    row = next(line for line in told if line.startswith(f"| **{report.primary}**"))
    assert row.endswith(f"| {primary.p:.2g} | {primary.adjusted_p:.2g} |")
    assert "### How sure this is" in (publication.folder / "README.md").read_text()


def test_an_older_report_has_no_such_section(records: Records, publication: Publication) -> None:
    assert rewritten(records, publication, edition=1) == ""


def test_missing_scores_are_counted_with_what_they_could_change(
    records: Records, publication: Publication
) -> None:
    told = rewritten(records, publication, missing=2)
    [c] = [c for c in records.role("report").body.comparisons if c.missing]
    assert f"| **exact** | 2 | 2 | {c.bounds[0]:+.3f} to {c.bounds[1]:+.3f} |" in told


def test_clean_rows_are_told_beside_the_verdict(records: Records, publication: Publication) -> None:
    rows = read_rows((publication.folder / "nexa" / "scores_base.jsonl").read_bytes())
    told = rewritten(records, publication, contaminated_rows=[rows[0]["id"]])
    assert (
        f"Without the contaminated rows, which the verdict above does not rest on ({len(rows) - 1}"
        in told
    )
    assert told.count("| **exact** |") == 2


def test_a_judge_is_named(records: Records) -> None:
    object.__setattr__(records.role("report").body, "judge", JUDGE)
    assert "Judged by `judge`, rubric `science`." in "\n".join(statistics(records))
    object.__setattr__(records.role("report").body.comparisons[0], "p", None)
    assert statistics(records)
