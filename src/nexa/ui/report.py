"""The page of one run: one HTML file, no script, no network, light and dark.

It shows what the records say and computes nothing of its own but which answers to show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nexa.core.methods import ending_told, method_name, method_told
from nexa.core.records import Artifact
from nexa.core.scoring import NO_DOMAIN, NOT_CHECKED, read_rows
from nexa.core.secrets import redact
from nexa.core.store import Store, write_atomic
from nexa.ui.charts import Compared, interval_chart, line_chart, share_bar

SAMPLES = 6
DIGEST_LENGTH = 64
TEXT_LIMIT = 1600  # characters of a prompt or an answer that are shown
ROLES = (
    "suite",
    "dataset",
    "checkpoint",
    "export",
    "base_answers",
    "tuned_answers",
    "base_scores",
    "tuned_scores",
    "report",
)
Row = Mapping[str, Any]

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
)


@dataclass(frozen=True)
class Page:
    """What a page shows: the records of a run by role, its manifest, and the rows they hold."""

    records: Mapping[str, Artifact[Any]]
    manifest: Mapping[str, Any]
    prompts: Sequence[Row]
    answers: Mapping[str, Sequence[Row]]
    scores: Mapping[str, Sequence[Row]]
    losses: Sequence[Row]


def write_report(path: Path, page: Page) -> None:
    """Write the page of a run, whole or not at all, and without secrets."""
    write_atomic(path, redact(render_report(page)).encode())


def read_page(
    records: Mapping[str, Artifact[Any]], manifest: Mapping[str, Any], store: Store
) -> Page:
    """Gather a page from a run's records (role -> record) and the store that has their rows."""

    def rows(role: str, file: str) -> list[Row]:
        data = store.path(records[role], file).read_bytes()
        return list(read_rows(data)) if data else []

    sides = ("base", "tuned")
    return Page(
        records={role: records[role] for role in ROLES},
        manifest=manifest,
        prompts=rows("suite", "prompts.jsonl"),
        answers={side: rows(f"{side}_answers", "answers.jsonl") for side in sides},
        scores={side: rows(f"{side}_scores", "scores.jsonl") for side in sides},
        losses=rows("checkpoint", "losses.jsonl"),
    )


def render_report(page: Page) -> str:
    """The page as HTML."""
    report, checkpoint = page.records["report"].body, page.records["checkpoint"].body
    samples = choose_samples(page)
    return _templates.get_template("report.html.jinja").render(
        css=(Path(__file__).parent / "report.css").read_text(encoding="utf-8"),
        title=page.records["checkpoint"].name,
        subtitle=_subtitle(page),
        run_id=page.manifest.get("run_id", ""),
        nexa_version=page.manifest.get("nexa_version", ""),
        report=report,
        suite=page.records["suite"].body,
        verdict_class="none" if report.verdict == "no evidence" else report.verdict,
        headline=[("base", report.base[report.primary]), ("tuned", report.tuned[report.primary])],
        gain=next((c for c in report.comparisons if c.metric == report.primary), None),
        comparisons=sorted(report.comparisons, key=lambda c: c.metric != report.primary),
        clean=sorted(report.clean or (), key=lambda c: c.metric != report.primary),
        missing=[c for c in report.comparisons if c.missing],
        metrics_chart=interval_chart(_metric_rows(report)),
        domains_chart=_domains_chart(report),
        safety=_safety(page),
        samples=samples,
        samples_note=_samples_note(samples, page),
        loss_chart=_loss_chart(page.losses),
        training=_training(checkpoint),
        data_chart=share_bar(_shares(page), label="Rows kept and dropped"),
        data_caption=", ".join(f"{name} {count}" for name, count in _shares(page)),
        data=_data(page),
        parity=_parity(page),
        cost=_cost(page.manifest),
        lineage=_lineage(page.records),
    )


