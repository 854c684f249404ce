from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nexa.core.plugins import UnknownPlugin
from nexa.feedback.feedback_generators.registry import GENERATORS, proposer, selector

PLUGIN = """
from nexa.feedback.feedback_generators.registry import Selector

def first(items, weak, wanted, seed):
    return list(range(min(wanted, len(items))))

FIRST = Selector("the first rows", first, aims=False)
"""


def test_the_table_has_the_five_generators() -> None:
    assert GENERATORS.names() == ["hard_negative", "paraphrase", "pool", "random", "teacher"]
    assert all(GENERATORS[name].about for name in GENERATORS.names())


def test_a_generator_chooses_or_asks() -> None:
    assert [name for name in GENERATORS.names() if selector(name)] == ["pool", "random"]
    assert [name for name in GENERATORS.names() if proposer(name)] == [
        "hard_negative",
        "paraphrase",
        "teacher",
    ]


def test_an_unknown_generator_names_the_nearest() -> None:
    with pytest.raises(UnknownPlugin, match=r"no generator named 'techer'[\s\S]*try +teacher"):
        selector("techer")


def test_a_package_adds_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first_rows.py").write_text(PLUGIN)
    info = tmp_path / "first_rows-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: first-rows\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[nexa.generator]\nfirst = first_rows:FIRST\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert "first" in GENERATORS.names()
    found = selector("first")
    assert found is not None
    assert found.choose([], {}, 3, 0) == []
