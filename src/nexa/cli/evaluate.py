"""`nexa eval`, `nexa compare` and `nexa chat`: what a model can do, alone and beside another."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.show import Cell, Output, output_options
from nexa.cli.sources import Source, base_source_option
from nexa.cli.teaching import PriceType, price_of, tell_previews

if TYPE_CHECKING:
    from nexa.core.records import Artifact, Comparison, Interval, ScoresBody, Spent
    from nexa.lm.local import Engine
    from nexa.orchestrate.evaluate import Asked, Evaluated, Terms

Count = click.IntRange(min=1)
ENGINES = ("auto", "fused", "transformers", "llama.cpp")
engine_option = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    help="What answers. auto: llama.cpp for GGUF files, if it is installed, and torch for all "
    "other models; models that are compared are answered by the same.",
)
EVAL_OPTIONS = (
    click.option("--data", type=click.Path(path_type=Path), help="Held-out rows, a file."),
    click.option("--suite", metavar="NAME[@VERSION]", help="A suite that is frozen already."),
    click.option("--rows", type=Count, help="Rows that --data is frozen to.  [default: 64]"),
    click.option(
        "--max-new-tokens",
        type=Count,
        help="Length at which an answer to --data is cut off.  [default: 160]",
    ),
    click.option(
        "--task",
        metavar="NAME|FILE",
        help="How --data is scored: a task, a .yaml file, FILE.py:NAME; left out: by its answers.",
    ),
    click.option(
        "--metrics",
        metavar="NAME[,NAME]",
        default="",
        help="Metrics of the task, its primary one always.  [default: all]",
    ),
    click.option(
        "--run-code", is_flag=True, help="Run the code of answers, confined, where the task asks."
    ),
    base_source_option,
    engine_option,
)
API_OPTIONS = (
    click.option("--base-url", metavar="URL", help="An OpenAI-compatible server to ask."),
    click.option(
        "--price",
        type=PriceType(),
        metavar="IN,OUT",
        help="Dollars for a million tokens of an API model, where the table has none or another.",
    ),
    click.option(
        "--budget-usd",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        help="Never spend more than this on an API model; what was answered by then is kept.",
    ),
    click.option("--concurrency", type=Count, metavar="N", help="Requests under way at once."),
    click.option("--per-minute", type=Count, metavar="N", help="Requests a minute at most."),
)
HARNESS_OPTIONS = (
    click.option(
        "--harness",
        metavar="TASK[,TASK]",
        help="Tasks of the lm-evaluation-harness (the extra `eval`) instead of rows.",
    ),
    click.option(
        "--tasks-path",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="A folder of more --harness tasks.",
    ),
    click.option(
        "--num-fewshot",
        type=click.IntRange(min=0),
        metavar="N",
        help="Examples before each --harness question, where the task does not say.",
    ),
    click.option("--limit", type=Count, metavar="N", help="The first so many --harness questions."),
    click.option(
        "--apply-chat-template", is_flag=True, help="Write --harness questions as a conversation."
    ),
    click.option(
        "--batch-size", type=Count, metavar="N", help="--harness rows at once.  [default: 1]"
    ),
    click.option(
        "--dtype",
        type=click.Choice(["bfloat16", "float32"]),
        help="What --harness models are computed in.  [default: bfloat16]",
    ),
    click.option(
        "--unsafe-code", is_flag=True, help="Let --harness tasks run code that models write."
    ),
)


def eval_options(function: Any) -> Any:
    """The options that say what a model is asked, and on which terms."""
    for option in reversed((*EVAL_OPTIONS, *API_OPTIONS)):
        function = option(function)
    return function


def harness_options(function: Any) -> Any:
    """The options of tasks from the lm-evaluation-harness."""
    for option in reversed(HARNESS_OPTIONS):
        function = option(function)
    return function


@click.command("eval")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--parents", is_flag=True, help="Also the models that MODEL was made from.")
@eval_options
@harness_options
@click.option("--dry-run", is_flag=True, help="What API models would cost; send nothing.")
@output_options
def evaluate(
    out: Output,
    models: tuple[str, ...],
    parents: bool,
    harness: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Score models on the same held-out rows; several also beside the first.

    MODEL may be behind an API: gpt-4o, openai:NAME, anthropic:NAME, NAME@http://HOST/v1. Where it
    was stopped, the same command asks for the rest, and nothing is paid for twice.
    """
    lm_eval = {name: options.pop(name) for name in HARNESS_NAMES}
    if harness is not None:
        _harness(out, models, harness, lm_eval, parents or dry_run, options)
        return
    _refuse(lm_eval, "belongs to --harness TASK")
    from nexa.orchestrate.evaluate import evaluate_models, preview_models

    asked, terms = _asked(options)
    if dry_run:
        found = preview_models(models, asked, terms, Path.cwd())
        out.show([each.to_json() for each in found], lambda: tell_previews(out, found))
        return
    made = evaluate_models(models, asked, Path.cwd(), parents=parents, terms=terms)
    if len(models) == 1 and not parents:
        _show_one(out, made[0].scores)
    else:
        _show_all(out, made)


