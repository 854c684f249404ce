"""What becomes of a part: read, filtered, measured, and written where all parts are compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from nexa.core.errors import TemplateError
from nexa.data.engine.parts import Part, read_part
from nexa.data.engine.stage import Measured, StageWriter, path_of
from nexa.data.filters import red_flags
from nexa.data.filters.base import FilterSpec, RowFilter
from nexa.data.filters.registry import FILTERS
from nexa.data.rows import Content, Line, Reject, Row
from nexa.data.schemas import SCHEMAS
from nexa.data.sources import row_of
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer

BATCH_ROWS = 512
MOST_SHOWN = 3  # rejects that an error shows


@dataclass(frozen=True)
class Job:
    """What is done with every part, in whichever process."""

    model: ModelFiles
    folder: Path
    filters: tuple[FilterSpec, ...] = ()
    unflagged: red_flags.Whose = "nobody"  # whose answers may hold no red flag


@dataclass
class Done:
    """A part that was read. `rejects` are counted by reason, `shown` are the first of them."""

    part: Part
    read: int = 0
    rows: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    """The names of the files that its rows come from."""


class Stager:
    """Reads parts, one after another, in one process."""

    def __init__(self, job: Job, template: ChatTemplate | None = None) -> None:
        self._job = job
        self._template = template

    def read(self, part: Part, advance: Callable[[int], None]) -> Done:
        """Write a part's files; `advance` is told how many rows were read since the last time.

        Raises:
            DataError: its file cannot be read.
        """
        done = Done(part)
        folder = self._job.folder
        with (
            StageWriter(folder, part.number) as stage,
            path_of(folder, part.number, "rejects").open("wb") as file,
        ):
            rest = _sealed(part, done) if part.sealed else _read(part, done)
            while batch := list(islice(rest, BATCH_ROWS)):
                rows, rejects = self._filtered(batch, part)
                self._measure(rows)
                stage.add(rows)
                _reject(rejects, done, file)
                done.read += len(batch)
                done.rows += len(rows)
                advance(len(batch))
        return done

    def _filtered(
        self, batch: Sequence[Measured | Reject], part: Part
    ) -> tuple[list[Measured], list[Reject]]:
        """The rows of a batch that every filter passes, as it passes them; rejects in order."""
        items = list(batch)
        for row_filter in self._filters if not part.settled else ():
            at = [i for i, item in enumerate(items) if isinstance(item, Measured)]
            rows = [item.row for item in items if isinstance(item, Measured)]
            for index, row, verdict in zip(at, rows, row_filter(rows), strict=True):
                item = items[index]
                if verdict is None or isinstance(item, Reject):
                    continue
                if verdict.content is None:
                    items[index] = Reject(row.line, verdict.reason, verdict.detail)
                    continue
                item.mended = tuple(dict.fromkeys([*item.mended, verdict.reason]))
                item.row = Row(row.line, verdict.content)
        kept = [item for item in items if isinstance(item, Measured)]
        return kept, [item for item in items if isinstance(item, Reject)]

    def _measure(self, items: Sequence[Measured]) -> None:
        lengths = self.template.lengths(item.row.content.messages for item in items)
        for item, length in zip(items, lengths, strict=True):
            if isinstance(length, TemplateError):
                item.refused = _why(length)
            else:
                item.length = length

    @property
    def template(self) -> ChatTemplate:
        """The chat template that rows are measured by."""
        if self._template is None:
            self._template = ChatTemplate(load_tokenizer(self._job.model))
        return self._template

    @cached_property
    def _filters(self) -> list[RowFilter]:
        asked = [spec.make(FILTERS) for spec in self._job.filters]
        # Last, on the rows as they would be kept.
        whose = self._job.unflagged
        return asked if whose == "nobody" else [*asked, red_flags.make(whose)]


def _read(part: Part, done: Done) -> Iterator[Measured | Reject]:
    """The rows of a part of a source."""
    shape = SCHEMAS[part.shape]
    known = frozenset(shape.known)
    done.files = [part.name]
    for line in read_part(part):
        if line.data is not None:
            done.unused.update(line.data.keys() - known)
        item = row_of(line, shape)
        yield item if isinstance(item, Reject) else Measured(item)


def _sealed(part: Part, done: Done) -> Iterator[Measured | Reject]:
    """The rows of a sealed dataset, as `sealed.unsealed` laid them out."""
    files: dict[str, int] = {}
    with pa.OSFile(str(part.path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            for record in reader.get_batch(number).to_pylist():
                row = _again(record, part)
                yield Measured(
                    row,
                    mended=tuple(record["mended"] or ()),
                    placed=(record["split"], record["cluster"]) if part.settled else None,
                    file=files.setdefault(row.line.file, len(files)),
                )
    done.files = list(files)


def _again(record: dict[str, Any], part: Part) -> Row:
    """A row as it was when it was placed: what it had no id or group for, it has none for now."""
    labels = {name: record[name] for name in ("domain", "source", "quality_score")}
    line = Line.at(record["origin"], record["sha256"])
    line = replace(line, file=part.renamed.get(line.file, line.file))
    row = Row(line, Content(tuple(record["messages"]), **labels))
    if record["row_id"] != row.row_id:
        row = Row(line, replace(row.content, id=record["row_id"]))
    if record["group"] != row.group:
        row = Row(line, replace(row.content, group=record["group"]))
    return row


def _reject(rejects: Sequence[Reject], done: Done, file: IO[bytes]) -> None:
    for item in rejects:
        done.rejects[item.reason] += 1
        if len(done.shown) < MOST_SHOWN:
            done.shown.append(f"{item.line.origin}: {item.detail}")
        file.write(json.dumps(item.to_json(), ensure_ascii=False).encode() + b"\n")


def _why(error: TemplateError) -> str:
    return error.what + (f" ({error.found})" if error.found else "")
