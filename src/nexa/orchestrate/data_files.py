"""Which file of a data folder is trained on, which one is held out, and which are left alone."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import DataError
from nexa.data.detect import detect
from nexa.data.rows import Row
from nexa.data.sources import Source, files_of, read_source

# By the first word of a file's name. Held-out files are taken in this order.
HELD_OUT = ("eval", "test", "valid", "validation", "val", "dev")
LEFT_OUT = ("pool",)  # unused labelled rows, for a later round of improvement
EVAL_FRACTION = 0.1
ANSWERS_READ = 1000


@dataclass(frozen=True)
class DataFiles:
    """What a data path holds. `left_out` has the files that are not used, with the reason.

    Without a `held_out` file `eval_rows` is the share of the rows that is set aside, and
    `train_rows` are the others. `longest_answer` is in bytes of UTF-8.
    """

    train: Path
    format: str
    train_rows: int
    held_out: Path | None
    eval_rows: int
    longest_answer: int
    left_out: tuple[tuple[Path, str], ...] = ()

    @property
    def rows(self) -> int:
        """The rows of the training file."""
        return self.train_rows if self.held_out else self.train_rows + self.eval_rows


def data_files(path: Path) -> DataFiles:
    """The parts of a file or a folder, told apart by name, looked into and counted.

    Raises:
        DataError: nothing is there, which file to train on cannot be told, or it has no row of a
            known shape.
    """
    train, held_out, left_out = _roles(path)
    found = detect(train)
    longest = _longest_answer(held_out or train, found.format)
    if held_out is None:
        aside = round(found.rows * EVAL_FRACTION)
        if aside == 0:
            raise DataError(
                f"{train} has too few rows to set some aside for evaluation",
                found=f"{found.rows} rows",
                fix="add rows, or put an eval.jsonl beside it and give the folder",
            )
        return DataFiles(train, found.format, found.rows - aside, None, aside, longest, left_out)
    held = detect(held_out)
    format_ = found.format if held.format == found.format else "auto"
    return DataFiles(train, format_, found.rows, held_out, held.rows, longest, left_out)


def training_files(path: Path, held_out: Path | None) -> tuple[list[Path], list[Path]]:
    """(the files that are trained on, those of the folder that are not): told apart by name.

    A file that is given is taken whatever its name is.

    Raises:
        DataError: nothing is there, or nothing but held-out rows.
    """
    files = files_of(path)
    if path.is_file():
        return files, []
    kept_back = [
        p
        for p in files
        if _word(p) in (*HELD_OUT, *LEFT_OUT)
        or (held_out is not None and held_out.exists() and p.samefile(held_out))
    ]
    train = [p for p in files if p not in kept_back]
    if not train:
        raise DataError(
            f"{path} has no file to train on",
            found=", ".join(p.name for p in kept_back),
            fix="give the file: data.train_path: FOLDER/FILE",
        )
    return train, kept_back


def _roles(path: Path) -> tuple[Path, Path | None, tuple[tuple[Path, str], ...]]:
    """The training file, the held-out one if there is one, and the rest with the reason."""
    files = files_of(path)
    if path.is_file():
        return path, None, ()
    pool = [p for p in files if _word(p) in LEFT_OUT]
    held_out = sorted(
        (p for p in files if _word(p) in HELD_OUT), key=lambda p: HELD_OUT.index(_word(p))
    )
    train = _train_file(path, [p for p in files if p not in pool and p not in held_out])
    left_out = [(p, "a pool of rows for later rounds") for p in pool]
    left_out += [(p, f"{held_out[0].name} is held out already") for p in held_out[1:]]
    used = {train, *held_out, *pool}
    left_out += [(p, f"{train.name} is the training file") for p in files if p not in used]
    return train, held_out[0] if held_out else None, tuple(left_out)


def _train_file(folder: Path, candidates: list[Path]) -> Path:
    """The one file to train on: the only one, or the only one named `train`."""
    named = [p for p in candidates if _word(p) == "train"]
    chosen = named or candidates
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise DataError(
            f"{folder} has no file to train on",
            found=", ".join(sorted(p.name for p in folder.iterdir())[:8]),
            fix=f"name it train.jsonl, or give the file: --data {folder}/FILE",
        )
    raise DataError(
        f"{folder} has {len(chosen)} files that could be trained on",
        found=", ".join(p.name for p in chosen[:8]),
        fix=f"give one of them: --data {chosen[0]}",
    )


def _word(path: Path) -> str:
    """The first word of a file's name: `valid_2.jsonl` -> `valid`."""
    return re.split(r"[._-]", path.name.lower())[0]


def _longest_answer(path: Path, shape: str) -> int:
    """Bytes of the longest answer among the file's first rows."""
    rows = itertools.islice(read_source(Source.of(path), shape), ANSWERS_READ)
    answers = (row.content.messages[-1]["content"] for row in rows if isinstance(row, Row))
    return max((len(answer.encode()) for answer in answers), default=0)
