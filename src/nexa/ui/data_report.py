"""The page of one dataset: one HTML file, no script, no network, light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nexa import __version__
from nexa.core.records import Artifact, DatasetBody
from nexa.core.secrets import redact
from nexa.core.store import write_atomic
from nexa.ui.charts import histogram, share_bar

TEXT_LIMIT = 1200  # characters of a message that are shown
DIGEST_LENGTH = 12
QUANTILES = {"shortest": 0.0, "median": 0.5, "95 %": 0.95, "99 %": 0.99, "longest": 1.0}

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
)


@dataclass(frozen=True)
class DataPage:
    """What a page shows of a dataset: its record, its history, and what was counted in its rows."""

    dataset: Artifact[DatasetBody]
    versions: Sequence[tuple[Artifact[DatasetBody], str | None, str]]
    """The version itself, then those that it was made from: record, parent, notes."""
    by_domain: Mapping[str, Mapping[str, int]]
    """Domain ("" without one) -> split -> rows."""
    turns: Mapping[int, int]
    """Messages a row -> rows."""
    characters: Sequence[int]
    """Of every row, all its messages together."""
    samples: Sequence[tuple[str, Mapping[str, Any]]]
    """Split and row."""
    dropped: Mapping[str, Sequence[Mapping[str, Any]]]
    """Reason -> some of the rows that were left out for it: file, line, detail."""


def write_data_report(path: Path, page: DataPage) -> None:
    """Write the page of a dataset, whole or not at all, and without secrets.

    Raises:
        StorageError: it cannot be written.
    """
    write_atomic(path, redact(render_data_report(page)).encode())


def render_data_report(page: DataPage) -> str:
    """The page as HTML."""
    body = page.dataset.body
    kept = sum(split.rows for split in body.splits.values())
    shares = [("kept", kept), *sorted(body.dropped.items(), key=lambda item: -item[1])]
    return _templates.get_template("data_report.html.jinja").render(
        css=(Path(__file__).parent / "report.css").read_text(encoding="utf-8"),
        dataset=page.dataset,
        body=body,
        kept=kept,
        splits=sorted(body.splits),
        shares_chart=share_bar(shares, label="Rows kept and left out"),
        lengths_chart=histogram(page.characters, label="Characters a row"),
        lengths=_quantiles(page.characters),
        domains=sorted(page.by_domain.items(), key=lambda item: -sum(item[1].values())),
        turns=page.turns,
        facts=_facts(page.dataset),
        sources=sorted(body.sources.items()),
        dropped=[
            (reason, count, page.dropped.get(reason, ()))
            for reason, count in sorted(body.dropped.items(), key=lambda item: -item[1])
        ],
        samples=[_sample(split, row) for split, row in page.samples],
        versions=[_version(*version) for version in page.versions],
        nexa_version=__version__,
    )


def _facts(dataset: Artifact[DatasetBody]) -> list[tuple[str, str]]:
    body = dataset.body
    return [
        ("format", body.format),
        ("tokens a row", body.lengths_told or "not measured"),
        ("limit", f"{body.max_length} tokens"),
        ("made by", f"{dataset.step.get('name')} {dataset.step.get('version')}"),
        ("digest", dataset.digest),
    ]


def _quantiles(values: Sequence[int]) -> list[tuple[str, int]]:
    """Some values of a list by their place in it; each is one that a row has."""
    ordered = sorted(values)
    places = {name: max(math.ceil(q * len(ordered)) - 1, 0) for name, q in QUANTILES.items()}
    return [(name, ordered[place]) for name, place in places.items()]


def _sample(split: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["row_id"],
        "split": split,
        "domain": row["domain"] or "",
        "origin": row["origin"],
        "messages": [(m["role"], _cut(m["content"])) for m in row["messages"]],
    }


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]} ..."


def _version(
    dataset: Artifact[DatasetBody], parent: str | None, notes: str
) -> tuple[str, int, str, str, str]:
    rows = sum(split.rows for split in dataset.body.splits.values())
    return dataset.label, rows, parent or "files", notes, dataset.digest[:DIGEST_LENGTH]
