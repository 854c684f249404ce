"""Which file of a data folder is trained on, which one is held out, and which are left alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath

from nexa.core.errors import DataError
from nexa.data import remote
from nexa.data.detect import Detection, detect
from nexa.data.globs import alternatives, files_by, folder_of, is_pattern
from nexa.data.hub_names import HubData, origin_of, parse_hub
from nexa.data.loaders.unpacking import plain_name
from nexa.data.rows import Row
from nexa.data.sources import Source, files_of, names_of, read_source
from nexa.lm import hub
from nexa.lm.plain_text import is_text, question_of

# Names that say nothing about what the rows are: the folder's name does.
PLAIN_NAMES = ("train", "training", "data")
# By the first word of a file's name. Held-out files are taken in this order.
HELD_OUT = ("eval", "test", "valid", "validation", "val", "dev")
LEFT_OUT = ("pool",)  # unused labelled rows, for a later round of improvement
SPLIT_WORDS = ("train", *HELD_OUT, *LEFT_OUT)
# Numbered parts of one file: train-00000-of-00003.parquet (a digest behind it or not), part-7.csv,
# train-00001.jsonl, 0000.parquet.
_SHARDS = (
    re.compile(r"(.*?)\d+(-of-\d+)(-[0-9a-f]{8,})?(\..+)"),
    re.compile(r"(.*?(?:part|shard)[._-]?)\d+()()(\..+)", re.IGNORECASE),
    re.compile(r"(.*[._-])\d{5,}()()(\..+)"),
    re.compile(r"()\d{4,}()()(\..+)"),
)
MOST_NAMED = 20  # configurations that an error lists
EVAL_FRACTION = 0.1
ANSWERS_READ = 1000


@dataclass(frozen=True)
class Place:
    """Where rows lie on this machine: a file, a folder, or a pattern of files.

    Of rows that were fetched, `folder` is where they lie, and `dataset` how config.yaml names it:
    a Hub dataset, or an address.
    """

    path: Path
    dataset: str | None = None
    folder: Path | None = None

    def name_of(self, file: Path) -> str | None:
        """How config.yaml names a file that was fetched; None for any other file."""
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
    """Where rows lie: a path or a pattern as seen from `root`, else an address or a Hub dataset.

    What lies elsewhere is fetched. A path that exists wins; so does one whose folder does, or that
    ends as a data file does: a mistyped path is never asked of the Hub.

    Raises:
        DataError: nothing of this name is there; or a Hub dataset has several configurations.
        AccessError: no credentials that were found open it.
        MissingExtra: the driver of such an address is not installed.
        NetworkError: it cannot be reached, and the cache does not have it.
    """
    address = remote.address_of(reference)
    if address is not None:
        local = remote.local_path(address)
        if local is not None:
            return Place(local)
        fetched = remote.fetch(address)
        return Place(fetched.path, fetched.base, fetched.folder)
    named = parse_hub(reference, root)
    return _on_hub(named) if named else Place(root / Path(reference).expanduser())


def name_of_data(reference: str, root: Path = Path()) -> str:
    """What rows are called: by their dataset or file, or by its folder if that says no more."""
    named = parse_hub(reference, root)
    if named is not None:
        return named.id
    address = remote.address_of(reference)
    path = Path(remote.shown(address)) if address else (root / Path(reference).expanduser())
    if address is None and is_pattern(path):
        path = folder_of(path)
    elif address is not None and is_pattern(path.name):
        path = path.parent
    path = path if address else path.resolve()
    if path.is_dir():
        return path.name
    stem = Path(plain_name(path.name)).stem
    return path.parent.name if stem in PLAIN_NAMES else stem


def named_files(references: Sequence[str], root: Path = Path()) -> list[tuple[Path, str]]:
    """All files of several references, fetched where they lie elsewhere, with their names.

    Raises:
        DataError: one of them leads to nothing, and what else `place_of` raises.
    """
    files = [file for one in references for file in files_of(place_of(one, root).path)]
    unique = list(dict.fromkeys(files))
    named = zip(unique, names_of(unique), strict=True)
    return [(file, origin_of(file) or name) for file, name in named]


def _on_hub(named: HubData) -> Place:
    """A dataset of the Hub, fetched: its one folder with rows, or the files that are named."""
    if named.file:
        inside = alternatives(named.file)
        folder = hub.fetch_dataset(named.id, revision=named.revision, inside=inside)
        found = folder / named.file
        if not found.exists() and not is_pattern(found):
            raise DataError(f"the Hub dataset {named.reference} has no file {named.file}")
        return Place(found, named.reference, folder)
    names = hub.dataset_names(named.id, revision=named.revision)
    _require_one_configuration(names or [], named)
    folder = hub.fetch_dataset(named.id, revision=named.revision)
    below = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    _require_one_configuration(below, named)
    return Place(_with_files(folder), named.reference, folder)


def _require_one_configuration(names: Sequence[str], named: HubData) -> None:
    """Refuse folders that are no splits: they are configurations, rows of different kinds.

    Raises:
        DataError: there are several; lists them.
    """
    files = [PurePosixPath(name) for name in names if hub.is_data(name)]
    within = PurePosixPath()
    while len({path.parts[0] for path in files}) == 1 and all(len(p.parts) > 1 for p in files):
        within /= files[0].parts[0]
        files = [path.relative_to(path.parts[0]) for path in files]
    if any(len(path.parts) == 1 for path in files):
        return
    found = sorted({path.parts[0] for path in files})
    configurations = [name for name in found if _first_word(name) not in SPLIT_WORDS]
    if len(configurations) > 1:
        raise DataError(
            f"the Hub dataset {named.reference} has {len(configurations)} configurations",
            found=_listed(configurations),
            fix=f"name one of them: {named.reference}/{within / configurations[0]}",
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


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

    A file or a pattern that is given is taken whatever its names are, but for held-out files.

    Raises:
        DataError: nothing is there, or nothing but held-out rows.
    """
    files = files_of(path)
    if path.is_file():
        return files, []
    held = _resolved(held_out) if held_out is not None and held_out != path else set()
    words = () if is_pattern(path) else (*HELD_OUT, *LEFT_OUT)
    kept_back = [p for p in files if _word(p, path) in words or p.resolve() in held]
    train = [p for p in files if p not in kept_back]
    if not train:
        raise DataError(
            f"{path} has no file to train on",
            found=", ".join(p.name for p in kept_back),
            fix="give the file: data.train_path: FOLDER/FILE",
        )
    return train, kept_back


