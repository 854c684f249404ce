"""What a suite can show: told from its shape, and from the base's scores where there are some."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.records import Artifact, ScoresBody
from nexa.core.scoring import read_rows
from nexa.orchestrate.check import rows as checks
from nexa.orchestrate.check import suite as shown
from nexa.orchestrate.check.flight import flight_check
from nexa.orchestrate.check.state import Flight
from tests.eval import made as evaluated
from tests.orchestrate.check.made import flight
from tests.support.project import write_project


@pytest.fixture
def checked(tmp_path: Path, tiny_llama: Path) -> Flight:
    """A flight that has its dataset and its suite: 8 rows in 8 groups."""
    made = flight(tmp_path, tiny_llama)
    checks.dataset(made)
    return made


def base_scores(made: Flight, right: int, *, digest: str | None = None) -> Artifact[ScoresBody]:
    """Scores of the flight's base, or of another model, of which the first rows are right."""
    store, suite = made.tiers.store, made.records["suite"]
    asked = read_rows(store.path(suite, "prompts.jsonl").read_bytes())
    rows = [
        {"id": row["id"], "group": row["group"], "domain": row["domain"], "stopped": 1}
        | dict.fromkeys(suite.body.metrics, float(i < right))
        for i, row in enumerate(asked)
    ]
    rows[-1]["exact"] = None
    name = f"scores-{right}"
    sealed = evaluated.scores(store, suite, rows, name=name)
    model = sealed.body.model.model_copy(update={"digest": digest or made.base.ref.digest})
    body = sealed.body.model_copy(update={"model": model})
    draft = evaluated.Draft("scores", f"{name}-of", body, {"scores.jsonl": b""})
    files = {"scores.jsonl": store.path(sealed, "scores.jsonl").read_bytes()}
    return evaluated.seal(evaluated.Draft("scores", draft.name, body, files), store)


def test_a_small_suite_names_how_many_rows_would_do(checked: Flight) -> None:
    told = shown.detectable(checked)
    assert told == (
        "8 rows in 8 groups cannot be relied on to show even a change of exact by 0.3: about 25 "
        "rows in 25 equal groups would"
    )
    assert 0.3 < checked.facts["minimum_detectable"] <= 1


def test_the_bases_own_scores_tell_better(checked: Flight) -> None:
    by_shape = shown.detectable(checked)
    base_scores(checked, 3, digest="another model")
    assert shown.detectable(checked) == by_shape
    base_scores(checked, 4)
    told = shown.detectable(checked)
    assert told.endswith("groups would; by the base's scores")
    assert told != f"{by_shape}; by the base's scores"


def test_a_base_that_is_always_wrong_says_nothing_of_the_spread(checked: Flight) -> None:
    by_shape = shown.detectable(checked)
    base_scores(checked, 0)
    assert shown.detectable(checked) == by_shape


def test_the_flight_check_tells_it(tmp_path: Path, tiny_llama: Path) -> None:
    report = flight_check(write_project(tmp_path, tiny_llama), rehearse=False)
    told = {result.check: result for result in report.results}["suite"]
    assert told.state == "passed"
    assert "8 rows in 8 groups" in told.detail
    assert report.facts["minimum_detectable"] > 0.3
