from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [
    *PROJECT["dependencies"],
    # The other extras are for those who ask for them: tests of theirs skip with a reason.
    *(line for extra in ("test", "dev") for line in PROJECT["optional-dependencies"][extra]),
]
LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
PINS = dict(line.split("==") for line in LINES)


@pytest.mark.parametrize("line", WANTED)
def test_what_the_project_asks_for_is_locked_at_a_version_that_fits(line: str) -> None:
    wanted = Requirement(line)
    assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)])


def test_the_lock_holds_plain_pins_only() -> None:
    for line in LINES:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9A-Za-z.]*", line), line


def test_no_build_of_torch_is_forced() -> None:
    assert not any(re.match(r"nvidia|cuda|triton", name) for name in PINS)
