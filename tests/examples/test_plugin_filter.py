"""The example of a filter in a package of its own, installed as far as Python can tell."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from nexa.core.config import parse_config
from nexa.core.errors import ConfigError
from nexa.core.store import Store
from nexa.data.filters.registry import FILTERS, described, specs
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import sources_of
from nexa.lm.resolve import resolve
from tests.data.build import row
from tests.support.project import write_rows

FOLDER = Path(__file__).parents[2] / "examples" / "plugin_filter"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package with its dist-info, made from its pyproject.toml."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    place = tmp_path / "site"
    info = place / "nexa_shouting-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(FOLDER / "nexa_shouting.py", place)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"]["nexa.filter"]
    lines = [f"{name} = {value}\n" for name, value in points.items()]
    (info / "entry_points.txt").write_text("[nexa.filter]\n" + "".join(lines))
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "nexa_shouting", raising=False)


def test_it_is_a_filter_like_any_other() -> None:
    assert "shouting" in FILTERS
    told = [entry for entry in described() if entry.name == "shouting"]
    assert [(entry.does, entry.default) for entry in told] == [
        ("Leaves out answers in capitals, or writes them in small letters.", False)
    ]


def test_it_leaves_rows_out_or_mends_them() -> None:
    rows = [row("Why?", "Because."), row("Why?", "BECAUSE I SAY SO.")]
    kept, dropped = FILTERS["shouting"]({})(rows)
    assert kept is None
    assert dropped is not None
    assert (dropped.reason, dropped.content) == ("shouting", None)
    kept, calmed = FILTERS["shouting"]({"action": "calm"})(rows)
    assert kept is None
    assert calmed is not None
    assert calmed.content is not None
    assert calmed.content.messages[-1]["content"] == "Because i say so."


def test_its_options_are_checked_with_the_rest_of_the_configuration() -> None:
    text = "model: {path: m}\ndata:\n  train_path: x\n  filters: [{shouting: {action: hide}}]\n"
    with pytest.raises(ConfigError, match=r"line 4: data\.filters\.shouting: shouting takes one"):
        parse_config(text)


def test_rows_go_through_it(tmp_path: Path, tiny_llama: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"prompt": "Why?", "completion": c} for c in ("BECAUSE.", "It is so.")])
    spec = PrepareSpec(
        "rows", sources_of(path), resolve(str(tiny_llama)), filters=specs(["shouting"])
    )
    draft = prepare(spec, store=Store(tmp_path / "store"))
    assert draft.body.dropped == {"shouting": 1}
