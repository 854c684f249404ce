"""The filters as they are meant, on lists of rows in memory: what the engine is compared with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from nexa.core.errors import TemplateError
from nexa.core.overlap import copies, leaks, memberships
from nexa.data.filters.leaks import HeldOut
from nexa.data.filters.lengths import choose_length, quantiles, why_long
from nexa.data.filters.split import draw
from nexa.data.rows import Reject, Row
from nexa.data.sources import Source, read_source, tell_shape
from nexa.lm.chat import ChatTemplate


@dataclass
class Prepared:
    """Rows kept, each with its split and cluster, and all others; by their origins."""

    kept: list[tuple[str, str, str]] = field(default_factory=list)
    rejects: list[tuple[str, int, str, str]] = field(default_factory=list)
    quantiles: dict[str, int] = field(default_factory=dict)


def prepared(
    sources: Sequence[Source],
    template: ChatTemplate,
    *,
    eval_fraction: float = 0.0,
    only: str | None = None,
    near: bool = True,
    held_out: HeldOut | None = None,
) -> Prepared:
    """What `prepare` makes of sources, in the words of its docstrings."""
    items = [item for s in sources for item in read_source(s, tell_shape(s.path)[0])]
    rows = [item for item in items if isinstance(item, Row)]
    rejects = [item for item in items if isinstance(item, Reject)]
    rows, gone = _exact(rows)
    rejects += gone
    if near:
        rows, gone = _near(rows)
        rejects += gone
    if held_out is not None:
        rows, gone = _leaks(rows, held_out)
        rejects += gone
    rows, lengths, gone = _measured(rows, template)
    rejects += gone
    most = choose_length(quantiles(lengths), 512)
    long = [
        Reject(row.line, "too long", why_long(n, most))
        for row, n in zip(rows, lengths, strict=True)
        if n > most
    ]
    rows = [row for row, n in zip(rows, lengths, strict=True) if n <= most]
    placed, torn = place(rows, eval_fraction, only)
    rejects += [*long, *torn]
    order = {source.name: number for number, source in enumerate(sources)}
    rejects.sort(key=lambda r: (order[r.line.file], r.line.number))
    return Prepared(
        [(row.line.origin, split, cluster) for row, split, cluster in placed],
        [(r.line.file, r.line.number, r.reason, r.detail) for r in rejects],
        quantiles(lengths),
    )


def place(
    rows: Sequence[Row],
    eval_fraction: float,
    only: str | None = None,
    settled: Sequence[tuple[str, str]] = (),
) -> tuple[list[tuple[Row, str, str]], list[Reject]]:
    """Each row's split and cluster; see `filters.split`."""
    alike = memberships([row.example.text for row in rows])
    placed, torn, drawn = _placed(rows, alike, eval_fraction, only, settled)
    if only is None and eval_fraction > 0 and len(drawn) > 1 and min(drawn) >= eval_fraction:
        nearest = math.nextafter(min(drawn), 1)
        placed, torn, _ = _placed(rows, alike, nearest, only, settled)
    return placed, torn


def _placed(
    rows: Sequence[Row],
    alike: Sequence[tuple[int, ...]],
    share: float,
    only: str | None,
    settled: Sequence[tuple[str, str]],
) -> tuple[list[tuple[Row, str, str]], list[Reject], list[float]]:
    placed: list[tuple[Row, str, str]] = []
    torn: list[Reject] = []
    drawn: list[float] = []
    by_group: dict[str, str] = {}
    by_cluster: dict[int, set[str]] = defaultdict(set)
    for index, (row, heads) in enumerate(zip(rows, alike, strict=True)):
        bound = {split for head in heads for split in by_cluster[head]}
        bound |= {by_group[row.group]} if row.group in by_group else set()
        if index < len(settled):
            split, cluster = settled[index]
        elif len(bound) > 1:
            origins = ", ".join(rows[head].line.origin for head in heads)
            why = f"alike to {origins}; group {row.group}"
            torn.append(Reject(row.line, "alike to both sides of the split", why))
            continue
        else:
            cluster = settled[heads[0]][1] if heads[0] < len(settled) else rows[heads[0]].row_id
            if bound:
                split = bound.pop()
            else:
                drawn.append(draw(row))
                split = only or ("eval" if drawn[-1] < share else "train")
        by_group.setdefault(row.group, split)
        by_cluster[heads[0]].add(split)
        placed.append((row, split, cluster))
    return placed, torn, drawn


def exact(rows: Sequence[Row], settled: int = 0) -> list[tuple[int, str, int]]:
    """Which rows are left out, under what reason, for which earlier row."""
    seen: dict[str, int] = {}
    ids: dict[str, int] = {}
    gone = []
    for index, row in enumerate(rows):
        if index < settled:
            seen.setdefault(row.duplicate_key, index)
            ids.setdefault(row.row_id, index)
        elif row.duplicate_key in seen:
            gone.append((index, "exact duplicate", seen[row.duplicate_key]))
        elif row.row_id in ids:
            gone.append((index, "id used twice", ids[row.row_id]))
        else:
            seen[row.duplicate_key] = ids[row.row_id] = index
    return gone


def _exact(rows: list[Row]) -> tuple[list[Row], list[Reject]]:
    rejects = []
    for index, reason, other in exact(rows):
        origin, line = rows[other].line.origin, rows[index].line
        same = f"the same as {origin}"
        twice = f"id {rows[index].row_id!r} is that of {origin}"
        rejects.append(Reject(line, reason, same if reason == "exact duplicate" else twice))
    return _without(rows, rejects), rejects


def _near(rows: list[Row]) -> tuple[list[Row], list[Reject]]:
    found = list(copies([row.example for row in rows]))
    rejects = [
        Reject(row.line, "near-duplicate", f"nearly the same as {rows[other].line.origin}")
        for index, (row, other) in enumerate(zip(rows, found, strict=True))
        if other != index
    ]
    return _without(rows, rejects), rejects


def _leaks(rows: list[Row], held_out: HeldOut) -> tuple[list[Row], list[Reject]]:
    found: dict[int, str] = {}
    for hit in leaks([row.example for row in rows], held_out.examples):
        why = f"{hit.reason} ({hit.score:.2f}) of the held-out row {held_out.ids[hit.eval_index]}"
        found.setdefault(hit.train_index, why)
    rejects = [Reject(rows[i].line, "leaks a held-out row", why) for i, why in found.items()]
    return _without(rows, rejects), rejects


def _measured(rows: list[Row], template: ChatTemplate) -> tuple[list[Row], list[int], list[Reject]]:
    lengths, refused = [], []
    rendered = template.render_each(row.content.messages for row in rows)
    for row, result in zip(rows, rendered, strict=True):
        if isinstance(result, TemplateError):
            why = result.what + (f" ({result.found})" if result.found else "")
            refused.append(Reject(row.line, "refused by the chat template", why))
        else:
            lengths.append(len(result.ids))
    return _without(rows, refused), lengths, refused


def _without(rows: Sequence[Row], rejects: Sequence[Reject]) -> list[Row]:
    gone = {id(reject.line) for reject in rejects}
    return [row for row in rows if id(row.line) not in gone]