HARNESS_NAMES = (
    "tasks_path",
    "num_fewshot",
    "limit",
    "apply_chat_template",
    "batch_size",
    "dtype",
    "unsafe_code",
)


def _asked(options: dict[str, Any]) -> tuple[Asked, Terms]:
    """What is asked, and on which terms models of an API are."""
    from nexa.orchestrate.evaluate import Asked, Terms

    terms = Terms(
        base_url=options.pop("base_url"),
        price=price_of(options.pop("price")),
        budget_usd=options.pop("budget_usd"),
        concurrency=options.pop("concurrency"),
        per_minute=options.pop("per_minute"),
    )
    metrics = tuple(name for name in options.pop("metrics").split(",") if name)
    return Asked(metrics=metrics, **options), terms


def _refuse(options: dict[str, Any], why: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise click.UsageError(f"{given[0]} {why}")


def _harness(
    out: Output,
    models: tuple[str, ...],
    tasks: str,
    lm_eval: dict[str, Any],
    odd: bool,
    options: dict[str, Any],
) -> None:
    """Tasks of the lm-evaluation-harness: one table a task."""
    from nexa.orchestrate.evaluate_harness import Harness, evaluate_harness

    source, engine = options.pop("base_source"), options.pop("engine")
    _refuse({"parents or --dry-run": odd, **options}, "has no meaning with --harness")
    known = {name: value for name, value in lm_eval.items() if value is not None}
    names = tuple(name for name in tasks.split(",") if name)
    wanted = Harness(tasks=names, base_source=source, engine=engine, **known)
    made = evaluate_harness(models, wanted, Path.cwd())
    if len(made) == 1:
        _show_one(out, made[0].scores)
    else:
        _show_all(out, made)


def _show_one(out: Output, scores: Artifact[ScoresBody]) -> None:
    from nexa.orchestrate.reports import told

    body = scores.body
    domains = sorted(body.by_domain)
    rows = [
        [name, told(overall), *(_mean(body.by_domain[d].get(name)) for d in domains)]
        for name, overall in body.metrics.items()
    ]
    rows += [[name, told(found), *("" for _ in domains)] for name, found in _corpus(body).items()]

    def tell() -> None:
        out.say(f"{body.model.name}: {scores.label}", bold=True)
        out.table(["metric", "all", *domains], rows)
        for line in _also(body):
            out.say(line)

    out.show(body.model_dump(mode="json"), tell)


def _mean(found: Interval | None) -> str | None:
    return None if found is None else f"{found.mean:.3f}"


def _corpus(body: ScoresBody) -> dict[str, Interval]:
    """Metrics that no single row has and that are not told with the others."""
    return {name: found for name, found in (body.corpus or {}).items() if name not in body.metrics}


def _also(body: ScoresBody) -> list[str]:
    """What is told below a table of scores."""
    from nexa.orchestrate.reports import told

    lines = [f"stops by itself {told(body.stop_rate)}"]
    if body.general_cross_entropy is not None:
        lines.append(f"cross-entropy on general text {body.general_cross_entropy:.3f} nats a token")
    for name, missing in (body.missing or {}).items():
        low, high = (body.bounds or {}).get(name, (0.0, 1.0))
        lines.append(
            f"{name}: {missing} rows without a score; with them between {low:.3f} and {high:.3f}"
        )
    if body.safety is not None:
        flags = f"{body.safety.red_flag_count} red flags"
        lines.append(f"safety score {told(body.safety.safety_score)}, {flags}")
    if body.spent is not None:
        lines.append(_spent(body.spent))
    return lines


def _spent(spent: Spent) -> str:
    """Latency and cost of a prompt."""
    waits = [
        f"{name} {wait_s:.3f} s"
        for name, wait_s in (("median", spent.latency_s_p50), ("95 %", spent.latency_s_p95))
        if wait_s is not None
    ]
    latency = ", ".join(waits) or "not measured"
    if spent.cost_usd is None:
        cost = "price unknown"
    else:
        each = spent.cost_usd / max(spent.requests, 1)
        cost = f"{each:.6f} USD a prompt, {spent.cost_usd:.4f} in all ({spent.price_source})"
    return f"latency of a prompt: {latency}; {cost}"


def _show_all(out: Output, made: list[Evaluated]) -> None:
    """A row for each model and metric; as JSON what one model has, for each, with `minus_first`."""
    from nexa.orchestrate.reports import told

    rows = []
    for each in made:
        body, minus = each.scores.body, {c.metric: c.difference for c in each.minus_first or []}
        compared = {metric: told(difference, "+") for metric, difference in minus.items()}
        name = body.model.name
        rows += [[name, m, told(found), compared.get(m)] for m, found in body.metrics.items()]
        rows += [[name, m, told(found), None] for m, found in _corpus(body).items()]
        rows.append([name, "stops by itself", told(body.stop_rate), None])
        if body.general_cross_entropy is not None:
            nats = f"{body.general_cross_entropy:.3f}"
            rows.append([name, "cross-entropy, general text", nats, None])
        if body.safety is not None:
            rows.append([name, "safety score", told(body.safety.safety_score), None])
    columns = ["model", "metric", "score", f"minus {made[0].scores.body.model.name}"]
    out.show([_record(each) for each in made], lambda: out.table(columns, rows))


def _record(made: Evaluated) -> dict[str, Any]:
    minus = made.minus_first
    told = None if minus is None else [compared.model_dump(mode="json") for compared in minus]
    return {**made.scores.body.model_dump(mode="json"), "minus_first": told}


@click.command()
@click.argument("model_a")
@click.argument("model_b")
@eval_options
@output_options
def compare(out: Output, model_a: str, model_b: str, **options: Any) -> None:
    """Compare two models on the same rows, B minus A; either may be behind an API."""
    from nexa.orchestrate.evaluate import compare_models

    asked, terms = _asked(options)
    compared = compare_models(model_a, model_b, asked, Path.cwd(), terms)

    def tell() -> None:
        out.table(*_comparison_table(compared))
        for line in _unsure(compared):
            out.say(line)

    out.show([c.model_dump(mode="json") for c in compared], tell)


def _comparison_table(compared: list[Comparison]) -> tuple[list[str], list[list[Cell]]]:
    """Differences, and how often chance alone would show such ones."""
    from nexa.orchestrate.reports import told

    columns = ["metric", "B minus A", "rows better", "rows worse", "McNemar p", "p", "adjusted p"]
    rows: list[list[Cell]] = [
        [
            c.metric,
            told(c.difference, "+"),
            c.better,
            c.worse,
            *(_p(value) for value in (c.mcnemar_p, c.p, c.adjusted_p)),
        ]
        for c in compared
    ]
    return columns, rows


def _p(value: float | None) -> str | None:
    return None if value is None else f"{value:.2g}"


def _unsure(compared: list[Comparison]) -> list[str]:
    """What scores that are missing leave open."""
    return [
        f"{c.metric}: {c.missing[0]} rows of A and {c.missing[1]} of B have no score; with them "
        f"between {c.bounds[0]:+.3f} and {c.bounds[1]:+.3f}"
        for c in compared
        if c.missing and any(c.missing) and c.bounds
    ]


@click.command()
@click.argument("model")
@click.option("--system", metavar="TEXT", help="A system message to begin with.")
@click.option(
    "--max-new-tokens", type=Count, default=256, show_default=True, help="Length of an answer."
)
@base_source_option
@engine_option
@output_options
def chat(
    out: Output,
    model: str,
    system: str | None,
    max_new_tokens: int,
    base_source: Source,
    engine: Engine,
) -> None:
    """Talk to a model; an empty line or Ctrl-D ends it."""
    from nexa.orchestrate.chat import Conversation

    talk = Conversation.open(
        model,
        project=Path.cwd(),
        system=system,
        limit=max_new_tokens,
        source=base_source,
        engine=engine,
    )
    with contextlib.closing(talk):
        while line := _next_line(out):
            for _ in out.stream(talk.answer(line)):
                pass  # shown as it comes
    out.show(talk.messages, lambda: None)


def _next_line(out: Output) -> str:
    """What the user says next; a pipe is read without asking."""
    if sys.stdin.isatty():
        out.prompt("you: ")
    return sys.stdin.readline().strip()
