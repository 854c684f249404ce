"""`nexa check`: the flight check, told as a table and as an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexa.cli.show import Output, output_options

if TYPE_CHECKING:
    from nexa.orchestrate.check.report import CheckReport


@click.command()
@click.argument("config", default="config.yaml", type=click.Path(path_type=Path))
@click.option("--fresh", is_flag=True, help="Look anew, also where nothing has changed.")
@click.option(
    "--no-rehearsal",
    is_flag=True,
    help="Leave out what loads the model: longest batch, merge, publication.",
)
@output_options
def check(out: Output, config: Path, fresh: bool, no_rehearsal: bool) -> None:
    """Look for all that would stop a run, or spoil it, before it starts.

    The exit code is that of the first finding's kind, 0 without one. What was found clean is kept
    until config, data, model, nexa or machine change; disk and token are looked at every time.
    """
    from nexa.orchestrate.check.flight import flight_check

    report = flight_check(config, fresh=fresh, rehearse=not no_rehearsal)
    out.show(report.to_json(), lambda: _tell(out, report))
    click.get_current_context().exit(report.exit_code)


def _tell(out: Output, report: CheckReport) -> None:
    """Every check in a line, then every finding: what, why, what next."""
    rows = [[result.check, result.state, result.detail] for result in report.results]
    out.table(["check", "result", "detail"], rows)
    for finding in report.findings:
        out.say()
        out.say(f"{finding.check}: {finding.what}", fg="red", bold=True)
        for label, text in (("found", finding.found), ("try", finding.fix)):
            first, *rest = (text or "").splitlines() or [""]
            if first:
                out.say(f"  {label:<6} {first}")
            for line in rest:
                out.say(f"         {line}")
    out.say()
    kept = ", kept from an earlier check" if report.cached else ""
    if report.passed:
        out.say(f"Ready: nexa train ({report.seconds:.1f} s{kept})", fg="green", bold=True)
    else:
        count = len(report.findings)
        out.say(f"{count} finding{'s' * (count > 1)}; exit code {report.exit_code}")
