"""Data files that lie here and below: what the guided flow offers by number.

Only files whose first rows have a known shape are offered, so a project's other JSON and CSV are
not. Hidden folders, what Nexa writes, installed packages and model folders are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import DataError
from nexa.data.loaders import PROSE, suffix_of, suffixes
from nexa.data.sources import files_of, tell_shape
from nexa.orchestrate.data_files import roles

PASSED_OVER = ("output", "runs", "node_modules", "venv", "env", "site-packages", "__pycache__")
# A folder with one of these is a model's: its JSON files are no rows.
MODEL_MARKS = ("tokenizer.json", "tokenizer_config.json", "adapter_config.json", "pyvenv.cfg")
NOT_ROWS = ("readme", "license", "licence", "notice", "requirements", "changelog", "authors")
MOST_DEPTH = 3
MOST_FOLDERS = 500
MOST_LOOKED_AT = 60
MOST_OFFERS = 9


@dataclass(frozen=True)
class DataOffer:
    """A file or a folder that can be chosen by number, and what it holds."""

    path: str
    reason: str


def data_offers(project: Path) -> list[DataOffer]:
    """Folders with a held-out file first, then single files, then prose; the nearest first."""
    whole: list[DataOffer] = []
    single: list[DataOffer] = []
    prose: list[DataOffer] = []
    looked_at = 0
    for folder, files in _folders(project):
        split = _split(folder, files)
        if split is not None:
            whole.append(DataOffer(_shown(folder, project), split))
            continue
        for file in files:
            if looked_at == MOST_LOOKED_AT:
                break
            looked_at += 1
            shape = _shape(file)
            if shape is not None:
                kept = prose if suffix_of(file) in PROSE else single
                kept.append(DataOffer(_shown(file, project), shape))
    return [*whole, *single, *prose][:MOST_OFFERS]


def can_be_shown(name: str) -> bool:
    """Whether a name is plain text: no control characters, no bytes that are not UTF-8."""
    return name.isprintable()


def _folders(project: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder that is looked into, with its data files by name; the upper ones first."""
    waiting = [project]
    for _ in range(MOST_FOLDERS):
        if not waiting:
            return
        folder = waiting.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:  # not ours to read: nothing to offer from there
            continue
        entries = [entry for entry in entries if _is_plain(entry.name)]
        names = {entry.name for entry in entries}
        if names & set(MODEL_MARKS):
            continue
        files = [Path(entry.path) for entry in entries if entry.is_file()]
        yield folder, [path for path in files if _could_be_rows(path)]
        if len(folder.relative_to(project).parts) < MOST_DEPTH:
            waiting += [
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and entry.name not in PASSED_OVER
            ]


def _is_plain(name: str) -> bool:
    return can_be_shown(name) and not name.startswith(".")


def _could_be_rows(path: Path) -> bool:
    word = path.name.lower().partition(".")[0]
    return suffix_of(path) in suffixes() and not word.startswith(NOT_ROWS)


def _split(folder: Path, files: list[Path]) -> str | None:
    """What a folder holds that has a training file and a held-out one; None for any other."""
    if len(files) < 2:
        return None
    try:
        train, held_out, _ = roles(folder)
    except DataError:
        return None
    shape = _shape(files_of(train)[0])
    if held_out is None or shape is None:
        return None
    return f"{shape}, {train.name}; held out: {held_out.name}"


def _shape(path: Path) -> str | None:
    """The name of the shape of a file's rows, or None where they have none."""
    try:
        return tell_shape(path)[0]
    except DataError:
        return None


def _shown(path: Path, project: Path) -> str:
    inside = path.relative_to(project)
    return f"./{inside}" if inside.parts else "."
