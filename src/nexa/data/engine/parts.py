"""Sources, cut into parts that one process reads at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nexa.data.loaders import loader_for
from nexa.data.loaders.jsonl import Stretch, read_jsonl, read_stretch, stretches
from nexa.data.loaders.parquet import Groups, groups_of, read_groups, read_parquet
from nexa.data.loaders.unpacking import packing_of
from nexa.data.rows import Line
from nexa.data.sources import Source, check_same

PART_BYTES = 8 << 20  # some seconds of work: short enough that no process waits long at the end


@dataclass(frozen=True)
class Part:
    """What is read at once: a file, a stretch of one, or rows of a sealed dataset.

    `number` is its place among all parts: their rows follow each other in this order.
    """

    number: int
    name: str
    path: Path
    shape: str = ""
    stretch: Stretch | Groups | None = None
    sealed: bool = False
    settled: bool = False
    """Whether its rows have their splits already."""
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.name if self.stretch is None else f"{self.name}, {self.stretch}"


def parts_of(sources: Sequence[tuple[Source, str]], part_bytes: int = PART_BYTES) -> Iterator[Part]:
    """The parts of sources, each of which is given with its shape.

    Raises:
        DataError: a file cannot be read.
        IntegrityError: a file is not the one that the recipe names.
    """
    number = 0
    for source, shape in sources:
        check_same(source)
        for stretch in _stretches(source.path, part_bytes):
            yield Part(number, source.name, source.path, shape, stretch)
            number += 1


def read_part(part: Part) -> Iterator[Line]:
    """The lines of a part of a source.

    Raises:
        DataError: the file cannot be read.
    """
    if isinstance(part.stretch, Stretch):
        return read_stretch(part.path, part.name, part.stretch)
    if isinstance(part.stretch, Groups):
        return read_groups(part.path, part.name, part.stretch)
    return loader_for(part.path)(part.path, part.name)


def _stretches(path: Path, part_bytes: int) -> Iterator[Stretch | Groups | None]:
    """Lines and row groups can be read from anywhere in a file, all else from its beginning."""
    loader = loader_for(path)
    if packing_of(path) is None and loader is read_jsonl:
        yield from stretches(path, part_bytes)
    elif packing_of(path) is None and loader is read_parquet:
        yield from groups_of(path, part_bytes)
    else:
        yield None
