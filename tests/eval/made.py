"""Datasets, suites and scores made by hand, sealed as the runner would seal them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.records import Artifact, DatasetBody, Draft, ModelRef, ScoresBody, SplitInfo
from nexa.core.scoring import derive_scores, write_rows
from nexa.core.store import Store

COLUMNS = pa.schema(
    [
        ("row_id", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("domain", pa.string()),
        ("group", pa.string()),
    ]
)
METALS = ("iron", "copper", "silver", "gold", "zinc", "tin", "lead", "nickel", "cobalt", "mercury")


def seal(draft: Draft[Any], store: Store, **inputs: Artifact[Any]) -> Artifact[Any]:
    """What the runner does with a draft."""
    digests = {role: artifact.digest for role, artifact in inputs.items()}
    return store.seal(
        draft,
        step={"name": "test", "version": 1},
        fingerprint=f"{draft.kind}-{draft.name}",
        inputs=digests,
    )


def row(
    row_id: str, prompt: str, answer: str, *, group: str | None = None, domain: str | None = None
) -> dict[str, Any]:
    """One row of a split."""
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"row_id": row_id, "messages": messages, "domain": domain, "group": group or row_id}


def record_rows(metals: Sequence[str] = METALS, notes: int = 3) -> list[dict[str, Any]]:
    """Extraction rows: a few notes on each metal, in two domains, grouped by metal."""
    return [
        row(
            f"{metal}-{note}",
            f"Note {note}: a sample of {metal}, batch {note * 7 + len(metal)}, arrived. Record it.",
            json.dumps({"metal": metal, "batch": note * 7 + len(metal), "pure": None}),
            group=metal,
            domain="soft" if metal in ("gold", "tin", "lead") else "hard",
        )
        for metal in metals
        for note in range(notes)
    ]


def dataset(
    store: Store, splits: Mapping[str, Sequence[Mapping[str, Any]]], name: str = "metals"
) -> Artifact[DatasetBody]:
    """A sealed dataset with these splits."""
    files = {}
    for split, rows in splits.items():
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(rows), schema=COLUMNS), sink)
        files[f"{split}.parquet"] = sink.getvalue()
    body = DatasetBody(
        dataset_id=name,
        format="spec",
        sources={},
        splits={s: SplitInfo(rows=len(rows), digest="0" * 64) for s, rows in splits.items()},
        rows_read=sum(map(len, splits.values())),
        dropped={},
    )
    return seal(Draft("dataset", name, body, files), store)


def scores(
    store: Store,
    suite: Artifact[Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    name: str,
    seal_text: str = "seal",
    cross_entropy: float = 3.0,
) -> Artifact[ScoresBody]:
    """Sealed scores with these rows."""
    derived = derive_scores(rows, suite.body.metrics)
    body = ScoresBody(
        model=ModelRef(name=name, origin="folder", digest=name),
        suite_digest=suite.digest,
        answers_digest="0" * 64,
        seal=seal_text,
        metrics=derived.metrics,
        by_domain=derived.by_domain,
        stop_rate=derived.stop_rate,
        general_cross_entropy=cross_entropy,
        counts=derived.counts,
    )
    return seal(Draft("scores", name, body, {"scores.jsonl": write_rows(rows)}), store)
