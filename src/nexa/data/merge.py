"""A new version of a dataset: its rows as they are, and those of the candidates that pass.

Candidates are a dataset, too, so they were read and checked by `prepare`. Here they meet the old
rows: copies and near-copies of those are left out, and so is what gives a prompt of the suite
away. No old row is dropped or changes its split; a candidate that belongs with old rows (their
group, or alike to them) takes their split, all others are trained on.

What a model or a teacher wrote meets a door that nothing opens: an answer with a red flag is left
out. Candidates of a synthetic record are that, all of them; of others those whose source says so.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nexa.core.errors import DataError, TemplateError
from nexa.core.events import emit
from nexa.core.identity import where
from nexa.core.records import Artifact, DatasetBody, Draft, SuiteBody
from nexa.core.store import Store, require_space
from nexa.data.engine import chain
from nexa.data.engine.output import Written, sealed_form, write_files
from nexa.data.engine.parts import Part
from nexa.data.engine.rejected import ByFilter
from nexa.data.engine.scratch import ScratchFolder
from nexa.data.engine.sealed import PART_ROWS, unsealed
from nexa.data.engine.sieve import Sieve
from nexa.data.engine.staged import Staged, labour_of, stage
from nexa.data.engine.stager import Job
from nexa.data.files import json_lines, read_lines
from nexa.data.filters.base import FilterSpec
from nexa.data.filters.leaks import read_suite
from nexa.data.filters.lengths import choose_length, positions_of, quantiles
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer

TRAIN = "train"
# Of Parquet's bytes: what was packed there lies open in scratch, twice, with its shingles.
SCRATCH_BYTES = 12


@dataclass(frozen=True)
class MergeSpec:
    """How candidates are added to a dataset."""

    model: ModelFiles  # whose template the dataset was prepared for
    near_duplicates: Literal["drop", "keep"] = "drop"
    filters: tuple[FilterSpec, ...] = ()  # what each candidate goes through by itself
    scratch: Path | None = where(default=None)  # where the temporary folder is made
    workers: int | None = where(default=None)  # processes; 0: this one; None: by size and cores
    part_rows: int = where(default=PART_ROWS)  # what a process reads at once


class NothingNew(DataError):
    """Every candidate was left out: the dataset stays the version that it is."""


def merge(
    spec: MergeSpec,
    *,
    dataset: Artifact[DatasetBody],
    candidates: Artifact[DatasetBody],
    suite: Artifact[SuiteBody] | None = None,
    store: Store,
) -> Draft[DatasetBody]:
    """The dataset with those candidates added that pass its filters.

    The draft's files are those of `nexa.data.prepare`; rows read and rows dropped are those of
    both datasets together, and what is dropped here.

    Raises:
        NothingNew: no candidate is left; says why.
        TemplateError: the dataset was prepared for another chat template.
        TruncationError: more than 1 % of all rows would be too long.
    """
    template = _same_template(spec, dataset)
    folder = ScratchFolder(spec.scratch)
    try:
        work = _Merge(spec, dataset, candidates, store, folder.path)
        draft = work.draft(suite, template)
    except BaseException:
        folder.remove()
        raise
    weakref.finalize(draft, folder.remove)
    return draft


def _same_template(spec: MergeSpec, dataset: Artifact[DatasetBody]) -> ChatTemplate:
    template = ChatTemplate(load_tokenizer(spec.model))
    if template.sha256 != dataset.body.template_sha256:
        raise TemplateError(
            f"{dataset.label} was prepared for another chat template than that of "
            f"{spec.model.name}",
            found=f"template {dataset.body.template_sha256[:16] or 'unknown'}, "
            f"not {template.sha256[:16]}",
            fix="prepare the dataset for this model first: nexa data prepare",
        )
    return template


@dataclass
class _Merge:
    """Two datasets that become one, in a folder of scratch."""

    spec: MergeSpec
    dataset: Artifact[DatasetBody]
    candidates: Artifact[DatasetBody]
    store: Store
    folder: Path

    def draft(
        self, suite: Artifact[SuiteBody] | None, template: ChatTemplate
    ) -> Draft[DatasetBody]:
        """The story, in order; after each filter some candidate has to be left."""
        staged = self._staged(template)
        old = [item.part.settled for item in staged.done].count(True)
        settled = int(staged.begins[old])
        sieve = Sieve(staged, settled)
        self._require_new(sieve)
        chain.leave_out_copies(sieve)
        self._require_new(sieve)
        corpus = staged.corpus(sieve.alive)
        chain.leave_out_near_copies(sieve, corpus, self.spec.near_duplicates)
        self._require_new(sieve)
        if suite is not None:
            held_out = read_suite(self.store.path(suite, "prompts.jsonl"))
            candidates = staged.corpus(sieve.alive[settled:], old)
            chain.leave_out_leaks(sieve, candidates, held_out, begin=settled)
            self._require_new(sieve)
        chain.leave_out_refused(sieve)
        self._require_new(sieve)
        measured = staged.facts["length"][sieve.rows]
        lengths = quantiles(measured[measured >= 0])
        positions = positions_of(self.spec.model.config)
        max_length = max(self.dataset.body.max_length, choose_length(lengths, positions))
        chain.leave_out_long(sieve, max_length)
        self._require_new(sieve)
        splits = list(self.dataset.body.splits)
        default = TRAIN if TRAIN in splits else splits[0]
        sides, alike = chain.split(sieve, corpus, eval_fraction=0.0, only=default)
        self._require_new(sieve)
        out = self.folder / "dataset"
        out.mkdir()
        rejects = ByFilter(out / "rejects.jsonl", sieve, self._rejects_before())
        written = write_files(out, sieve, sides, alike, splits, rejects)
        body = self._body(sieve, written).model_copy(
            update={"length_quantiles": lengths, "max_length": max_length}
        )
        added = int(sieve.alive[settled:].sum())
        of = self.candidates.body
        total = sum(split.rows for split in of.splits.values())
        emit("note", text=f"{self.dataset.label}: {added} of {total} candidates are added")
        files = {path.name: path for path in out.iterdir()}
        return Draft("dataset", self.dataset.name, sealed_form(body, out), files, own=out)

    def _staged(self, template: ChatTemplate) -> Staged:
        made = (self.dataset, self.candidates)
        blobs = [
            self.store.path(item, f"{name}.parquet") for item in made for name in item.body.splits
        ]
        size_bytes = sum(blob.stat().st_size for blob in blobs)
        require_space(self.folder, SCRATCH_BYTES * size_bytes, "merging the rows")
        written = "synthetic" in self.candidates.inputs
        job = Job(
            self.spec.model, self.folder, self.spec.filters, "all" if written else "synthetic"
        )
        return stage(self._parts(), job, labour_of(size_bytes, self.spec.workers), template)

    def _parts(self) -> Iterator[Part]:
        """The old rows, then the candidates."""
        first = 0
        rows = self.spec.part_rows
        for part in unsealed(
            self.dataset, self.store, self.folder, first=0, settled=True, part_rows=rows
        ):
            first = part.number + 1
            yield part
        yield from unsealed(
            self.candidates,
            self.store,
            self.folder,
            first=first,
            settled=False,
            renamed=self._names,
            part_rows=rows,
        )

    @property
    def _names(self) -> dict[str, str]:
        """The candidates' files by the names that they have from now on: no two share one."""
        old, new = self.dataset.body.sources, self.candidates.body.sources
        return {
            name: name if old.get(name, digest) == digest else f"{digest[:8]}/{name}"
            for name, digest in new.items()
        }

    def _require_new(self, sieve: Sieve) -> None:
        """Raises: NothingNew: no candidate came out of a filter."""
        if not sieve.alive[sieve.settled :].any():
            counts = sieve.counts().most_common()
            raise NothingNew(
                "no candidate adds anything",
                found=", ".join(f"{reason} {count:,}" for reason, count in counts)
                or "no candidates",
            )

    def _rejects_before(self) -> Iterator[bytes]:
        """What was left out of both before; the candidates' files under their new names."""
        with self.store.path(self.dataset, "rejects.jsonl").open("rb") as file:
            yield from file
        names = self._names
        for line in read_lines(self.store.path(self.candidates, "rejects.jsonl")):
            yield json_lines([{**line, "file": names.get(line["file"], line["file"])}])

    def _body(self, sieve: Sieve, written: Written) -> DatasetBody:
        old, new = self.dataset.body, self.candidates.body
        formats = dict.fromkeys([*old.format.split(", "), *new.format.split(", ")])
        dropped = Counter(old.dropped) + Counter(new.dropped) + sieve.counts()
        sources = {self._names[name]: digest for name, digest in new.sources.items()}
        return old.model_copy(
            update={
                "format": ", ".join(formats),
                "sources": {**old.sources, **sources},
                "splits": written.splits,
                "rows_read": old.rows_read + new.rows_read,
                "dropped": dict(sorted(dropped.items())),
                "domains": dict(sorted(written.domains.items())),
                "mended": dict(sorted(written.mended.items())) or None,
            }
        )
