"""What tests of commands share that ask a teacher."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.scripted_endpoint import Script, ScriptedEndpoint
from tests.support.teacher import teach


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    """A teacher on loopback."""
    with ScriptedEndpoint(Script(function=teach)) as served:
        yield served


def asking(endpoint: ScriptedEndpoint, *more: str) -> list[str]:
    """The options that name it, and more."""
    return ["--teacher", "wise", "--base-url", endpoint.url, "--price", "1,2", *more]
