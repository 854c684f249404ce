"""Suites, scores, pools and weaknesses made by hand, sealed as the runner would seal them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.identity import sha256_bytes
from nexa.core.records import (
    AnswersBody,
    Artifact,
    DatasetBody,
    Draft,
    ModelRef,
    ReportBody,
    ScoresBody,
    SplitInfo,
    SuiteBody,
    WeaknessBody,
)
from nexa.core.scoring import Side, derive_report, derive_scores, write_rows
from nexa.core.store import Store
from nexa.data.files import COLUMNS
from nexa.feedback.weakness_analysis import WeaknessSpec, weakness

METALS = ("iron", "copper", "silver", "gold", "zinc", "tin", "lead", "nickel", "cobalt", "barium")
TEXTS = {
    "furnace": "Furnace log {n}: the melt of {metal} held {a} kelvin while {b} grams of slag came "
    "off. Give metal, kelvin and grams as JSON.",
    "letter": "Dear colleague, sample {n} of {metal} rests {a} weeks in our cellar and costs {b} "
    "crowns. As JSON: metal, weeks, crowns.",
    "catalogue": "Catalogue page {n}, {metal} wire, {a} metres on a reel, rated {b} volts, sold "
    "by the reel. Turn it into JSON: metal, metres, volts.",
}
FIELDS = {
    "furnace": ("kelvin", "grams"),
    "letter": ("weeks", "crowns"),
    "catalogue": ("metres", "volts"),
}
WEAK = "furnace"


def numbers(n: int) -> tuple[int, int]:
    """Two numbers that no other row has."""
    return 300 + 7 * n, 20_000 + 13 * n


def asked(domain: str, n: int) -> str:
    """The question of a row."""
    a, b = numbers(n)
    return TEXTS[domain].format(n=n, metal=METALS[n % len(METALS)], a=a, b=b)


def answer(domain: str, n: int) -> str:
    """Its right answer."""
    return json.dumps(
        {
            "metal": METALS[n % len(METALS)],
            **dict(zip(FIELDS[domain], numbers(n), strict=True)),
        }
    )


def prompts(
    each: int, *, first: int = 0, domains: Iterable[str] = TEXTS, **more: Any
) -> list[dict[str, Any]]:
    """Rows of `prompts.jsonl`: so many of each domain, two of a group."""
    return [
        {
            "id": f"{domain}-{n}",
            "group": f"{domain}-{n // 2}",
            "domain": domain,
            "messages": [{"role": "user", "content": asked(domain, n)}],
            "target": answer(domain, n),
            **more,
        }
        for domain in domains
        for n in range(first, first + each)
    ]


def training(
    each: int, *, first: int = 1000, domains: Iterable[str] = TEXTS
) -> list[dict[str, Any]]:
    """Rows of a dataset's split: so many of each domain, two of a group."""
    return [
        training_row(f"t-{domain}-{n}", asked(domain, n), answer(domain, n), domain, n // 2)
        for domain in domains
        for n in range(first, first + each)
    ]


def training_row(
    row_id: str, question: str, said: str, domain: str | None = None, group: Any = None
) -> dict[str, Any]:
    """One row of a dataset's split."""
    return {
        "row_id": row_id,
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": said},
        ],
        "domain": domain,
        "source": None,
        "group": row_id if group is None else f"{domain}-{group}",
        "quality_score": None,
        "cluster": row_id,
        "origin": f"rows.jsonl:{row_id}",
    }


def seal(store: Store, draft: Draft[Any], **inputs: Artifact[Any]) -> Artifact[Any]:
    """What the runner does with a draft."""
    digests = {role: artifact.digest for role, artifact in inputs.items()}
    told = sha256_bytes(f"{draft.body.model_dump_json()} {sorted(digests.items())}".encode())
    return store.seal(
        draft, step={"name": draft.kind, "version": 1}, fingerprint=told, inputs=digests
    )


def suite(
    store: Store, rows: Sequence[Mapping[str, Any]], name: str = "analysis"
) -> Artifact[SuiteBody]:
    """A sealed suite of these rows."""
    body = SuiteBody(
        task="json_record",
        rows=len(rows),
        groups=len({row["group"] for row in rows}),
        domains={},
        metrics=["exact", "field_accuracy"],
        primary="exact",
        max_new_tokens=64,
    )
    return seal(store, Draft("suite", name, body, {"prompts.jsonl": write_rows(rows)}))


def mark(
    rows: Sequence[Mapping[str, Any]], score: Callable[[Mapping[str, Any]], float | None]
) -> list[dict[str, Any]]:
    """Rows of `scores.jsonl` for rows of a suite."""
    return [
        {
            "id": row["id"],
            "group": row["group"],
            "domain": row["domain"],
            "stopped": 1.0,
            "exact": score(row),
            "field_accuracy": score(row),
            "detail": {},
        }
        for row in rows
    ]


