from __future__ import annotations

import ast
import re

from tests.architecture.files import ROOT, SOURCE, text_files

# A secret that one of these is given would be written to the disk.
LOGINS = re.compile(r"\b(huggingface_hub|wandb)\.login\b|\bset_password\(|import login\b")
# /home/me is nobody's: tests use it to show that such paths do not leave a machine.
MACHINE = re.compile(r"(?<![\w.~])/(?:home/(?!me/)|root/|Users/|opt/)[\w.]")
REGISTRY = re.compile(r"--(?:extra-)?index[-]url|--find[-]links|://\S+/simpl[e]\b|pythonhosted")


def lines_with(pattern: re.Pattern[str], names: list[str]) -> list[str]:
    """`file:line` of every match, but in the tests that look for it."""
    found = []
    for path in text_files():
        name = str(path.relative_to(ROOT))
        if name.startswith(tuple(names)) and path.name != "test_words.py":
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if pattern.search(line):
                    found.append(f"{name}:{number}")
    return found


def test_nothing_logs_in_for_good() -> None:
    assert lines_with(LOGINS, ["src", "scripts", "examples", "benchmarks"]) == []


def test_nothing_names_a_path_of_a_machine() -> None:
    assert lines_with(MACHINE, [""]) == []


def test_nothing_names_a_package_registry() -> None:
    assert lines_with(REGISTRY, [""]) == []


def test_layers_print_nothing() -> None:
    printing = []
    for path in SOURCE.rglob("*.py"):
        if path.parent.name == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "print",
                "click.echo",
                "sys.stdout.write",
                "sys.stderr.write",
            ):
                printing.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert printing == []


def test_nothing_is_unpickled_and_no_code_of_a_model_runs_unasked() -> None:
    risky = re.compile(r"\bpickle\.load|\btorch\.load\(|trust_remote_code\s*=\s*True")
    assert lines_with(risky, ["src", "examples", "orchestrate.py"]) == []