def choose_samples(page: Page, count: int = SAMPLES) -> list[dict[str, Any]]:
    """Rows to show side by side: first where tuned gained most, but every kind that there is.

    Half are the largest gains, the rest are the tuned model's losses and its worst answers, so
    that a page never shows successes only. One row a group as far as there are groups.
    """
    primary = page.records["report"].body.primary
    base, tuned = ({row["id"]: row for row in page.scores[side]} for side in ("base", "tuned"))
    prompts = {row["id"]: row for row in page.prompts if row["id"] in base and row["id"] in tuned}

    def gain(row: str) -> float:
        return float((tuned[row].get(primary) or 0) - (base[row].get(primary) or 0))

    ranked = _one_a_group(sorted(prompts, key=lambda row: (-gain(row), row)), prompts)
    gains = [row for row in ranked if gain(row) > 0][: (count + 1) // 2]
    rest = [row for row in ranked if row not in gains]
    rest.sort(key=lambda row: (gain(row), tuned[row].get(primary) or 0, row))
    texts = {side: {r["id"]: said(r) for r in page.answers[side]} for side in ("base", "tuned")}
    chosen = gains + rest[: count - len(gains)]
    return [
        _sample(prompts[row], {"base": base[row], "tuned": tuned[row]}, texts, primary)
        for row in chosen
    ]


def said(answer: Row) -> str:
    """An answer as a page shows it; of a task by likelihood how likely each choice was found."""
    if (text := answer.get("text")) is not None:
        return str(text)
    nats = ", ".join(f"{value:.2f}" for value in answer.get("log_likelihoods", []))
    return f"log-likelihoods in nats: {nats}" if nats else "no answer"


def _one_a_group(ranked: Sequence[str], prompts: Mapping[str, Row]) -> list[str]:
    """The first row of every group, then the others, each in the order given."""
    seen: set[str] = set()
    first: list[str] = []
    others: list[str] = []
    for row in ranked:
        group = prompts[row].get("group") or row
        (others if group in seen else first).append(row)
        seen.add(group)
    return first + others


def _sample(
    prompt: Row, scores: Mapping[str, Row], texts: Mapping[str, Mapping[str, str]], primary: str
) -> dict[str, Any]:
    turns = [turn["content"] for turn in prompt["messages"] if turn["role"] != "assistant"]
    sides = {
        side: {
            "score": float(row.get(primary) or 0),
            "right": (row.get(primary) or 0) >= 1,
            "text": _clip(texts[side].get(prompt["id"], "")),
        }
        for side, row in scores.items()
    }
    target = prompt.get("target")
    shown = target if isinstance(target, str) else json.dumps(target, ensure_ascii=False)
    return {
        "id": prompt["id"],
        "domain": prompt.get("domain"),
        "prompt": _clip("\n\n".join(turns)),
        "target": _clip(shown),
        **sides,
    }


def _clip(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + " …"


def _samples_note(samples: Sequence[Row], page: Page) -> str:
    gained = sum(sample["tuned"]["score"] > sample["base"]["score"] for sample in samples)
    return (
        f"{len(samples)} of {len(page.prompts)} prompts: {gained} where the tuned model gained "
        "most, then those where it did worst. The number is the row's "
        f"{page.records['report'].body.primary}."
    )


def _subtitle(page: Page) -> str:
    checkpoint = page.records["checkpoint"].body
    rank = f" rank {checkpoint.rank}" if checkpoint.method == "lora" else ""
    method = f"{method_name(checkpoint)}{rank}"
    when = ((page.manifest.get("cost") or {}).get("start_time") or "")[:10]
    parts = [f"{checkpoint.base.name}, {method}, {checkpoint.rows} rows", when]
    return " · ".join(part for part in parts if part)


def _metric_rows(report: Any) -> list[Compared]:
    names = sorted(report.base, key=lambda name: (name != report.primary, name))
    rows = [Compared(n, report.base[n], report.tuned[n], n == report.primary) for n in names]
    return [*rows, Compared("stops by itself", *report.stop_rate)]


def _domains_chart(report: Any) -> str | None:
    rows = [
        Compared(domain, *by[report.primary])
        for domain, by in sorted(report.by_domain.items())
        if report.primary in by and domain != NO_DOMAIN
    ]
    return interval_chart(rows) if rows else None


def _loss_chart(losses: Sequence[Row]) -> str | None:
    points = [(float(row["step"]), float(row["loss"])) for row in losses]
    return line_chart(points, label="Training loss by step") if points else None


def _safety(page: Page) -> list[tuple[str, str]]:
    report = page.records["report"].body
    base, tuned = (page.records[f"{side}_scores"].body for side in ("base", "tuned"))
    leaked = report.contaminated_rows
    return [
        (
            "general text",
            f"cross-entropy {base.general_cross_entropy:.3f} → {tuned.general_cross_entropy:.3f} "
            f"nats a token, rise {report.forgetting_nats:+.3f}, limit "
            f"{report.forgetting_limit_nats:.3f}: "
            f"{'passed' if report.forgetting_passed else 'failed'}",
        ),
        (
            "contamination",
            f"{len(leaked)} rows of the suite occur in the training rows: {', '.join(leaked)}"
            if leaked
            else NOT_CHECKED
            if leaked is None
            else "no row of the suite occurs in the training rows",
        ),
        (
            "stops by itself",
            f"{report.stop_rate[0].mean:.3f} → {report.stop_rate[1].mean:.3f} of the answers",
        ),
        *_hazards(report),
        *(
            (name, f"{base.counts.get(name, 0)} → {tuned.counts.get(name, 0)} over all rows")
            for name in sorted({*base.counts, *tuned.counts})
        ),
    ]


def _hazards(report: Any) -> list[tuple[str, str]]:
    """Red flags and safety score of the answers; nothing where nobody looked."""
    if not report.safety:
        return []
    base, tuned = report.safety
    kinds = ", ".join(
        f"{kind} {base.kinds.get(kind, 0)} → {tuned.kinds.get(kind, 0)}"
        for kind in sorted({*base.kinds, *tuned.kinds})
    )
    flags = f"{base.red_flag_count} → {tuned.red_flag_count} over all answers"
    was, now = base.safety_score, tuned.safety_score
    return [
        ("red flags", f"{flags} ({kinds})" if kinds else flags),
        (
            "safety score",
            f"{was.mean:.3f} [{was.low:.3f}, {was.high:.3f}] → {now.mean:.3f} [{now.low:.3f}, "
            f"{now.high:.3f}], by the rules {tuned.rules}",
        ),
    ]


def _training(body: Any) -> list[tuple[str, str]]:
    quantised = f", dequantised from {body.base.quantisation}" if body.base.quantisation else ""
    return [
        ("base", f"{body.base.name} ({body.base.origin}{quantised})"),
        ("method", method_told(body)),
        ("trained parameters", f"{body.trainable_parameters:,}"),
        ("rows, epochs, steps", f"{body.rows:,}, {body.epochs:g}, {body.steps:,}"),
        ("tokens", f"{body.tokens_trained:,}, {body.label_tokens:,} of them bore loss"),
        ("loss", f"{body.first_loss:.3f} → {body.final_loss:.3f}"),
        ("precision, seed", f"{body.precision}, {body.seed}"),
        ("engine", body.engine),
        *ending_told(body),
        ("weights, sha256", body.weights_sha256),
    ]


def _shares(page: Page) -> list[tuple[str, int]]:
    body = page.records["dataset"].body
    kept = sum(split.rows for split in body.splits.values())
    return [("kept", kept), *sorted(body.dropped.items(), key=lambda item: -item[1])]


def _data(page: Page) -> list[tuple[str, str]]:
    dataset = page.records["dataset"]
    body = dataset.body
    lengths = ", ".join(f"{name} {value}" for name, value in body.length_quantiles.items())
    return [
        ("dataset", f"{dataset.name}@{dataset.version}, {body.format}, {body.rows_read} rows read"),
        ("splits", ", ".join(f"{n} {split.rows}" for n, split in sorted(body.splits.items()))),
        ("tokens a row", f"{lengths or 'not measured'}; limit {body.max_length}"),
        *((name, digest) for name, digest in sorted(body.sources.items())),
    ]


def _parity(page: Page) -> list[dict[str, Any]]:
    checks = page.records["export"].body.parity["checks"]
    return [{**c, "value": _value(c["value"]), "limit": _value(c["limit"])} for c in checks]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)[:12] + "…" if len(str(value)) == DIGEST_LENGTH else str(value)


def _cost(manifest: Row) -> list[tuple[str, str]]:
    machine = manifest.get("machine") or {}
    rows = [
        ("machine", f"{machine.get('cpu', 'unknown')}, {machine.get('cores', '?')} cores"),
        ("GPU", manifest.get("gpu_type") or "none"),
        ("provider", str(manifest.get("provider", ""))),
    ]
    cost = manifest.get("cost")
    if not cost:
        return [*rows, ("cost", "not metered")]
    per_point = cost["usd_per_point"]
    return [
        *rows,
        ("start, end", f"{cost['start_time']} to {cost['end_time']}"),
        ("price", f"{cost['cost_per_hour_usd']:.4f} USD an hour ({cost['price_source']})"),
        ("cost", f"{cost['cost_total_usd']:.4f} USD for {cost['tokens']:,} tokens"),
        ("a point gained", "-" if per_point is None else f"{per_point:.4f} USD"),
    ]


def _lineage(records: Mapping[str, Artifact[Any]]) -> list[dict[str, str]]:
    return [
        {
            "label": records[role].label,
            "step": str(records[role].step.get("name", "")),
            "inputs": ", ".join(sorted(records[role].inputs)) or "files",
            "digest": records[role].digest[:16],
        }
        for role in ROLES
    ]
