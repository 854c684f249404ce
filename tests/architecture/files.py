"""Which files the tests of the architecture look at: the project's own text, wherever it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "nexa"
FOLDERS = ("src", "tests", "benchmarks", "examples", "scripts", "docs", ".ci")
TEXT = {".py", ".md", ".toml", ".sh", ".yaml", ".yml", ".json", ".jsonl", ".html", ".css", ".txt"}


def python_files() -> list[Path]:
    """Every Python file of the project."""
    return [path for path in text_files() if path.suffix == ".py"]


def text_files() -> list[Path]:
    """Every text file of the project."""
    return sorted(set(_walk()))


def _walk() -> Iterator[Path]:
    for path in ROOT.iterdir():
        if path.is_file() and (path.suffix in TEXT or path.name in ("Makefile", "Dockerfile")):
            yield path
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and (path.suffix in TEXT or folder == ".ci"):
                yield path
