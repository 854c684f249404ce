"""`nexa improve` and `nexa feedback`: rows against weaknesses, with and without training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.show import Cell, Output, output_options
from nexa.cli.teaching import PriceType, price_of

if TYPE_CHECKING:
    from nexa.orchestrate.improve.feedback import Fed
    from nexa.orchestrate.improve.loop import Improved
    from nexa.orchestrate.improve.told import RoundTold, SliceTold

COLOURS = {True: "green", False: "yellow"}


def feedback_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a pass, which it gets as one `Options`."""

    @click.option(
        "--generator",
        metavar="NAME",
        help="Who makes candidates: pool, teacher, paraphrase, hard_negative or random.",
    )
    @click.option("--pool", metavar="FILE", help="Labelled rows that nobody trained on yet.")
    @click.option(
        "--rule",
        "rules",
        multiple=True,
        metavar="TEXT",
        help="What is weak, e.g. 'exact < 0.5'; several: any of them.",
    )
    @click.option("--rows", type=click.IntRange(min=1), metavar="N", help="Candidates at most.")
    @click.option("--teacher", metavar="MODEL", help="Who writes rows, as in nexa distill.")
    @click.option("--base-url", metavar="URL", help="An OpenAI-compatible server to ask.")
    @click.option(
        "--price",
        type=PriceType(),
        metavar="IN,OUT",
        help="The teacher's, in dollars for a million tokens in and out.",
    )
    @click.option(
        "--budget-usd",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        help="Never spend more: teacher and machine, killed attempts among it.",
    )
    @functools.wraps(function)
    def run(
        *,
        generator: str | None,
        pool: str | None,
        rules: tuple[str, ...],
        rows: int | None,
        teacher: str | None,
        base_url: str | None,
        price: tuple[float, float] | None,
        budget_usd: float | None,
        **parameters: Any,
    ) -> None:
        from nexa.orchestrate.improve.asked import Options

        options = Options(
            generator=generator,
            pool=pool,
            rules=rules,
            rows=rows,
            teacher=teacher,
            base_url=base_url,
            price=price_of(price),
            budget_usd=budget_usd,
        )
        function(options=options, **parameters)

    return run


@click.command()
@click.argument("config", default="config.yaml", type=click.Path(path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), metavar="N", help="Rounds at most.")
@feedback_options
@click.option("--control", is_flag=True, help="Also train on as many rows at random, and compare.")
@click.option("--dry-run", is_flag=True, help="Show the plan; train nothing, send nothing.")
@click.option("--no-check", is_flag=True, help="Without the flight check (nexa check).")
@output_options
def improve(
    out: Output,
    config: Path,
    rounds: int | None,
    options: Any,
    control: bool,
    dry_run: bool,
    no_check: bool,
) -> None:
    """Add rows where the model is weak, train again, and keep what is better.

    Weaknesses are looked for on one part of the held-out rows, and a round is judged on the other,
    which no generator sees: it is accepted, or rolled back with the reason. The same command goes
    on where it was stopped. Exit code 25 says that the budget ended it before a round was kept.
    """
    from dataclasses import replace

    asked = replace(options, rounds=rounds, control=control)
    if dry_run:
        from nexa.orchestrate.improve.preview import preview_improvement

        planned = preview_improvement(config, asked)
        out.show(planned, lambda: _tell_plan(out, planned))
        return
    from nexa.orchestrate.improve.loop import improve as run_improvement

    done = run_improvement(config, asked, check=not no_check)
    out.show(done.to_json(), lambda: _tell(out, done))
    click.get_current_context().exit(done.exit_code)


@click.command()
@click.argument("run", default="latest")
@feedback_options
@output_options
def feedback(out: Output, run: str, options: Any) -> None:
    """Make a new version of a dataset with rows where its model is weak.

    Nothing is trained. With data.train_path: dataset/NAME in config.yaml the next nexa train takes
    the new version. A rule may name what a judge grades ('falsifiability < 4.0'), once nexa judge
    has graded the answers that this command makes and names.
    """
    from nexa.orchestrate.improve.feedback import feedback as give_feedback

    done = give_feedback(run, options, Path.cwd())
    out.show(done.to_json(), lambda: _tell_feedback(out, done))


# -- for people ----------------------------------------------------------------------------------


def _tell(out: Output, done: Improved) -> None:
    for one in done.rounds:
        _tell_round(out, one)
    accepted = f"{done.accepted} of {len(done.rounds)} rounds accepted"
    told = accepted if done.rounds else "no round was begun"
    out.say()
    out.say(f"{told}: {done.ended}", fg=COLOURS[bool(done.accepted)], bold=True)
    if done.detail:
        out.say(f"  {done.detail}")
    if done.rounds and not done.accepted:
        out.say("  Nothing improved: the model is the one that the first round began with.")
    out.say()
    pairs: dict[str, Cell] = {
        "model": f"{done.output}, of run {done.run_id}",
        "dataset": done.dataset,
        "spent": f"{done.spent_usd:.4f} USD",
    }
    out.pairs(pairs)
    if done.accepted:
        out.say(f"Next: nexa lineage {done.run_id}, nexa publish --repo OWNER/NAME {done.output}")


def _tell_round(out: Output, one: RoundTold) -> None:
    out.say()
    after = f" -> {one.dataset_after}" if one.dataset_after else ""
    out.say(f"Round {one.number}: {one.dataset_before}{after}, {one.added} rows added", bold=True)
    if one.rejected:
        left_out = ", ".join(f"{reason} {n}" for reason, n in one.rejected.items())
        out.say(f"  candidates left out: {left_out}")
    for title, slices in (
        ("", one.slices),
        ("control: as many rows at random", one.control),
        ("this round's model beside the control's", one.beside),
    ):
        if slices:
            out.say(f"  {title}:" if title else "")
            out.table(["slice", "", "rows", "before", "after", "difference"], _rows(slices))
    out.say(f"  {one.reason}", fg=COLOURS[one.accepted])


def _rows(slices: tuple[SliceTold, ...]) -> list[list[Cell]]:
    return [
        [
            one.name,
            "weak" if one.weak else "",
            one.rows,
            _share(one.before),
            _share(one.after),
            f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]",
        ]
        for one in slices
    ]


def _share(mean: float | None) -> str:
    return "-" if mean is None else f"{mean:.3f}"


def _tell_plan(out: Output, planned: dict[str, Any]) -> None:
    out.pairs({name: value for name, value in planned.items() if not isinstance(value, list)})
    if planned["weak"]:
        out.say()
        out.table(["weak now", "mean", "rows"], planned["weak"])
    out.say("Nothing was sent, nothing was trained.")


def _tell_feedback(out: Output, done: Fed) -> None:
    out.table(["weak", "mean", "rows"], [[s.name, f"{s.mean:.3f}", s.rows] for s in done.weak])
    if done.dataset_after is None:
        out.say(f"{done.dataset_before} stays as it is: {done.why}")
        return
    out.say()
    out.say(f"{done.dataset_after}: {done.added} rows added to {done.dataset_before}", bold=True)
    if done.rejected:
        left_out = ", ".join(f"{reason} {n}" for reason, n in done.rejected.items())
        out.say(f"  candidates left out: {left_out}")
    name = done.dataset_after.partition("@")[0]
    out.say(f"Next: data.train_path: {name} in config.yaml, then nexa train")
