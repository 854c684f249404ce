"""Which file of a data folder is trained on, which one is held out, and which are left alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import DataError
from nexa.data.detect import Detection, detect
from nexa.data.hub_names import parse_hub
from nexa.data.rows import Row
from nexa.data.sources import Source, files_of, read_source
from nexa.lm import hub
from nexa.lm.plain_text import is_text, question_of

# By the first word of a file's name. Held-out files are taken in this order.
HELD_OUT = ("eval", "test", "valid", "validation", "val", "dev")
LEFT_OUT = ("pool",)  # unused labelled rows, for a later round of improvement
EVAL_FRACTION = 0.1
ANSWERS_READ = 1000


@dataclass(frozen=True)
class Place:
    """Where rows lie on this machine; `folder` is that of the Hub dataset they came from."""

    path: Path
    dataset: str | None = None
    folder: Path | None = None

    def name_of(self, file: Path) -> str | None:
        """How config.yaml names a file of a Hub dataset; None for any other file."""
        if self.folder is None:
            return None
        return f"{self.dataset}/{file.relative_to(self.folder).as_posix()}"


@dataclass(frozen=True)
class DataFiles:
    """What a data path holds. `left_out` has the files that are not used, with the reason.

    Without a `held_out` file `eval_rows` is the share of the rows that is set aside, and
    `train_rows` are the others. `longest_answer` and `row_bytes`, the mean of a row's text, are in
    bytes of UTF-8.
    """

    train: Path
    format: str
    train_rows: int
    held_out: Path | None
    eval_rows: int
    longest_answer: int
    left_out: tuple[tuple[Path, str], ...] = ()
    row_bytes: float = 0.0
    detection: Detection | None = None

    @property
    def rows(self) -> int:
        """The rows of the training file."""
        return self.train_rows if self.held_out else self.train_rows + self.eval_rows


def place_of(reference: str | Path, root: Path = Path()) -> Place:
    """Where rows lie: a path as seen from `root`, else a Hub dataset or a file of one, fetched.

    A path that exists wins; so does one whose folder does, or that ends as a data file does: a
    mistyped path is never asked of the Hub.

    Raises:
        DataError: the Hub has no such dataset, or the dataset no such file.
        NetworkError: the Hub cannot be reached and its cache does not have the dataset.
    """
    named = parse_hub(reference, root)
    if named is None:
        return Place(root / Path(reference).expanduser())
    folder = hub.fetch_dataset(named.id, revision=named.revision)
    found = folder / named.file if named.file else _with_files(folder)
    if not found.exists():
        raise DataError(f"the Hub dataset {named.reference} has no file {named.file}")
    return Place(found, named.reference, folder)


def hub_dataset(reference: str | Path, root: Path = Path()) -> tuple[str, str] | None:
    """(dataset, file or nothing) where a reference can only mean a dataset of the Hub."""
    named = parse_hub(reference, root)
    return None if named is None else (named.id, named.file)


def _with_files(folder: Path) -> Path:
    """The one folder in it that has the data files: the Hub's usual place is data/."""
    inner = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return _with_files(inner[0]) if len(inner) == 1 and inner[0].is_dir() else folder


def data_files(path: Path, eval_fraction: float = EVAL_FRACTION) -> DataFiles:
    """The parts of a file or a folder, told apart by name, looked into and counted.

    Without a held-out file `eval_fraction` of the rows is set aside.

    Raises:
        DataError: nothing is there, which file to train on cannot be told, or it has no row of a
            known shape.
    """
    train, held_out, left_out = roles(path)
    found = detect(train)
    longest, mean = _text_bytes(held_out or train, found.format)
    if held_out is None:
        aside = round(found.rows * eval_fraction)
        if aside == 0:
            raise DataError(
                f"{train} has too few rows to set some aside for evaluation",
                found=f"{found.rows} rows",
                fix="add rows, or put an eval.jsonl beside it and give the folder",
            )
        return DataFiles(
            train, found.format, found.rows - aside, None, aside, longest, left_out, mean, found
        )
    held = detect(held_out)
    format_ = found.format if held.format == found.format else "auto"
    return DataFiles(
        train, format_, found.rows, held_out, held.rows, longest, left_out, mean, found
    )


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
        if _word(p, path) in (*HELD_OUT, *LEFT_OUT)
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


def roles(path: Path) -> tuple[Path, Path | None, tuple[tuple[Path, str], ...]]:
    """The training file, the held-out one if there is one, and the rest with the reason."""
    files = files_of(path)
    if path.is_file():
        return path, None, ()
    words = {p: _word(p, path) for p in files}
    pool = [p for p in files if words[p] in LEFT_OUT]
    held_out = sorted(
        (p for p in files if words[p] in HELD_OUT), key=lambda p: HELD_OUT.index(words[p])
    )
    train = _train_file(path, [p for p in files if p not in pool and p not in held_out])
    left_out = [(p, "a pool of rows for later rounds") for p in pool]
    left_out += [(p, f"{held_out[0].name} is held out already") for p in held_out[1:]]
    used = {train, *held_out, *pool}
    left_out += [(p, f"{train.name} is the training file") for p in files if p not in used]
    return train, held_out[0] if held_out else None, tuple(left_out)


def _train_file(folder: Path, candidates: list[Path]) -> Path:
    """The one file to train on: the only one, or the only one named `train`."""
    named = [p for p in candidates if _word(p, folder) == "train"]
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


def _word(path: Path, folder: Path) -> str:
    """The first word of a file's name: `valid_2.jsonl` -> `valid`.

    Where it says nothing, that of the folder it lies in below `folder`: `test/0000.parquet`.
    """
    names = [path.name, *(p.name for p in path.parents if folder in p.parents)]
    words = [re.split(r"[._-]", name.lower())[0] for name in names]
    return next((word for word in words if word in ("train", *HELD_OUT, *LEFT_OUT)), words[0])


def _answer_bytes(messages: Sequence[Mapping[str, str]]) -> int:
    """Bytes of what the last turn has to say; of a plain text, its continuation."""
    answer = messages[-1]["content"]
    return len((question_of(answer)[1] if is_text(messages) else answer).encode())


def _text_bytes(path: Path, shape: str) -> tuple[int, float]:
    """Of the file's first rows: bytes of the longest answer, and of a row's text on average."""
    rows = itertools.islice(read_source(Source.of(path), shape), ANSWERS_READ)
    turns = [row.content.messages for row in rows if isinstance(row, Row)]
    sizes = [[len(turn["content"].encode()) for turn in messages] for messages in turns]
    longest = max(map(_answer_bytes, turns), default=0)
    return longest, sum(map(sum, sizes)) / max(1, len(sizes))
