"""From files of rows to a dataset that can be trained on: `prepare` is the story, in order."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nexa.core.errors import DataError, FormatError, nearest
from nexa.core.events import emit
from nexa.core.identity import where
from nexa.core.records import Artifact, DatasetBody, Draft, SuiteBody
from nexa.core.store import Store, require_space
from nexa.data.engine import chain
from nexa.data.engine.balancing import leave_out_surplus
from nexa.data.engine.output import sealed_form, write_files
from nexa.data.engine.parts import PART_BYTES, parts_of
from nexa.data.engine.rejected import InOrder
from nexa.data.engine.scratch import ScratchFolder
from nexa.data.engine.sieve import Sieve
from nexa.data.engine.staged import Staged, labour_of, stage
from nexa.data.engine.stager import MOST_SHOWN, Job
from nexa.data.filters.balance import BalanceSpec
from nexa.data.filters.base import FilterSpec
from nexa.data.filters.leaks import read_suite
from nexa.data.filters.lengths import choose_length, positions_of, quantiles
from nexa.data.filters.red_flags import Whose
from nexa.data.filters.split import SPLITS, Sides
from nexa.data.loaders.opening import empty
from nexa.data.schemas import SCHEMAS
from nexa.data.sources import MALFORMED, Source, tell_shape, tell_unused
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer

# Stage files, shingles and the dataset itself, for each byte of the sources.
SCRATCH_BYTES = 5


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
    filters: tuple[FilterSpec, ...] = ()  # what each row goes through by itself, in this order
    balance: BalanceSpec | None = None  # how many rows a domain may have
    scratch: Path | None = where(default=None)  # where the temporary folder is made
    workers: int | None = where(default=None)  # processes; 0: this one; None: by size and cores
    part_bytes: int = where(default=PART_BYTES)  # what a process reads at once


def prepare(
    spec: PrepareSpec, *, suite: Artifact[SuiteBody] | None = None, store: Store
) -> Draft[DatasetBody]:
    """Read, deduplicate, decontaminate, measure and split rows.

    With a `suite`, rows that give one of its prompts away are left out. The draft's files are
    `<split>.parquet`, `lineage.jsonl` and `rejects.jsonl`; rows read are rows kept and dropped.
    Memory holds some hundred bytes a row, whatever its length; the rest is in scratch.

    Raises:
        DataError: a file cannot be read, no row is good, more than 1 % of the rows are too long,
            or a split would be empty.
        TemplateError: the model's chat template takes none of the rows.
        IntegrityError: a source is not the file that the recipe names.
        CapacityError: the machine's memory does not hold it.
        StorageError: no space in scratch.
    """
    return prepare_unflagged("nobody", spec, suite, store)


def prepare_unflagged(
    whose: Whose, spec: PrepareSpec, suite: Artifact[SuiteBody] | None, store: Store
) -> Draft[DatasetBody]:
    """As `prepare`, and of the rows meant by `whose` those are left out that propose a hazard.

    Raises:
        As `prepare`.
    """
    _check(spec)
    folder = ScratchFolder(spec.scratch)
    try:
        draft = _prepare(spec, suite, store, folder.path, whose)
    except BaseException:
        folder.remove()
        raise
    weakref.finalize(draft, folder.remove)
    return draft


def _prepare(
    spec: PrepareSpec,
    suite: Artifact[SuiteBody] | None,
    store: Store,
    folder: Path,
    whose: Whose,
) -> Draft[DatasetBody]:
    shapes = _shapes(spec)
    template = ChatTemplate(load_tokenizer(spec.model))
    sieve = Sieve(_staged(spec, shapes, template, folder, whose))
    _require_rows(sieve)
    chain.leave_out_copies(sieve)
    _require_rows(sieve)
    corpus = sieve.staged.corpus(sieve.alive)
    chain.leave_out_near_copies(sieve, corpus, spec.near_duplicates)
    _require_rows(sieve)
    if suite is not None:
        chain.leave_out_leaks(sieve, corpus, read_suite(store.path(suite, "prompts.jsonl")))
        _require_rows(sieve)
    lengths = _lengths(sieve, template)
    max_length = _max_length(spec, lengths)
    chain.leave_out_long(sieve, max_length)
    _require_rows(sieve)
    if spec.balance is not None:
        leave_out_surplus(sieve, spec.balance)
    sides, alike = chain.split(
        sieve, corpus, eval_fraction=spec.eval_fraction, only=spec.only_split
    )
    splits = _splits(spec, sieve, sides)
    out = folder / "dataset"
    out.mkdir()
    rejects = InOrder(out / "rejects.jsonl", sieve)
    written = write_files(out, sieve, sides, alike, splits, rejects)
    body = DatasetBody(
        dataset_id=spec.dataset_id,
        format=", ".join(dict.fromkeys(shapes)),
        sources={source.name: source.sha256 for source in spec.sources},
        splits=written.splits,
        rows_read=sieve.staged.read,
        dropped=dict(sorted(sieve.counts().items())),
        domains=dict(sorted(written.domains.items())),
        length_quantiles=lengths,
        max_length=max_length,
        template_sha256=template.sha256,
        mended=dict(sorted(written.mended.items())) or None,
    )
    _tell(body)
    files = {path.name: path for path in out.iterdir()}
    return Draft("dataset", spec.dataset_id, sealed_form(body, out), files, own=out)


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


def _shapes(spec: PrepareSpec) -> list[str]:
    """Each source's shape; the evidence is told for the first file of each, and of mixed ones."""
    if spec.format != "auto":
        return [spec.format] * len(spec.sources)
    shapes: list[str] = []
    for source in spec.sources:
        shape, _, why = tell_shape(source.path)
        if shape not in shapes or "ambiguous" in why:
            emit("note", text=f"{source.name} is read as {shape!r}: {why}")
        shapes.append(shape)
    return shapes


