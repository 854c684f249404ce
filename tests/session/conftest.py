"""A runtime folder of the test's own, and a token nobody issued."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexa.core.secrets import Secret, token_from
from tests.session.processes import short_folder


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's session lives; what it started has ended afterwards."""
    with short_folder() as folder:
        monkeypatch.setenv("NEXA_RUNTIME", str(folder))
        yield folder


@pytest.fixture
def token() -> Secret:
    """A new token of the Hub's form."""
    return token_from("hf_" + "".join(random.choices(string.ascii_letters, k=34)), "the test")
