from __future__ import annotations

import ast

from tests.architecture.files import ROOT, python_files

MOST_LINES = 500
MOST_FUNCTION_LINES = 80


def test_no_file_is_over_500_lines() -> None:
    counts = {path: path.read_text().count("\n") for path in python_files()}
    assert [f"{p.relative_to(ROOT)} {n}" for p, n in counts.items() if n > MOST_LINES] == []


def test_no_function_is_over_80_lines() -> None:
    long = []
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MOST_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {length}")
    assert long == []
