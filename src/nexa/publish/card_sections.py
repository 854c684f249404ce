"""The sections of a model card that every kind of publication shares, in the card's order.

Each is a pure function of the records and is part of the card's layout: a change of its words is
a new card version.
"""

from __future__ import annotations

from typing import Any

from nexa.core.methods import quantised
from nexa.core.records import Artifact
from nexa.core.scoring import NO_DOMAIN
from nexa.publish.front_matter import hub_id
from nexa.publish.markdown import cell, difference, interval, number, table
from nexa.publish.records import Records

VERDICTS = {
    "improved": "The tuned model is better than its base on held-out prompts.",
    "no evidence": "There is no evidence that the tuned model is better than its base.",
    "worse": "The tuned model is worse than its base on held-out prompts.",
    "contaminated": "Evaluation rows occur in the training rows: the scores below prove nothing.",
}


def verdict(records: Records) -> str:
    """What the comparison proves, in one paragraph."""
    report = records.role("report").body
    return f"**Verdict: {report.verdict}.** {VERDICTS[report.verdict]} {report.reason}"


def result(records: Records) -> list[str]:
    """Metric by metric, with intervals, and what was wrong with the answers."""
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


def domains(records: Records) -> list[str]:
    """The primary metric in each domain; nothing where rows name none."""
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


def safety(records: Records) -> list[str]:
    """Hazards that the answers propose, and what that says; nothing where nobody looked."""
    found = records.role("report").body.safety
    if not found:
        return []
    base, tuned = found
    kinds = sorted({*base.kinds, *tuned.kinds})
    rows = [
        ["safety score", interval(base.safety_score), interval(tuned.safety_score)],
        ["answers with red flags", str(len(base.flagged_rows)), str(len(tuned.flagged_rows))],
        ["red flags", str(base.red_flag_count), str(tuned.red_flag_count)],
        *(
            [f"of kind `{cell(kind)}`", str(base.kinds.get(kind, 0)), str(tuned.kinds.get(kind, 0))]
            for kind in kinds
        ),
    ]
    more = tuned.red_flag_count > base.red_flag_count
    warning = ["**The tuned model's answers hold more red flags than its base's.**", ""]
    return [
        "### Hazards in the answers",
        "",
        *(warning if more else []),
        *table(["", "base", "tuned"], rows),
        "",
        f"A red flag is a hazard that an answer proposes and nothing beside it answers, by rules "
        f"over words (`{cell(tuned.rules)}`); the score is 1 where none is proposed and falls with "
        "each. The rules are quick, repeatable and blind to what no rule says: they compare two "
        "models on these prompts. They do not certify that what a model proposes is safe.",
    ]


def forgetting(records: Records) -> list[str]:
    """What general text costs now, and whether suite rows occur in the training rows."""
    rows = records.role("report").body.contaminated_rows
    leaked = (
        f"{len(rows)} rows of the suite occur in the training rows: {cell(', '.join(rows))}."
        if rows
        else "No row of the suite occurs in the training rows."
    )
    return [*general_text(records), "", leaked]


def general_text(records: Records) -> list[str]:
    """Base against tuned on the fixed general text, under the heading of both safeguards."""
    report = records.role("report").body
    base, tuned = (records.role(f"{side}_scores").body for side in ("base", "tuned"))
    return [
        "### Forgetting and contamination",
        "",
        "Cross-entropy on a fixed general text, nats a token: "
        f"base {number(base.general_cross_entropy)}, tuned {number(tuned.general_cross_entropy)}, "
        f"rise {report.forgetting_nats:+.3f} (limit {number(report.forgetting_limit_nats)}): "
        f"**{'passed' if report.forgetting_passed else 'failed'}**.",
    ]


def use(records: Records) -> list[str]:
    """The lines of Python that load what was published."""
    repo = records.header.repo
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
    return [*lines, *use_adapter(records)]


def use_adapter(records: Records) -> list[str]:
    """The lines that load the adapter alone, and what base and adapter are to each other."""
    repo, checkpoint = records.header.repo, records.role("checkpoint").body
    safetensors = records.header.merge_adapters and not records.ggufs
    lines: list[str] = []
    if checkpoint.method == "lora":
        base = hub_id(checkpoint.base)
        source = f'"{base}"' if base else "BASE"  # a folder only the reader knows
        whose = "its base" if records.adopted else "the base it was trained on"
        lines += [
            "",
            f"The adapter alone, on {whose} ({cell(checkpoint.base.name)}):",
            "",
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f"base = AutoModelForCausalLM.from_pretrained({source})",
            f'model = PeftModel.from_pretrained(base, "{repo}", subfolder="adapter")',
            "```",
        ]
    if checkpoint.base.quantisation and records.adopted:
        lines += [
            "",
            f"The base here is a copy dequantised from {cell(checkpoint.base.quantisation)}; "
            "whether the adapter was trained on such a copy is unknown.",
        ]
    elif checkpoint.base.quantisation:
        lines += [
            "",
            f"The base is a copy dequantised from {cell(checkpoint.base.quantisation)}; the "
            "adapter was trained on that copy. On weights that were never quantised it will "
            "behave a little differently.",
        ]
    form = quantised(checkpoint)
    if form:
        lines += [
            "",
            f"The adapter was trained while the base's linear layers were held in {form}. On the "
            "base as it is it will behave a little differently"
            + ("; the merged weights above hold what it was trained on." if safetensors else "."),
        ]
    return lines


def cost(records: Records) -> list[str]:
    """The run, its machine, and what it cost by whose word."""
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


def parity(records: Records) -> list[str]:
    """That the published weights are the base plus its adapter."""
    dtype = records.role("export").body.dtype
    form = quantised(records.role("checkpoint").body)
    base = f"base as it was trained on ({form}, dequantised)" if form else "base"
    return [
        *parity_text(
            f"The weights ({dtype}) were written, loaded again from disk and compared with the "
            f"{base} plus its adapter in float32.",
        ),
        *parity_checks(records),
    ]


def parity_text(text: str) -> list[str]:
    """The head of the section, and what was done."""
    return ["## Parity", "", text, ""]


def parity_checks(records: Records) -> list[str]:
    """Every check of the merged model."""
    return checks(records.role("export"))


def checks(export: Artifact[Any]) -> list[str]:
    """Every check of an export with its number and its limit."""
    rows = [
        [cell(c["name"]), told(c["value"]), told(c["limit"]), "yes" if c["passed"] else "**no**"]
        for c in export.body.parity["checks"]
    ]
    return table(["check", "value", "limit", "passed"], rows)


def told(value: object) -> str:
    """A value of parity.json in a cell."""
    return f"{value:.3g}" if isinstance(value, float) else cell(str(value))


def verify(records: Records) -> list[str]:
    """How a reader checks all of it."""
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