def right_but_for(*domains: str) -> Callable[[Mapping[str, Any]], float]:
    """All right but for these domains, and one row in eight."""
    return lambda row: float(
        row["domain"] not in domains and int(row["id"].rsplit("-", 1)[1]) % 8 != 7
    )


def scores(
    store: Store,
    suite_: Artifact[SuiteBody],
    rows: Sequence[Mapping[str, Any]],
    name: str = "tuned",
    **fields: Any,
) -> Artifact[ScoresBody]:
    """Sealed scores with these rows."""
    metrics = fields.pop("names", suite_.body.metrics)
    derived = derive_scores(rows, metrics)
    body = ScoresBody(
        model=ModelRef(name=name, origin="folder", digest=name),
        suite_digest=suite_.digest,
        answers_digest=fields.pop("answers_digest", "0" * 64),
        seal="seal",
        metrics=derived.metrics,
        by_domain=derived.by_domain,
        stop_rate=derived.stop_rate,
        missing=derived.missing,
        general_cross_entropy=3.0,
        **fields,
    )
    return seal(store, Draft("scores", name, body, {"scores.jsonl": write_rows(rows)}))


def answers(
    store: Store, suite_: Artifact[SuiteBody], texts: Mapping[str, str | None]
) -> Artifact[AnswersBody]:
    """Sealed answers with these texts."""
    rows = [{"id": name, "text": text} for name, text in texts.items()]
    body = AnswersBody(
        model=ModelRef(name="tuned", origin="folder", digest="tuned"),
        suite_digest=suite_.digest,
        rows=len(rows),
        decoding={},
        stopped=len(rows),
        new_tokens=1,
        template_sha256="",
        first_prompt_sha256="",
        general_cross_entropy=3.0,
    )
    return seal(store, Draft("answers", "tuned", body, {"answers.jsonl": write_rows(rows)}))


def report(
    store: Store,
    suite_: Artifact[SuiteBody],
    base: Artifact[ScoresBody],
    tuned: Artifact[ScoresBody],
    *,
    contaminated: Sequence[str] = (),
    **changes: Any,
) -> Artifact[ReportBody]:
    """The sealed comparison of two scores."""
    from nexa.core.scoring import read_rows

    sides = (
        Side(read_rows(store.path(one, "scores.jsonl").read_bytes()), 3.0) for one in (base, tuned)
    )
    body = derive_report(
        suite_.body,
        *sides,
        forgetting_limit_nats=0.3,
        contaminated_rows=contaminated,
        seal="seal",
    ).model_copy(update=changes)
    draft = Draft("report", "report", body, {"report.json": body.model_dump_json().encode()})
    return seal(store, draft, suite=suite_, base=base, tuned=tuned)


def dataset(
    store: Store, rows: Sequence[Mapping[str, Any]], name: str = "metals", **more: Any
) -> Artifact[DatasetBody]:
    """A sealed dataset with these rows in its split `train`."""
    splits: dict[str, Sequence[Mapping[str, Any]]] = {"train": rows, **more}
    files: dict[str, bytes] = {"rejects.jsonl": b""}
    lines = []
    for split, members in splits.items():
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(members), schema=COLUMNS), sink)
        files[f"{split}.parquet"] = sink.getvalue()
        lines += [{"row_id": r["row_id"], "split": split, "sha256": "0" * 64} for r in members]
    files["lineage.jsonl"] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    body = DatasetBody(
        dataset_id=name,
        format="spec",
        sources={"rows.jsonl": "0" * 64},
        splits={s: SplitInfo(rows=len(rows), digest="0" * 64) for s, rows in splits.items()},
        rows_read=sum(map(len, splits.values())),
        dropped={},
        content_sha256=sha256_bytes(files["train.parquet"]),
    )
    return seal(store, Draft("dataset", name, body, files))


def weak(
    store: Store,
    rows: Sequence[Mapping[str, Any]] | None = None,
    score: Callable[[Mapping[str, Any]], float | None] | None = None,
    **spec: Any,
) -> Artifact[WeaknessBody]:
    """The sealed weaknesses of a model that is wrong about furnaces."""
    asked_ = prompts(12) if rows is None else rows
    suite_ = suite(store, asked_)
    scored = scores(store, suite_, mark(asked_, score or right_but_for(WEAK)))
    draft = weakness(
        WeaknessSpec(**{"name": "weak", "by": ("domain",), **spec}),
        suite=suite_,
        scores=scored,
        store=store,
    )
    return seal(store, draft, suite=suite_, scores=scored)
