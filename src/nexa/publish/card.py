"""The model card: README.md, written from nexa/records.jsonl and from nothing else.

`render_card` is pure, so `nexa verify` renders it again and compares byte for byte: a number that
was edited by hand is found even if every hash was refreshed. A new layout gets a new version and
the old one stays, or older publications would no longer verify.
"""

from __future__ import annotations

from collections.abc import Callable

from nexa.core.errors import IntegrityError
from nexa.core.scoring import NO_DOMAIN
from nexa.publish.front_matter import front_matter, hub_id
from nexa.publish.markdown import cell, difference, interval, number, table
from nexa.publish.records import Records

CARD_VERSION = "1"

VERDICTS = {
    "improved": "The tuned model is better than its base on held-out prompts.",
    "no evidence": "There is no evidence that the tuned model is better than its base.",
    "worse": "The tuned model is worse than its base on held-out prompts.",
    "contaminated": "Evaluation rows occur in the training rows: the scores below prove nothing.",
}


def render_card(records: Records) -> str:
    """The card of a publication, in the layout that its header names.

    Raises:
        IntegrityError: a card version that this nexa does not know.
    """
    version = records.header.card_version
    if version not in CARDS:
        raise IntegrityError(
            f"the card has the layout version {version!r}",
            found="this nexa knows " + ", ".join(CARDS),
            fix="pip install --upgrade nexa-compute",
        )
    return CARDS[version](records)


def _card_v1(records: Records) -> str:
    sections = (
        _headline,
        _result,
        _domains,
        _forgetting,
        _use,
        _training,
        _data,
        _cost,
        _parity,
        _verify,
    )
    written = (section(records) for section in sections)
    body = "\n\n".join("\n".join(lines) for lines in written if lines)
    return f"{front_matter(records)}\n{body}\n"


CARDS: dict[str, Callable[[Records], str]] = {"1": _card_v1}


def _headline(records: Records) -> list[str]:
    checkpoint, report = records.role("checkpoint").body, records.role("report").body
    method = "a LoRA adapter, merged" if checkpoint.method == "lora" else "all weights trained"
    return [
        f"# {records.header.repo.split('/')[1]}",
        "",
        f"`{cell(checkpoint.base.name)}`, fine-tuned ({method}) on {checkpoint.rows} rows.",
        "",
        f"**Verdict: {report.verdict}.** {VERDICTS[report.verdict]} {report.reason}",
    ]


def _result(records: Records) -> list[str]:
    suite, report = records.role("suite").body, records.role("report").body
    decoding = records.role("tuned_answers").body.decoding
    differences = {c.metric: c for c in report.comparisons}
    rows = []
    for metric in sorted(report.base, key=lambda name: (name != report.primary, name)):
        compared = differences.get(metric)
        rows.append(
            [
                f"**{metric}**" if metric == report.primary else metric,
                interval(report.base[metric]),
                interval(report.tuned[metric]),
                difference(compared.difference) if compared else "",
                f"{compared.better} / {compared.worse}" if compared else "",
                f"{compared.mcnemar_p:.2g}" if compared and compared.mcnemar_p is not None else "",
            ]
        )
    rows.append(["stops by itself", *map(interval, report.stop_rate), "", "", ""])
    settings = ", ".join(f"{key} {value}" for key, value in sorted(decoding.items()))
    return [
        "## Base against tuned",
        "",
        f"{suite.rows} held-out prompts in {suite.groups} groups (task `{suite.task}`), the same "
        "prompts and the same decoding for both. Means with 95 % intervals, bootstrapped by group. "
        f"The verdict is drawn from **{report.primary}**.",
        "",
        *table(["metric", "base", "tuned", "tuned - base", "rows better / worse", "p"], rows),
        "",
        f"Decoding: {cell(settings)}. p is McNemar's, exact and two-sided.",
        *_counts(records),
    ]


def _counts(records: Records) -> list[str]:
    """What was wrong with the answers, counted over all rows."""
    base, tuned = (records.role(f"{side}_scores").body.counts for side in ("base", "tuned"))
    names = sorted({*base, *tuned})
    rows = [[cell(name), str(base.get(name, 0)), str(tuned.get(name, 0))] for name in names]
    return ["", *table(["counted over all rows", "base", "tuned"], rows)] if rows else []


def _domains(records: Records) -> list[str]:
    suite, report = records.role("suite").body, records.role("report").body
    rows = [
        [cell(domain), str(suite.domains.get(domain, "")), *map(interval, by[report.primary])]
        for domain, by in sorted(report.by_domain.items())
        if report.primary in by and domain != NO_DOMAIN
    ]
    if not rows:
        return []
    head = ["domain", "rows", "base", "tuned"]
    return [f"### {report.primary} by domain", "", *table(head, rows)]


def _forgetting(records: Records) -> list[str]:
    report = records.role("report").body
    base, tuned = (records.role(f"{side}_scores").body for side in ("base", "tuned"))
    rows = report.contaminated_rows
    leaked = (
        f"{len(rows)} rows of the suite occur in the training rows: {cell(', '.join(rows))}."
        if rows
        else "No row of the suite occurs in the training rows."
    )
    return [
        "### Forgetting and contamination",
        "",
        "Cross-entropy on a fixed general text, nats a token: "
        f"base {number(base.general_cross_entropy)}, tuned {number(tuned.general_cross_entropy)}, "
        f"rise {report.forgetting_nats:+.3f} (limit {number(report.forgetting_limit_nats)}): "
        f"**{'passed' if report.forgetting_passed else 'failed'}**.",
        "",
        leaked,
    ]


