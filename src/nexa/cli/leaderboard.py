"""`nexa leaderboard`: models beside each other, scored alike: quality, cost, latency, safety."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.show import Output, output_options

if TYPE_CHECKING:
    from nexa.cli.show import Cell
    from nexa.orchestrate.leaderboards import Found
    from nexa.ui.leaderboard_page import Sample, View
    from nexa.ui.leaderboard_rank import Placed

SEAL_SHOWN = 16
HTML_SAMPLES = 3


@click.command()
@click.argument("places", nargs=-1, metavar="[PROJECT|FOLDER|FILE|URI]...")
@click.option("--suite", metavar="NAME[@VERSION]", help="Boards of this suite only.")
@click.option("--metric", metavar="METRIC", help="Rank by this one, not by the primary.")
@click.option("--seal", metavar="SEAL", help="The board with this seal, or its beginning.")
@click.option("--against", metavar="MODEL", help="Each model minus this one, on the same rows.")
@click.option("--all", "every_metric", is_flag=True, help="Also a board for each other metric.")
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    help="Random answers of each model to read, red flags first.  [default: 0; with --html 3]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which answers those are.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write one static page, too.",
)
@output_options
def leaderboard(
    out: Output,
    places: tuple[str, ...],
    html: Path | None,
    samples: int | None,
    **wanted: Any,
) -> None:
    """Show models beside each other, one board a suite and seal.

    Without an argument the boards of this project are shown; projects, folders of durable storage
    and leaderboard_*.parquet files are put together. Models that cannot be told apart share a
    rank; those that saw rows of the suite in training have none, and stand below.
    """
    from nexa.orchestrate.leaderboards import Wanted, write_page
    from nexa.orchestrate.leaderboards import leaderboard as boards_of
    from nexa.ui.leaderboard_page import board_json

    count = samples if samples is not None else HTML_SAMPLES if html else 0
    found = boards_of(Wanted(places=places, samples=count, **wanted), Path.cwd())
    if html is not None:
        write_page(html, found)
    page = None if html is None else str(html)
    boards = [board_json(view) for view in found.views]
    record = {"boards": boards, "notes": list(found.notes), "page": page}
    out.show(record, lambda: _tell(out, found, page))


def _tell(out: Output, found: Found, page: str | None) -> None:
    for number, view in enumerate(found.views):
        if number:
            out.say()
        _tell_board(out, view)
    for note in found.notes:
        out.say(f"\n{note}")
    if page is not None:
        out.say(f"\nthe page: {page}")


def _tell_board(out: Output, view: View) -> None:
    from nexa.ui.leaderboard_page import told_front

    board = view.board
    out.say(f"{board.suite}, {board.metric}; seal {board.seal[:SEAL_SHOWN]}", bold=True)
    minus = [f"minus {view.against_model}"] if view.against_model else []
    columns = ["rank", "model", "role", board.metric, *minus, "rows", "missing", "safety"]
    columns += ["red flags", "latency, s", "USD / 1000", "verdict"]
    if board.ranked:
        out.table(columns, [_row(view, placed) for placed in board.ranked])
    _tell_apart(out, view)
    for one in view.fronts:
        for line in told_front(one):
            out.say(line)
    for entry in board.entries:
        for sample in view.samples.get(entry.key, ()):
            _tell_sample(out, entry.model, sample)


def _row(view: View, placed: Placed) -> list[Cell]:
    from nexa.ui import leaderboard_page as page

    entry = placed.entry
    minus = view.against.get(entry.key)
    difference = [page.told_difference(minus) if minus else "-"] if view.against_model else []
    return [
        f"{placed.rank}{' =' if placed.tied_by else ''}",
        entry.model,
        entry.role,
        page.told_score(entry.mean, entry.low, entry.high),
        *difference,
        entry.rows,
        page.told_missing(entry),
        page.told_number(entry.safety_score, ".3f"),
        page.told_number(entry.red_flag_count, "d"),
        f"{page.told_number(entry.latency_s_p50)} / {page.told_number(entry.latency_s_p95)}",
        page.told_number(entry.cost_usd_per_1000_prompts, ".4g"),
        entry.verdict or "-",
    ]


def _tell_apart(out: Output, view: View) -> None:
    from nexa.ui.leaderboard_page import told_number, told_score

    if not view.board.apart:
        return
    out.say("contaminated, so not ranked:")
    rows: list[list[Cell]] = [
        [
            entry.model,
            told_score(entry.mean, entry.low, entry.high),
            told_score(entry.clean_mean, entry.clean_low, entry.clean_high),
            told_score(entry.contaminated_mean, None, None),
            told_number(entry.contaminated_rows, "d"),
            ", ".join(entry.contaminated_ids or ()) or "-",
        ]
        for entry in view.board.apart
    ]
    out.table(["model", "all rows", "clean rows", "seen rows", "seen", "which"], rows)


def _tell_sample(out: Output, model: str, sample: Sample) -> None:
    flags = f", {sample.red_flags} red flags" if sample.red_flags else ""
    score = "missing" if sample.score is None else f"{sample.score:.2f}"
    out.say(f"\n{model}, {sample.id}: {score}{flags}", bold=True)
    answer = sample.answer if sample.answer is not None else f"(none: {sample.problem})"
    parts = {"question": sample.question, "answer": answer, "target": sample.target}
    for name, text in parts.items():
        out.say(f"  {name}: {text}")
