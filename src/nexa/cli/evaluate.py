"""`nexa eval`, `nexa compare` and `nexa chat`: what a model can do, alone and beside another."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.show import Output, output_options
from nexa.cli.sources import Source, base_source_option

if TYPE_CHECKING:
    from nexa.core.records import Artifact, ScoresBody
    from nexa.lm.local import Engine
    from nexa.orchestrate.evaluate import Evaluated

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
    base_source_option,
    engine_option,
)


def eval_options(function: Any) -> Any:
    """The options that say what a model is asked."""
    for option in reversed(EVAL_OPTIONS):
        function = option(function)
    return function


@click.command("eval")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--parents", is_flag=True, help="Also the models that MODEL was made from.")
@eval_options
@output_options
def evaluate(out: Output, models: tuple[str, ...], parents: bool, **asked: Any) -> None:
    """Score models on the same held-out rows; several also beside the first."""
    from nexa.orchestrate.evaluate import Asked, evaluate_models

    made = evaluate_models(models, Asked(**asked), Path.cwd(), parents=parents)
    if len(models) == 1 and not parents:
        _show_one(out, made[0].scores)
    else:
        _show_all(out, made)


def _show_one(out: Output, scores: Artifact[ScoresBody]) -> None:
    from nexa.orchestrate.reports import told

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


def _show_all(out: Output, made: list[Evaluated]) -> None:
    """A row for each model and metric; as JSON what one model has, for each, with `minus_first`."""
    from nexa.orchestrate.reports import told

    rows = []
    for each in made:
        body, minus = each.scores.body, {c.metric: c.difference for c in each.minus_first or []}
        compared = {metric: told(difference, "+") for metric, difference in minus.items()}
        name = body.model.name
        rows += [[name, m, told(found), compared.get(m)] for m, found in body.metrics.items()]
        rows.append([name, "stops by itself", told(body.stop_rate), None])
        nats = f"{body.general_cross_entropy:.3f}"
        rows.append([name, "cross-entropy, general text", nats, None])
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
