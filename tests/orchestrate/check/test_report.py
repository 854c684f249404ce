"""A finding is an error told as data, and an error again."""

from __future__ import annotations

import json

from nexa.core.errors import LeakError, NexaError
from nexa.core.store import UnknownArtifact
from nexa.orchestrate.check.report import CheckReport, Finding, Result

LEAK = Finding.of("leakage", LeakError("3 rows leak", found="row 1", fix="take them out"))


def test_a_finding_is_raised_as_what_it_was() -> None:
    error = LEAK.error()
    assert type(error) is LeakError
    assert (error.what, error.found, error.fix) == ("3 rows leak", "row 1", "take them out")
    assert LEAK.exit_code == 16


def test_an_error_of_another_module_is_raised_as_the_root_of_all() -> None:
    error = Finding.of("dataset", UnknownArtifact("no such artifact")).error()
    assert type(error) is NexaError


def test_a_report_is_plain_data_and_its_first_finding_decides() -> None:
    later = Finding.of("weights", NexaError("odd"))
    report = CheckReport((LEAK, later), (Result("leakage", "failed", "3 rows leak"),), {"a": 1})
    told = json.loads(json.dumps(report.to_json()))
    assert (told["passed"], told["exit_code"]) == (False, 16)
    assert told["findings"][0]["fix"] == "take them out"
    assert told["facts"] == {"a": 1}
    assert CheckReport((), ()).exit_code == 0