def _resolved(held_out: Path) -> set[Path]:
    """The held-out files; none where they are not there, which is told where they are read."""
    there = held_out.exists() or is_pattern(held_out)
    return {path.resolve() for path in files_of(held_out)} if there else set()


def roles(path: Path) -> tuple[Path, Path | None, tuple[tuple[Path, str], ...]]:
    """The training file, the held-out one if there is one, and the rest with the reason.

    Where a split lies in several files (`train-00000-of-00003.parquet`), it is their pattern.
    """
    if path.is_file() or is_pattern(path):
        return path, None, ()
    files = files_of(path)
    words = {p: _word(p, path) for p in files}
    pool = [p for p in files if words[p] in LEFT_OUT]
    held_out = sorted(
        (p for p in files if words[p] in HELD_OUT), key=lambda p: HELD_OUT.index(words[p])
    )
    train, chosen = _train_file(path, [p for p in files if p not in pool and p not in held_out])
    taken, held = held_out[:1], None
    if held_out:
        first = [p for p in held_out if words[p] == words[held_out[0]]]
        held = _shards(first)
        taken = first if held else taken
        held = held or held_out[0]
    left_out = [(p, "a pool of rows for later rounds") for p in pool]
    left_out += [(p, f"{taken[0].name} is held out already") for p in held_out if p not in taken]
    used = {*chosen, *held_out, *pool}
    left_out += [(p, f"{train.name} is the training file") for p in files if p not in used]
    return train, held, tuple(left_out)


def _train_file(folder: Path, candidates: list[Path]) -> tuple[Path, list[Path]]:
    """What to train on, and the files it is: the only one, or the only one named `train`."""
    named = [p for p in candidates if _word(p, folder) == "train"]
    chosen = named or candidates
    shards = _shards(chosen)
    if shards is not None:
        return shards, chosen
    if not chosen:
        raise DataError(
            f"{folder} has no file to train on",
            found=", ".join(sorted(p.name for p in folder.iterdir())[:8]),
            fix=f"name it train.jsonl, or give the file: --data {folder}/FILE",
        )
    raise DataError(
        f"{folder} has {len(chosen)} files that could be trained on",
        found=", ".join(p.name for p in chosen[:8]),
        fix=f"give one of them: --data {chosen[0]}\nor all: --data '{folder}/*{chosen[0].suffix}'",
    )


def _shards(files: Sequence[Path]) -> Path | None:
    """One file, or the pattern of several that are the numbered parts of one; else None.

    The pattern names these files and no others.
    """
    if len(files) == 1:
        return files[0]
    patterns = {_shard_pattern(path) for path in files}
    pattern = patterns.pop() if len(patterns) == 1 else None
    return pattern if pattern and files_by(pattern) == sorted(files) else None


def _shard_pattern(path: Path) -> Path | None:
    """The pattern of a file and its sisters, if its name says that it is a numbered part."""
    found = next((m for shape in _SHARDS if (m := shape.fullmatch(path.name))), None)
    if found is None:
        return None
    before, of, digest, after = found.groups()
    name = f"{escape(before)}*{of}{'-*' if digest else ''}{escape(after)}"
    return Path(escape(str(path.parent))) / name


def _word(path: Path, folder: Path) -> str:
    """The first word of a file's name: `valid_2.jsonl` -> `valid`.

    Where it says nothing, that of the folder it lies in below `folder`: `test/0000.parquet`.
    """
    names = [path.name, *(p.name for p in path.parents if folder in p.parents)]
    words = [_first_word(name) for name in names]
    return next((word for word in words if word in SPLIT_WORDS), words[0])


def _first_word(name: str) -> str:
    return re.split(r"[._-]", name.lower())[0]


def _answer_bytes(messages: Sequence[Mapping[str, str]]) -> int:
    """Bytes of what the last turn has to say; of a plain text, its continuation."""
    answer = messages[-1]["content"]
    return len((question_of(answer)[1] if is_text(messages) else answer).encode())


def _text_bytes(path: Path, shape: str) -> tuple[int, float]:
    """Of the file's first rows: bytes of the longest answer, and of a row's text on average."""
    first = files_of(path)[0]
    rows = itertools.islice(read_source(Source.of(first), shape), ANSWERS_READ)
    turns = [row.content.messages for row in rows if isinstance(row, Row)]
    sizes = [[len(turn["content"].encode()) for turn in messages] for messages in turns]
    longest = max(map(_answer_bytes, turns), default=0)
    return longest, sum(map(sum, sizes)) / max(1, len(sizes))
