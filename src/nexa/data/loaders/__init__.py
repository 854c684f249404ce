"""Files in, rows out: one loader a file type, by the file's suffix; packed (.gz, .zst) or not.

A loader takes a path and the name that rows are to carry, and yields `rows.Line`s as it reads. It
never skips one: a row that cannot be read comes with its problem. A package adds a loader with an
entry point in the group `nexa.loader`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from nexa.core.plugins import Registry
from nexa.data.loaders.arrow import count_arrow, read_arrow
from nexa.data.loaders.json_list import read_json
from nexa.data.loaders.jsonl import count_jsonl, read_jsonl
from nexa.data.loaders.parquet import count_parquet, read_parquet
from nexa.data.loaders.pdf import read_pdf
from nexa.data.loaders.table import read_csv, read_tsv
from nexa.data.loaders.text import read_markdown, read_text
from nexa.data.loaders.unpacking import plain_name
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
        "arrow": read_arrow,
        "feather": read_arrow,
        "ipc": read_arrow,
        "pdf": read_pdf,
        "txt": read_text,
        "md": read_markdown,
    },
)
# Of these rows can be counted without being parsed.
_COUNTERS: dict[Loader, Callable[[Path], int]] = {
    read_jsonl: count_jsonl,
    read_parquet: count_parquet,
    read_arrow: count_arrow,
}
PROSE = ("txt", "md", "pdf")  # in a folder with rows such files are notes about them


def loader_for(path: Path) -> Loader:
    """The loader of a file's suffix; a file of another suffix is read as JSON lines."""
    suffix = suffix_of(path)
    return LOADERS[suffix] if suffix in suffixes() else read_jsonl


def suffix_of(path: PurePath) -> str:
    """A file's type by its name: `rows.csv.gz` -> `csv`."""
    return plain_name(path.name).lower().rpartition(".")[2]


def suffixes() -> frozenset[str]:
    """Every suffix that has a loader."""
    return frozenset(LOADERS.names())


def counter_for(path: Path) -> Callable[[Path], int] | None:
    """How a file's rows are counted without parsing them; None where they have to be."""
    return _COUNTERS.get(loader_for(path))
