"""From files of rows to a dataset that can be trained on: `prepare` is the story, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nexa.core.errors import DataError, FormatError, nearest
from nexa.core.events import emit, progress
from nexa.core.records import Artifact, DatasetBody, Draft, SuiteBody
from nexa.core.store import Store
from nexa.data import files
from nexa.data.filters.duplicates import drop_exact, drop_near
from nexa.data.filters.leaks import drop_leaks, read_suite
from nexa.data.filters.lengths import (
    Measured,
    choose_length,
    drop_long,
    measure,
    positions_of,
    quantiles,
)
from nexa.data.filters.split import Placed, place
from nexa.data.rows import Reject, Row
from nexa.data.schemas import SCHEMAS
from nexa.data.sources import MALFORMED, Source, read_source, tell_shape
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer


@dataclass(frozen=True)
class PrepareSpec:
    """What a dataset is made from, and how."""

    dataset_id: str
    sources: tuple[Source, ...]
    model: ModelFiles  # whose tokenizer and template the rows are measured with
    format: str = "auto"  # a shape's name; auto tells each file's from its rows
    max_length: int | None = None  # tokens a row may have; None takes it from the rows
    eval_fraction: float = 0.0  # share of the groups that is held out
    only_split: Literal["train", "eval"] | None = None  # the files are one split, all of them
    near_duplicates: Literal["drop", "keep"] = "drop"


def prepare(
    spec: PrepareSpec, *, suite: Artifact[SuiteBody] | None = None, store: Store
) -> Draft[DatasetBody]:
    """Read, deduplicate, decontaminate, measure and split rows.

    With a `suite`, rows that give one of its prompts away are left out. The draft's files are
    `<split>.parquet`, `lineage.jsonl` and `rejects.jsonl`; rows read are rows kept and dropped.

    Raises:
        DataError: a file cannot be read, no row is good, more than 1 % of the rows are too long,
            or a split would be empty.
        TemplateError: the model's chat template takes none of the rows.
        IntegrityError: a source is not the file that the recipe names.
    """
    _check(spec)
    sieve = _Sieve()
    format_name = _read(spec, sieve)
    sieve.pass_through(drop_exact)
    if spec.near_duplicates == "drop":
        sieve.pass_through(drop_near)
    if suite is not None:
        held_out = read_suite(store.path(suite, "prompts.jsonl"))
        sieve.pass_through(lambda rows: drop_leaks(rows, held_out))
    template = ChatTemplate(load_tokenizer(spec.model))
    measured = measure(sieve.rows, template)
    sieve.pass_through(lambda _: (measured.rows, measured.refused))
    max_length = _max_length(spec, measured)
    sieve.pass_through(lambda _: drop_long(measured, max_length))
    placed, torn = place(sieve.rows, eval_fraction=spec.eval_fraction, only=spec.only_split)
    sieve.rejects += torn
    splits = _splits(spec, placed)
    domains = Counter(item.row.content.domain for item in placed if item.row.content.domain)
    body = DatasetBody(
        dataset_id=spec.dataset_id,
        format=format_name,
        sources={source.name: source.sha256 for source in spec.sources},
        splits={name: files.split_info(rows) for name, rows in splits.items()},
        rows_read=len(placed) + len(sieve.rejects),
        dropped=dict(sorted(Counter(reject.reason for reject in sieve.rejects).items())),
        domains=dict(sorted(domains.items())),
        length_quantiles=quantiles(measured.lengths),
        max_length=max_length,
        template_sha256=template.sha256,
    )
    _tell(body)
    made: dict[str, bytes | Path] = {
        f"{name}.parquet": files.parquet(rows) for name, rows in splits.items()
    }
    made["lineage.jsonl"] = files.lineage(placed)
    made["rejects.jsonl"] = files.rejects(sieve.in_order(spec.sources))
    return Draft("dataset", spec.dataset_id, body, made)


@dataclass
class _Sieve:
    """Rows still in, and everything that was left out so far."""

    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def pass_through(self, sift: Callable[[list[Row]], tuple[list[Row], list[Reject]]]) -> None:
        """Send the rows through one filter.

        Raises:
            DataError: no row comes out.
        """
        self.rows, rejected = sift(self.rows)
        self.rejects += rejected
        if not self.rows:
            raise _nothing_left(self.rejects)

    def in_order(self, sources: Sequence[Source]) -> list[Reject]:
        """The rejects as their lines stand in the sources."""
        order = {source.name: number for number, source in enumerate(sources)}
        return sorted(self.rejects, key=lambda r: (order[r.line.file], r.line.number))


def _check(spec: PrepareSpec) -> None:
    if not 0 <= spec.eval_fraction < 1:
        raise DataError(
            "the held-out share must be from 0 to below 1", found=str(spec.eval_fraction)
        )
    names = [source.name for source in spec.sources]
    if not names or len(set(names)) < len(names):
        raise DataError(
            "a dataset needs sources of different names", found=", ".join(names) or "none"
        )
    if spec.format != "auto" and spec.format not in SCHEMAS.names():
        known = ["auto", *SCHEMAS.names()]
        near = nearest(spec.format, known)
        raise DataError(
            f"there is no format {spec.format!r}",
            found=f"known: {', '.join(known)}",
            fix=f"data.format: {near}" if near else None,
        )


def _read(spec: PrepareSpec, sieve: _Sieve) -> str:
    """Fill the sieve with every line of every source; returns the format or formats."""
    formats: list[str] = []
    with progress("reading", unit="rows") as bar:
        for source in spec.sources:
            shape = _shape(spec, source, formats)
            formats.append(shape)
            items = list(read_source(source, shape))
            sieve.rows += [item for item in items if isinstance(item, Row)]
            sieve.rejects += [item for item in items if isinstance(item, Reject)]
            bar.advance(len(items))
    if not sieve.rows:
        raise _nothing_left(sieve.rejects)
    return ", ".join(dict.fromkeys(formats))


def _shape(spec: PrepareSpec, source: Source, before: Sequence[str]) -> str:
    """A source's shape; the evidence is told for the first file of each, and where it is mixed."""
    if spec.format != "auto":
        return spec.format
    shape, _, why = tell_shape(source.path)
    if shape not in before or "ambiguous" in why:
        emit("note", text=f"{source.name} is read as {shape!r}: {why}")
    return shape


