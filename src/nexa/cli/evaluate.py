"""`nexa eval`, `nexa compare` and `nexa chat`: what a model can do, alone and beside another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from nexa.cli.show import Output, output_options
from nexa.cli.sources import Source, base_source_option

Count = click.IntRange(min=1)
EVAL_OPTIONS = (
    click.option("--data", type=click.Path(path_type=Path), help="Held-out rows, a file."),
    click.option("--suite", metavar="NAME[@VERSION]", help="A suite that is frozen already."),
    click.option("--rows", type=Count, help="Rows that --data is frozen to.  [default: 64]"),
    click.option(
        "--max-new-tokens",
        type=Count,
        help="Length at which an answer to --data is cut off.  [default: 160]",
    ),
    base_source_option,
)


def eval_options(function: Any) -> Any:
    """The options that say what a model is asked."""
    for option in reversed(EVAL_OPTIONS):
        function = option(function)
    return function


@click.command("eval")
@click.argument("model")
@eval_options
@output_options
def evaluate(out: Output, model: str, **asked: Any) -> None:
    """Score a model on held-out rows."""
    from nexa.orchestrate.evaluate import Asked, evaluate_model
    from nexa.orchestrate.reports import told

    scores = evaluate_model(model, Asked(**asked), Path.cwd())
    body = scores.body
    domains = sorted(body.by_domain)
    rows = [
        [name, told(overall), *(f"{body.by_domain[d][name].mean:.3f}" for d in domains)]
        for name, overall in body.metrics.items()
    ]

    def tell() -> None:
        out.say(f"{body.model.name}: {scores.label}", bold=True)
        out.table(["metric", "all", *domains], rows)
        out.say(f"stops by itself {told(body.stop_rate)}")
        out.say(f"cross-entropy on general text {body.general_cross_entropy:.3f} nats a token")

    out.show(body.model_dump(mode="json"), tell)


@click.command()
@click.argument("model_a")
@click.argument("model_b")
@eval_options
@output_options
def compare(out: Output, model_a: str, model_b: str, **asked: Any) -> None:
    """Compare two models on the same rows, B minus A."""
    from nexa.orchestrate.evaluate import Asked, compare_models
    from nexa.orchestrate.reports import told

    compared = compare_models(model_a, model_b, Asked(**asked), Path.cwd())
    rows = [
        [
            c.metric,
            told(c.difference, "+"),
            c.better,
            c.worse,
            None if c.mcnemar_p is None else f"{c.mcnemar_p:.2g}",
        ]
        for c in compared
    ]
    columns = ["metric", "B minus A", "rows better", "rows worse", "McNemar p"]
    out.show([c.model_dump(mode="json") for c in compared], lambda: out.table(columns, rows))


@click.command()
@click.argument("model")
@click.option("--system", metavar="TEXT", help="A system message to begin with.")
@click.option(
    "--max-new-tokens", type=Count, default=256, show_default=True, help="Length of an answer."
)
@base_source_option
@output_options
def chat(
    out: Output, model: str, system: str | None, max_new_tokens: int, base_source: Source
) -> None:
    """Talk to a model; an empty line or Ctrl-D ends it."""
    from nexa.orchestrate.chat import Conversation

    talk = Conversation.open(
        model, project=Path.cwd(), system=system, limit=max_new_tokens, source=base_source
    )
    while line := _next_line(out):
        for _ in out.stream(talk.answer(line)):
            pass  # shown as it comes
    out.show(talk.messages, lambda: None)


def _next_line(out: Output) -> str:
    """What the user says next; a pipe is read without asking."""
    if sys.stdin.isatty():
        out.prompt("you: ")
    return sys.stdin.readline().strip()
