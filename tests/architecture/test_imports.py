from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from nexa.cli.docs import contexts
from tests.architecture.files import ROOT, SOURCE

HEAVY = ["torch", "transformers", "pyarrow", "polars", "flask", "textual", "accelerate", "peft"]
# What --help can do without; each of these alone would cost a good part of its 150 ms.
SLOW = [*HEAVY, "huggingface_hub", "jinja2", "numpy", "pydantic", "rich", "ruamel", "scipy"]
COMMANDS = [context.command_path.split()[1:] for context in contexts()]


def loaded_by(code: str, watched: list[str]) -> list[str]:
    """Which of the watched packages a fresh interpreter has loaded after `code`."""
    tail = f"\nimport json, sys\nprint(json.dumps([m for m in {watched!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True
    )
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "nexa")
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = f"from nexa.cli.main import main\nassert main({[*words, '--help']!r}) == 0"
    assert loaded_by(code, SLOW) == []


def test_core_loads_nothing_heavy() -> None:
    modules = sorted(f"nexa.core.{path.stem}" for path in (SOURCE / "core").glob("[!_]*.py"))
    assert loaded_by("import " + ", ".join(modules), HEAVY) == []


def test_a_package_itself_loads_nothing_heavy() -> None:
    packages = sorted(f"nexa.{path.parent.name}" for path in SOURCE.glob("*/__init__.py"))
    assert loaded_by("import " + ", ".join(packages), HEAVY) == []


def test_the_layers_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_package_is_in_the_layers_contract_and_has_a_docstring() -> None:
    for folder in SOURCE.iterdir():
        if folder.is_dir() and any(folder.glob("*.py")):
            init = folder / "__init__.py"
            assert init.exists(), f"{folder.name} has no __init__.py"
            assert ast.get_docstring(ast.parse(init.read_text())), f"{folder.name}: no docstring"