def _nothing_left(rejects: Sequence[Reject]) -> DataError:
    counts = Counter(reject.reason for reject in rejects)
    first = "\n".join(f"{r.line.origin}: {r.detail}" for r in rejects[:3])
    kind = FormatError if set(counts) == {MALFORMED} else DataError
    return kind(
        f"no row is left of {len(rejects):,}: "
        + ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common()),
        found=first,
    )


def _max_length(spec: PrepareSpec, measured: Measured) -> int:
    """The length asked for, or one from the quantiles; never beyond the model's positions.

    Raises:
        DataError: more is asked for than the model has.
    """
    positions = positions_of(spec.model.config)
    if spec.max_length is None:
        return choose_length(quantiles(measured.lengths), positions)
    if positions is not None and spec.max_length > positions:
        raise DataError(
            f"max_length {spec.max_length:,} is more than the model has positions for",
            found=f"{spec.model.name}: {positions:,}",
            fix=f"data.max_length: {positions}",
        )
    return spec.max_length


def _splits(spec: PrepareSpec, placed: Sequence[Placed]) -> dict[str, list[Placed]]:
    """The rows of each split that is wanted.

    Raises:
        DataError: one of them is empty.
    """
    wanted = [spec.only_split] if spec.only_split else ["train"]
    if spec.only_split is None and spec.eval_fraction > 0:
        wanted.append("eval")
    splits = {name: [item for item in placed if item.split == name] for name in wanted}
    for name, rows in splits.items():
        if not rows:
            groups = len({item.row.group for item in placed})
            raise DataError(
                f"the split {name!r} is empty",
                found=f"{len(placed)} rows in {groups} groups, held-out share {spec.eval_fraction}",
                fix="give more rows or groups, another share, or a held-out file of its own",
            )
    return splits


def _tell(body: DatasetBody) -> None:
    """Say what was left out: the numbers are in the record, the rows in rejects.jsonl."""
    if body.dropped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in body.dropped.items())
        lost = sum(body.dropped.values())
        emit(
            "note",
            text=f"{body.dataset_id}: {lost:,} of {body.rows_read:,} rows left out: {reasons}",
        )
