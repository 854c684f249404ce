from __future__ import annotations

import pytest

from nexa.core.records import Interval, ModelRef, ScoresBody
from nexa.core.seals import is_remote, meet


def scores(seal: str, ruler: str | None, origin: str = "folder") -> ScoresBody:
    one = Interval(mean=1.0, low=1.0, high=1.0, n=1, groups=1)
    return ScoresBody(
        model=ModelRef(name="m", origin=origin, digest="0"),
        suite_digest="s",
        answers_digest="a",
        seal=seal,
        ruler=ruler,
        metrics={"exact": one},
        by_domain={},
        stop_rate=one,
        general_cross_entropy=None,
    )


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (scores("one", "r"), scores("one", "r"), True),
        (scores("one", None), scores("one", None), True),
        (scores("one", "r"), scores("two", "r"), False),  # two local models, asked unlike
        (scores("one", "r"), scores("two", "r", "api:openai"), True),
        (scores("one", "r", "api:openai"), scores("two", "r"), True),
        (scores("one", "r", "api:openai"), scores("two", "r", "api:anthropic"), True),
        (scores("one", "r"), scores("two", "another", "api:openai"), False),
        (scores("one", None), scores("two", "r", "api:openai"), False),  # sealed before rulers
        (scores("one", None), scores("two", None, "api:openai"), False),
    ],
)
def test_a_model_of_an_api_meets_whoever_has_its_ruler_and_local_ones_their_seal(
    first: ScoresBody, second: ScoresBody, together: bool
) -> None:
    assert meet(first, second) is together
    assert meet(second, first) is together


def test_who_is_behind_an_api_is_told_by_the_origin() -> None:
    assert is_remote(ModelRef(name="m", origin="api:openai", digest="0"))
    assert not is_remote(ModelRef(name="m", origin="folder", digest="0"))