def _use(records: Records) -> list[str]:
    repo, checkpoint = records.header.repo, records.role("checkpoint").body
    lines = ["## Use it"]
    if records.header.merge_adapters:
        lines += [
            "",
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f'model = AutoModelForCausalLM.from_pretrained("{repo}")  # or the path of this folder',
            f'tokenizer = AutoTokenizer.from_pretrained("{repo}")',
            "```",
        ]
    if checkpoint.method == "lora":
        base = hub_id(checkpoint.base)
        source = f'"{base}"' if base else "BASE"  # a folder only the reader knows
        lines += [
            "",
            f"The adapter alone, on the base it was trained on ({cell(checkpoint.base.name)}):",
            "",
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f"base = AutoModelForCausalLM.from_pretrained({source})",
            f'model = PeftModel.from_pretrained(base, "{repo}", subfolder="adapter")',
            "```",
        ]
    if checkpoint.base.quantisation:
        lines += [
            "",
            f"The base is a copy dequantised from {cell(checkpoint.base.quantisation)}; the "
            "adapter was trained on that copy. On weights that were never quantised it will "
            "behave a little differently.",
        ]
    return lines


def _training(records: Records) -> list[str]:
    body = records.role("checkpoint").body
    rows = [
        ["base", f"`{cell(body.base.name)}` ({cell(body.base.origin)})"],
        ["base digest", f"`{body.base.digest}`"],
    ]
    if body.base.quantisation:
        rows.append(["base dequantised from", cell(body.base.quantisation)])
    if body.base.source_sha256:
        rows.append(["base's source, sha256", f"`{body.base.source_sha256}`"])
    if body.method == "lora":
        modules = ", ".join(body.target_modules)
        rows.append(["method", f"LoRA, rank {body.rank}, alpha {body.alpha:g}, on {cell(modules)}"])
    else:
        rows.append(["method", "full"])
    rows += [
        ["trained parameters", f"{body.trainable_parameters:,}"],
        ["rows", f"{body.rows:,}"],
        ["epochs, steps", f"{body.epochs:g}, {body.steps}"],
        ["tokens trained", f"{body.tokens_trained:,}, {body.label_tokens:,} of them bore loss"],
        [
            "loss",
            f"{number(body.first_loss)} at the first step, {number(body.final_loss)} at the end",
        ],
        ["precision, seed", f"{body.precision}, {body.seed}"],
        ["engine", cell(body.engine)],
        ["weights, sha256", f"`{body.weights_sha256}`"],
    ]
    return ["## Training", "", *table(["", ""], rows)]


def _data(records: Records) -> list[str]:
    dataset = records.role("dataset")
    body = dataset.body
    splits = ", ".join(f"{name} {split.rows}" for name, split in sorted(body.splits.items()))
    dropped = ", ".join(f"{cell(reason)} {n}" for reason, n in sorted(body.dropped.items()))
    rows = [[f"`{cell(name)}`", f"`{digest}`"] for name, digest in sorted(body.sources.items())]
    return [
        "## Data",
        "",
        f"`{dataset.name}@{dataset.version}`, format {cell(body.format)}: {body.rows_read} rows "
        f"read; kept: {splits}; dropped: {dropped or 'none'}.",
        "",
        *table(["source", "sha256"], rows),
    ]


def _cost(records: Records) -> list[str]:
    run = records.header.run
    machine, versions = run.machine, run.versions
    rows = [
        ["run", f"`{run.run_id}`"],
        ["provider", cell(run.provider)],
        ["machine", cell(f"{machine.get('cpu', '?')}, {machine.get('cores', '?')} cores")],
        ["GPU", cell(run.gpu_type or "none")],
    ]
    if run.cost:
        cost = run.cost
        per_point = "-" if cost.usd_per_point is None else f"{cost.usd_per_point:.4f} USD"
        rows += [
            ["start, end (UTC)", f"{cost.start_time}, {cost.end_time}"],
            ["price", f"{cost.cost_per_hour_usd:.4f} USD an hour ({cell(cost.price_source)})"],
            ["cost", f"{cost.cost_total_usd:.4f} USD"],
            ["cost a point gained", per_point],
        ]
    named = [f"{name} {versions[name]}" for name in ("torch", "transformers") if name in versions]
    rows.append(["software", cell(", ".join([f"nexa {run.nexa_version}", *named]))])
    return ["## Run and cost", "", *table(["", ""], rows)]


def _parity(records: Records) -> list[str]:
    body = records.role("export").body
    rows = [
        [
            cell(c["name"]),
            _value(c["value"]),
            _value(c["limit"]),
            "yes" if c["passed"] else "**no**",
        ]
        for c in body.parity["checks"]
    ]
    return [
        "## Parity",
        "",
        f"The weights ({body.dtype}) were written, loaded again from disk and compared with the "
        "base plus its adapter in float32.",
        "",
        *table(["check", "value", "limit", "passed"], rows),
    ]


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else cell(str(value))


def _verify(records: Records) -> list[str]:
    return [
        "## Verify",
        "",
        "```",
        "pip install nexa-compute",
        "nexa verify . --expect ROOT",
        "```",
        "",
        "checks every file against its digest, derives the scores and the report again from the "
        "rows in `nexa/`, and renders this card anew; `ROOT` is the digest that the publisher was "
        "given. It proves that nothing was changed, not who published it.",
    ]
