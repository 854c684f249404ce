"""`nexa judge`: answers graded by a model, with a rubric, alone or beside others'."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.show import Cell, Output, output_options
from nexa.cli.teaching import PriceType, price_of, tell_previews

if TYPE_CHECKING:
    from nexa.core.records import (
        AgreementBody,
        Figure,
        Interval,
        JudgementsBody,
        ReportBody,
        Spent,
    )
    from nexa.eval.pairwise import Tally
    from nexa.orchestrate.judging import Graded, Judged

Count = click.IntRange(min=1)


@click.command()
@click.argument("subject", required=False, metavar="[RUN|MODEL|answers/NAME]")
@click.option(
    "--judge",
    required=True,
    metavar="MODEL",
    help="An alias (gpt-4o), openai:MODEL, anthropic:MODEL, MODEL@URL, or local weights.",
)
@click.option("--base-url", metavar="URL", help="An OpenAI-compatible server to ask.")
@click.option(
    "--rubric",
    default="research",
    show_default=True,
    metavar="NAME|FILE",
    help="The criteria and their levels: the package's own, or a YAML file.",
)
@click.option(
    "--against",
    metavar="OTHER",
    help="Compare pair by pair with the answers of a run, a model or a name; `base`: the run's.",
)
@click.option("--repeats", type=Count, default=1, show_default=True, help="Verdicts an answer.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="How often a verdict that cannot be read is asked for again.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, max=2),
    default=0.0,
    show_default=True,
    help="How far the judge's words vary; a model on this machine takes 0.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first verdict.")
@click.option(
    "--max-new-tokens",
    type=Count,
    default=512,
    show_default=True,
    help="Length at which a verdict is cut off.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What people said of some answers: agreement, and means corrected by it.",
)
@click.option("--suite", metavar="NAME[@VERSION]", help="What a model is asked; as with eval.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Held-out rows that a model is asked, a file."
)
@click.option(
    "--price",
    type=PriceType(),
    metavar="IN,OUT",
    help="Dollars for a million tokens in and out, where the table has none or another.",
)
@click.option(
    "--budget-usd",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="Never spend more than this; what was answered by then is kept.",
)
@click.option("--concurrency", type=Count, metavar="N", help="Requests under way at once.")
@click.option("--per-minute", type=Count, metavar="N", help="Requests a minute at most.")
@click.option(
    "--allow-self-judge", is_flag=True, help="Let a model judge its own answers; it is recorded."
)
@click.option("--dry-run", is_flag=True, help="Requests, tokens, dollars; send nothing.")
@output_options
def judge(
    out: Output,
    subject: str | None,
    judge: str,
    base_url: str | None,
    rubric: str,
    against: str | None,
    labels: Path | None,
    suite: str | None,
    data: Path | None,
    price: tuple[float, float] | None,
    budget_usd: float | None,
    concurrency: int | None,
    per_minute: int | None,
    allow_self_judge: bool,
    dry_run: bool,
    **decoding: Any,
) -> None:
    """Have a model grade answers by a rubric; of a run base and tuned, in a report.

    Without a name the answers of the newest run that has some. What cannot be read is asked for
    again and else missing, never zero. The same command goes on where it was stopped.
    """
    from nexa.eval.verdicts import Decoding
    from nexa.orchestrate.exam import Asked
    from nexa.orchestrate.judging import Judging, judge_answers, preview_judging
    from nexa.orchestrate.teaching import Choice

    choice = Choice(
        name=judge,
        base_url=base_url,
        price=price_of(price),
        budget_usd=budget_usd,
        concurrency=concurrency,
        per_minute=per_minute,
    )
    how = Judging(
        rubric=rubric,
        decoding=Decoding(**decoding),
        against=against,
        labels=labels,
        allow_self_judge=allow_self_judge,
    )
    asked = Asked(data=data, suite=suite)
    if dry_run:
        found = preview_judging(subject, how, choice, asked, Path.cwd())
        out.show([one.to_json() for one in found], lambda: tell_previews(out, found))
        return
    made = judge_answers(subject, how, choice, asked, Path.cwd())
    out.show(_record(made), lambda: _tell(out, made))


def _record(made: Judged) -> dict[str, Any]:
    """The whole result as data."""
    from dataclasses import asdict

    def plain(artifact: Any) -> Any:
        return None if artifact is None else artifact.body.model_dump(mode="json")

    def told(one: Tally) -> dict[str, Any]:
        rate = None if one.win_rate is None else one.win_rate.model_dump()
        return {**asdict(one), "win_rate": rate}

    return {
        "run_id": made.run_id,
        "graded": [
            {
                "judgements": plain(one.judgements),
                "scores": plain(one.scores),
                "agreement": plain(one.agreement),
            }
            for one in made.graded
        ],
        "report": plain(made.report),
        "pairs": plain(made.pairs),
        "tallies": [told(one) for one in made.tallies],
    }


def _tell(out: Output, made: Judged) -> None:
    for one in made.graded:
        _tell_graded(out, one)
    if made.report is not None:
        _tell_report(out, made.report.body)
    if made.pairs is not None:
        _tell_pairs(out, made.pairs.body, made.tallies)


def _tell_graded(out: Output, graded: Graded) -> None:
    body, scores = graded.judgements.body, graded.scores.body
    out.say(f"{body.model.name}: {graded.scores.label}", bold=True)
    repeats = body.agreement_between_repeats or {}
    bounds = scores.bounds or {}
    rows: list[list[Cell]] = [
        [
            name,
            _level(found),
            f"{found.mean:.3f}",
            (scores.missing or {}).get(name, 0),
            " to ".join(f"{1 + 4 * end:.2f}" for end in bounds.get(name, ())),
            f"{repeats[name]:.2f}" if name in repeats else None,
        ]
        for name, found in scores.metrics.items()
    ]
    columns = ["criterion", "level, 1 to 5", "score", "missing", "if missing", "alpha of repeats"]
    out.table(columns, rows)
    out.pairs(_pairs_of(body))
    if graded.agreement is not None:
        _tell_agreement(out, graded.agreement.body)


def _pairs_of(body: JudgementsBody) -> dict[str, Cell]:
    """Who judged, how that went, what it took."""
    pairs: dict[str, Cell] = {
        "judge": f"{body.seal.judge_model_id} ({', '.join(body.served)})",
        "rubric": f"{body.seal.rubric} {body.seal.rubric_sha256[:16]}",
        "verdicts": f"{body.requested:,} asked for, {body.unparsable:,} unreadable, "
        f"{body.failed:,} without an answer, {body.retried:,} asked again",
    }
    if body.flagged:
        tried = ", ".join(f"{kind} {count:,}" for kind, count in body.flagged.items())
        pairs["answers that address the judge"] = tried
    if body.self_judged:
        pairs["judged itself"] = "yes, as was allowed"
    return pairs | _spent(body.spent)


def _spent(spent: Spent) -> dict[str, Cell]:
    pairs: dict[str, Cell] = {
        "tokens": f"{spent.input_tokens or 0:,} in, {spent.output_tokens:,} out"
    }
    if spent.latency_s_p50 is not None and spent.latency_s_p95 is not None:
        pairs["latency"] = f"{spent.latency_s_p50:.2f} s, 95 of 100 in {spent.latency_s_p95:.2f} s"
    known = spent.cost_usd is not None and spent.requests
    each = (spent.cost_usd or 0.0) / max(spent.requests, 1)
    pairs["cost"] = (
        f"{spent.cost_usd:.4f} USD, {each:.6f} a prompt ({spent.price_source})"
        if known
        else "unknown"
    )
    return pairs


def _tell_agreement(out: Output, body: AgreementBody) -> None:
    out.say(f"Beside people: {body.labelled} rows, raters {', '.join(body.raters)}")
    rows: list[list[Cell]] = []
    for name, found in body.criteria.items():
        measures = (found.kappa, found.kappa_quadratic, found.spearman, found.alpha)
        means = (found.judged, found.people, found.corrected)
        rows.append(
            [name, *map(_figure, measures), *(None if m is None else _level(m) for m in means)]
        )
    columns = ["criterion", "kappa", "kappa, weighted", "Spearman", "alpha"]
    out.table([*columns, "judge", "people", "corrected"], rows)
    for name, found in body.criteria.items():
        reasons = {found.why, found.kappa.why, found.spearman.why, found.alpha.why} - {""}
        told = "; ".join(sorted(reasons)) or "all measures are defined"
        out.say(f"{name}: {told}")


def _tell_report(out: Output, body: ReportBody) -> None:
    from nexa.orchestrate.reports import tabulate

    out.table(["metric", "base", "tuned", "difference"], tabulate(body).rows)
    out.say(f"{body.verdict}: {body.reason}", bold=True)


def _tell_pairs(out: Output, body: JudgementsBody, tallies: tuple[Tally, ...]) -> None:
    out.say(f"{body.model.name} beside the other, both orders of each pair", bold=True)
    rows: list[list[Cell]] = [
        [
            one.key,
            one.wins,
            one.ties,
            one.losses,
            one.missing,
            None if one.win_rate is None else _told(one.win_rate),
            f"{one.bounds[0]:.3f} to {one.bounds[1]:.3f}" if one.missing else None,
        ]
        for one in tallies
    ]
    out.table(["criterion", "wins", "ties", "losses", "missing", "win rate", "if missing"], rows)
    out.pairs(_position(body.position or {}) | _pairs_of(body))


def _position(position: dict[str, float]) -> dict[str, Cell]:
    """How far the judge leans to a place."""
    pairs: dict[str, Cell] = {}
    names = {"first": "verdicts for the first place", "turns": "verdicts that turn with the order"}
    for key, name in names.items():
        if key in position:
            ends = f"[{position[f'{key}_low']:.3f}, {position[f'{key}_high']:.3f}]"
            pairs[name] = f"{position[key]:.3f} {ends} of {position[f'{key}_n']:.0f}"
    return pairs


def _figure(found: Figure) -> str:
    if found.value is None:
        return "undefined"
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _level(found: Interval) -> str:
    """A score with its interval as levels."""
    from nexa.eval.rubrics.rubric import level_of

    mean, low, high = map(level_of, (found.mean, found.low, found.high))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _told(found: Interval) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
