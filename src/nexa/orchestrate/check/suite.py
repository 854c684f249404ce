"""What the frozen questions can show at all: told before the training that they are asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from nexa.core.detectable import detectable_from, expected_detectable, tell
from nexa.core.records import Artifact
from nexa.core.scoring import read_rows
from nexa.core.store import Store
from nexa.orchestrate.check.state import Flight


def detectable(flight: Flight) -> str:
    """The smallest difference that the suite shows four times in five; nothing is refused.

    From its rows and groups; where the base was scored on it before, from those scores.
    """
    suite, store = flight.records["suite"], flight.tiers.store
    asked = read_rows(store.path(suite, "prompts.jsonl").read_bytes())
    counts = list(Counter(row["group"] for row in asked).values())
    primary = suite.body.primary
    found = _from_base(suite, flight.base.ref.digest, store)
    least = expected_detectable(counts) if found is None else found
    flight.facts["minimum_detectable"] = least
    known = "" if found is None else "; by the base's scores"
    return tell(counts, primary, found) + known


def _from_base(suite: Artifact[Any], model_digest: str, store: Store) -> float | None:
    """What the base's own scores on this suite say; None where it has none that differ."""
    for scores in _scores(store):
        body = scores.body
        if (body.suite_digest, body.model.digest) != (suite.digest, model_digest) or body.judge:
            continue
        rows = read_rows(store.path(scores, "scores.jsonl").read_bytes())
        told = [row for row in rows if row[suite.body.primary] is not None]
        values = [float(row[suite.body.primary]) for row in told]
        return detectable_from(values, [row["group"] or row["id"] for row in told])
    return None


def _scores(store: Store) -> Iterator[Artifact[Any]]:
    for name in store.names("scores"):
        for version in store.versions("scores", name):
            yield store.get("scores", f"{name}@{version}")
