"""Files in, rows out: one loader a file type, by the file's suffix, `.gz` of it or not.

A loader takes a path and the name that rows are to carry, and yields `rows.Line`s as it reads. It
never skips one: a row that cannot be read comes with its problem. A package adds a loader with an
entry point in the group `nexa.loader`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from nexa.core.plugins import Registry
from nexa.data.loaders.json_list import read_json
from nexa.data.loaders.jsonl import count_jsonl, read_jsonl
from nexa.data.loaders.parquet import count_parquet, read_parquet
from nexa.data.loaders.table import read_csv, read_tsv
from nexa.data.loaders.text import read_markdown, read_text
from nexa.data.rows import Line

Loader = Callable[[Path, str], Iterator[Line]]

LOADERS: Registry[Loader] = Registry(
    "loader",
    {
        "jsonl": read_jsonl,
        "ndjson": read_jsonl,
        "json": read_json,
        "csv": read_csv,
        "tsv": read_tsv,
        "parquet": read_parquet,
        "txt": read_text,
        "md": read_markdown,
    },
)
# Of these rows can be counted without being parsed.
_COUNTERS: dict[Loader, Callable[[Path], int]] = {
    read_jsonl: count_jsonl,
    read_parquet: count_parquet,
}
PROSE = ("txt", "md")  # in a folder with rows such files are notes about them


def loader_for(path: Path) -> Loader:
    """The loader of a file's suffix; a file of another suffix is read as JSON lines."""
    suffix = suffix_of(path)
    return LOADERS[suffix] if suffix in suffixes() else read_jsonl


def suffix_of(path: Path) -> str:
    """A file's type by its name: `rows.csv.gz` -> `csv`."""
    name = path.name.lower()
    return name.removesuffix(".gz").rpartition(".")[2]


def suffixes() -> frozenset[str]:
    """Every suffix that has a loader."""
    return frozenset(LOADERS.names())


def counter_for(path: Path) -> Callable[[Path], int] | None:
    """How a file's rows are counted without parsing them; None where they have to be."""
    return _COUNTERS.get(loader_for(path))
