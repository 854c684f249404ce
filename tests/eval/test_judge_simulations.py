"""Judges that fail, by plan: what the numbers say then, against a truth that is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexa.core.prediction_powered import corrected_mean
from nexa.core.records import Artifact, ScoresBody, SuiteBody
from nexa.core.store import Store
from nexa.eval.suite import FreezeSpec, freeze
from nexa.lm.client import Request
from tests.eval import made
from tests.eval.judging import answers, both, verdict
from tests.eval.test_judged import judged, scored

ROWS = 300
GARBAGE = ("I would give it 5/5.", '{"clarity": 5, "depth": 5}', '{"nonce": ', "")


@pytest.fixture
def suite(store: Store) -> Artifact[SuiteBody]:
    metals = [f"metal{i}" for i in range(ROWS)]
    dataset = made.dataset(store, {"eval": made.record_rows(metals, notes=1)})
    spec = FreezeSpec(name="many", rows=ROWS)
    return made.seal(freeze(spec, dataset=dataset, store=store), store)


def chance(*parts: object) -> float:
    """A number from 0 to 1 that hangs on nothing but the parts."""
    drawn = hashlib.sha256(json.dumps(parts, default=str).encode()).digest()
    return int.from_bytes(drawn[:4], "big") / 2**32


def truth() -> list[int]:
    return [1 + int(5 * chance("truth", i)) for i in range(ROWS)]


def score(tmp_path: Path, store: Store, suite: Artifact[SuiteBody], say: Any, **how: Any) -> Any:
    given = answers(store, suite, [f"answer {i} of level {n}" for i, n in enumerate(truth())])
    judgements = judged(store, suite, given, tmp_path, say, **how)
    return judgements.body, scored(store, suite, given, judgements).body


def level_in(data: Mapping[str, Any]) -> int:
    return int(str(data["answer"])[-1])


def garbage(*parts: object) -> str:
    return GARBAGE[int(len(GARBAGE) * chance("which", *parts))]


def test_a_fifth_of_independent_garbage_leaves_the_mean_unbiased_and_is_reported(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody]
) -> None:
    def say(data: Mapping[str, Any], nonce: str, request: Request) -> str:
        if chance("fails", request.id) < 0.2:
            return garbage(request.id)
        return verdict(nonce, both(level_in(data)))

    body, scores = score(tmp_path, store, suite, say, retries=0)
    found: ScoresBody = scores
    true_mean = float(np.mean([(level - 1) / 4 for level in truth()]))
    missing = body.unparsable
    assert 0.15 < missing / ROWS < 0.25
    assert found.missing == dict.fromkeys(("clarity", "depth", "overall"), missing)
    assert found.metrics["clarity"].n == ROWS - missing
    assert found.metrics["clarity"].low < true_mean < found.metrics["clarity"].high
    assert found.metrics["clarity"].mean == pytest.approx(true_mean, abs=0.03)
    as_zero = found.metrics["clarity"].mean * (ROWS - missing) / ROWS
    assert as_zero < true_mean - 0.05  # what counting garbage as the lowest would have said
    assert found.bounds is not None
    assert found.bounds["clarity"][0] < true_mean < found.bounds["clarity"][1]


def test_asking_again_brings_most_of_independent_garbage_back(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody]
) -> None:
    def say(data: Mapping[str, Any], nonce: str, request: Request) -> str:
        if chance("fails", request.id, request.seed) < 0.2:
            return garbage(request.id)
        return verdict(nonce, both(level_in(data)))

    body, _ = score(tmp_path, store, suite, say, retries=2)
    assert body.retried > 0.15 * ROWS
    assert body.unparsable < 0.03 * ROWS


def test_garbage_that_depends_on_the_answer_is_held_by_the_bounds(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody]
) -> None:
    def say(data: Mapping[str, Any], nonce: str, request: Request) -> str:
        if level_in(data) == 1 or (level_in(data) == 2 and chance("fails", request.id) < 0.5):
            return garbage(request.id)
        return verdict(nonce, both(level_in(data)))

    _, found = score(tmp_path, store, suite, say, retries=1)
    true_mean = float(np.mean([(level - 1) / 4 for level in truth()]))
    assert found.metrics["clarity"].low > true_mean  # the mean of what was read is too kind
    low, high = found.bounds["clarity"]
    assert low <= true_mean <= high


def test_a_corrected_interval_covers_the_planted_truth_of_a_biased_judge() -> None:
    """Nominal is 95 %; benchmarks/statistics.py runs thousands, over more worlds."""
    draws, covered, true_mean = 300, 0, 0.25 * 0.25 + 0.5 * 0.25 + 0.75 * 0.2 + 0.1
    labelled, rows = 60, 240
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        people = rng.choice([0, 0.25, 0.5, 0.75, 1], size=rows, p=[0.2, 0.25, 0.25, 0.2, 0.1])
        kind = np.clip(people + 0.25 * (rng.random(rows) < 0.6), 0, 1)
        judge = [None if rng.random() < 0.1 else float(level) for level in kind]
        names = [str(row) for row in range(rows)]
        near, far = slice(0, labelled), slice(labelled, rows)
        found = corrected_mean(
            judge[far], names[far], judge[near], people[near].tolist(), names[near], resamples=400
        )
        covered += found.low <= true_mean <= found.high
        assert np.mean([level for level in judge if level is not None]) > true_mean + 0.05
    assert covered / draws >= 0.9