def _staged(
    spec: PrepareSpec,
    shapes: Sequence[str],
    template: ChatTemplate,
    folder: Path,
    whose: Whose,
) -> Staged:
    size_bytes = sum(source.path.stat().st_size for source in spec.sources)
    require_space(folder, SCRATCH_BYTES * size_bytes, "preparing the rows")
    staged = stage(
        parts_of(list(zip(spec.sources, shapes, strict=True)), spec.part_bytes),
        Job(spec.model, folder, spec.filters, whose),
        labour_of(size_bytes, spec.workers),
        template,
    )
    for source in spec.sources:
        mine = [item for item in staged.done if item.part.name == source.name]
        if not sum(item.read for item in mine):
            raise empty(source.path)
        unused: Counter[str] = Counter()
        for item in mine:
            unused.update(item.unused)
        tell_unused(source.name, unused)
    return staged


def _require_rows(sieve: Sieve) -> None:
    """Raises: DataError: no row is left; says why the first ones are not."""
    if sieve.alive.any():
        return
    counts = sieve.counts()
    kind = FormatError if set(counts) == {MALFORMED} else DataError
    raise kind(
        f"no row is left of {sum(counts.values()):,}: "
        + ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common()),
        found="\n".join(sieve.shown(MOST_SHOWN)),
    )


def _lengths(sieve: Sieve, template: ChatTemplate) -> dict[str, int]:
    """Tokens a row, of those that the template takes.

    Raises:
        TemplateError: it takes none: why not the first one.
    """
    before = sieve.rows
    chain.leave_out_refused(sieve)
    rows = sieve.rows
    if not len(rows):
        messages = sieve.staged.record(int(before[0]))["messages"]
        template.render(messages)  # raises what was noted
    return quantiles(sieve.staged.facts["length"][rows])


def _max_length(spec: PrepareSpec, found: dict[str, int]) -> int:
    """The length asked for, or one from the quantiles; never beyond the model's positions.

    Raises:
        DataError: more is asked for than the model has.
    """
    positions = positions_of(spec.model.config)
    if spec.max_length is None:
        return choose_length(found, positions)
    if positions is not None and spec.max_length > positions:
        raise DataError(
            f"max_length {spec.max_length:,} is more than the model has positions for",
            found=f"{spec.model.name}: {positions:,}",
            fix=f"data.max_length: {positions}",
        )
    return spec.max_length


def _splits(spec: PrepareSpec, sieve: Sieve, sides: Sides) -> list[str]:
    """The splits that are wanted.

    Raises:
        DataError: one of them is empty.
    """
    wanted: list[str] = [spec.only_split] if spec.only_split else ["train"]
    if spec.only_split is None and spec.eval_fraction > 0:
        wanted.append("eval")
    for name in wanted:
        if not (sides == SPLITS.index(name)).any():
            rows = sieve.rows
            groups = len(np.unique(sieve.staged.facts["group"][rows], axis=0))
            raise DataError(
                f"the split {name!r} is empty",
                found=f"{len(rows)} rows in {groups} groups, held-out share {spec.eval_fraction}",
                fix="give more rows or groups, another share, or a held-out file of its own",
            )
    return wanted


def _tell(body: DatasetBody) -> None:
    """Say what was left out: the numbers are in the record, the rows in rejects.jsonl."""
    if body.dropped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in body.dropped.items())
        lost = sum(body.dropped.values())
        emit(
            "note",
            text=f"{body.dataset_id}: {lost:,} of {body.rows_read:,} rows left out: {reasons}",
        )
