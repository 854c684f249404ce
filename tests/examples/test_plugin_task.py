"""The example of a task and a metric in a package of its own, installed as far as Python knows."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import SuiteBody
from nexa.core.store import Store
from nexa.eval.suite import FreezeSpec, freeze
from nexa.eval.tasks.similarity import METRICS
from nexa.eval.tasks.table import TASKS, frozen_task, task_of
from tests.eval import made

FOLDER = Path(__file__).parents[2] / "examples" / "plugin_task"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package with its dist-info, made from its pyproject.toml."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    place = tmp_path / "site"
    info = place / "nexa_formula-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(FOLDER / "nexa_formula.py", place)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "nexa_formula", raising=False)


def test_they_are_found_like_any_other() -> None:
    assert "formula" in TASKS
    assert "brevity" in METRICS.names()
    with pytest.raises(EvalError, match="not what task 'formula' scores"):
        task_of(["H2O", "water"], "formula")


def test_answers_are_scored_by_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    held = made.dataset(store, {"eval": [made.row("r", "Ethanol?", "C2H6O")]}, "formulas")
    spec = FreezeSpec(name="f", task="formula", metrics=("brevity",))
    body: SuiteBody = freeze(spec, dataset=held, store=store).body
    assert body.metrics == ["same_atoms", "brevity"]
    assert body.definition is None
    grade = frozen_task(body).grader(["C2H6O"])
    assert grade("C2H5OH", "C2H6O").scores == {"same_atoms": 1, "brevity": 1}
    lost = grade("It is ethanol", "C2H6O")
    assert lost.scores == {"same_atoms": 0, "brevity": pytest.approx(1 / 3)}
    assert lost.detail == {"no_formula": 1}
