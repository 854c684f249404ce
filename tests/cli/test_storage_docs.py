from __future__ import annotations

import re

from nexa.cli.storage_docs import (
    FAILURES,
    PLACES,
    STORAGE_PARTS,
    TIERS,
    failures_table,
    kinds_table,
    places_table,
    tiers_table,
)
from nexa.core.records import KINDS
from tests.support.project import Finished

OWN = {"config.yaml", "train.jsonl", "eval.jsonl"}  # the user's
TIER_FOLDERS = {"scratch": ".nexa/scratch", "store": ".nexa/store", "durable": ".nexa/durable"}


def pattern(tier: str, name: str) -> re.Pattern[str]:
    """A name of the policy as a pattern of whole paths below the project."""
    path = re.escape("/".join(filter(None, (TIER_FOLDERS.get(tier), name))))
    path = re.sub(r"<[^>]*>", r"[^/]+", path.replace(r"\ ", " "))
    return re.compile(path.replace(r"\*", ".+") + (".*" if name.endswith("/") else ""))


def test_every_file_that_a_finished_run_leaves_has_its_place_in_the_policy(
    finished: Finished,
) -> None:
    known = [pattern(place.tier, place.name) for place in PLACES]
    files = [p.relative_to(finished.root) for p in finished.root.rglob("*") if p.is_file()]
    strangers = [
        str(path)
        for path in files
        if str(path) not in OWN and not any(k.fullmatch(str(path)) for k in known)
    ]
    assert strangers == []


def test_what_the_policy_says_of_a_finished_run_is_there(finished: Finished) -> None:
    files = [str(p.relative_to(finished.root)) for p in finished.root.rglob("*") if p.is_file()]
    absent = [
        place.name
        for place in PLACES
        if not any(pattern(place.tier, place.name).fullmatch(file) for file in files)
    ]
    # What a stopped or a published run leaves.
    assert all(name.startswith(("<run_id>-", "run_state/", ".nexa/hub", ".nexa/requests",
                                ".nexa/distill", "nexa-prepare-",
                                "checkpoints/<recipe>"))
               for name in absent)  # fmt: skip


def test_every_kind_tier_and_failure_is_in_its_table() -> None:
    assert all(f"| `{kind}` |" in kinds_table() for kind in KINDS)
    assert all(f"| {tier} |" in tiers_table() for tier in TIERS)
    assert {place.tier for place in PLACES} <= set(TIERS)
    assert len(failures_table().splitlines()) == len(FAILURES) + 2
    assert len(places_table().splitlines()) == len(PLACES) + 2
    assert all("\n" in make() for make in STORAGE_PARTS.values())
