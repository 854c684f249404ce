"""Registries: the visible table first, then what installed packages bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nexa.core.plugins import BrokenPlugin, Registry, UnknownPlugin

METRICS: Registry[Callable[[str], float]] = Registry("metric", {"exact": len, "f1": len})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real installed package, as far as Python can tell: a module and its dist-info."""
    (tmp_path / "nexa_shouting.py").write_text(
        "def shout(text):\n    return float(text.isupper())\n"
    )
    info = tmp_path / "nexa_shouting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nexa-shouting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[nexa.metric]\n"
        "shout = nexa_shouting:shout\n"
        "exact = nexa_shouting:shout\n"
        "gone = nexa_shouting:gone\n"
        "absent = nexa_absent:thing\n"
        "[nexa.provider]\n"
        "elsewhere = nexa_shouting:shout\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_built_in_names() -> None:
    assert METRICS["exact"]("abc") == 3
    assert "exact" in METRICS
    assert "shout" not in METRICS
    assert METRICS.names() == ["exact", "f1"]


@pytest.mark.usefixtures("package")
def test_an_installed_package_adds_its_own() -> None:
    assert METRICS["shout"]("LOUD") == 1.0
    assert "shout" in METRICS
    assert METRICS.names() == ["absent", "exact", "f1", "gone", "shout"]


@pytest.mark.usefixtures("package")
def test_a_built_in_cannot_be_replaced_from_outside() -> None:
    assert METRICS["exact"] is len


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "reason"),
    [("gone", "nexa_shouting:gone"), ("absent", "No module named 'nexa_absent'")],
)
def test_a_plugin_that_cannot_be_loaded_names_its_package(name: str, reason: str) -> None:
    with pytest.raises(BrokenPlugin, match=f"promises metric '{name}'") as caught:
        METRICS[name]
    assert reason in str(caught.value.found)
    assert "nexa-shouting" in str(caught.value) or "nexa_shouting" in str(caught.value)


def test_an_unknown_name_gets_the_nearest_and_all_there_are() -> None:
    with pytest.raises(UnknownPlugin) as caught:
        METRICS["exakt"]
    assert str(caught.value).splitlines() == [
        "there is no metric named 'exakt'",
        "  found  known: exact, f1",
        "  try    exact",
    ]
    with pytest.raises(UnknownPlugin, match="known: none"):
        Registry[int]("provider", {})["runpod"]
