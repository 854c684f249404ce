"""Looking at everything anew: each check in its order, the rehearsals in a child process."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nexa.core.config import Config
from nexa.core.errors import NexaError
from nexa.core.events import emit, progress
from nexa.core.tiers import Tiers
from nexa.orchestrate.check import access, capacity, inputs, model, rows, space, suite
from nexa.orchestrate.check.offspring import Offspring
from nexa.orchestrate.check.report import CheckReport, Finding, Result
from nexa.orchestrate.check.state import Flight

Question = Callable[[Flight], str]
QUESTIONS: dict[str, Question] = {
    "output": inputs.output,
    "files": inputs.files,
    "formats": inputs.formats,
    "model": model.files,
    "vocabulary": model.vocabulary,
    "weights": model.weights,
    "template": rows.template,
    "mask": rows.mask,
    "truncation": rows.truncation,
    "leakage": rows.leakage,
    "dataset": rows.dataset,
    "suite": suite.detectable,
    "trainable": model.trainable,
}


def look(
    config_path: Path,
    config: Config,
    tiers: Tiers,
    order: Mapping[str, tuple[str, ...]],
    ask: Callable[[str, Callable[[], str]], tuple[Result, Finding | None]],
    *,
    rehearse: bool,
    free: Callable[[Path], int],
) -> tuple[CheckReport, list[Path]]:
    """Run every check that can be run; returns the report and the model's files.

    `order` names the checks and what each needs, `ask` runs one.
    """
    flight = Flight(config, tiers, free)
    results: list[Result] = []
    findings: list[Finding] = []
    with _child(config_path, tiers, rehearse=rehearse) as child:
        questions = {name: _bound(question, flight) for name, question in QUESTIONS.items()}
        questions |= {
            "config": lambda: f"{config.method}, {config.model.path}",
            "disk": lambda: _disk(flight),
            "token": lambda: access.check(config),
            "memory": lambda: capacity.estimated(flight),
        }
        if child is not None:
            questions |= {
                "memory": lambda: capacity.probed(flight, child),
                "merge": lambda: child.answer("merge"),
                "gguf": lambda: child.converted(flight.facts),
                "publish": lambda: child.answer("publish"),
            }
        with progress("flight check", len(order), "checks") as bar:
            for name, needs in order.items():
                result, finding = _one(name, needs, results, questions, ask)
                results.append(result)
                findings += [finding] if finding else []
                emit("flight.result", check=name, state=result.state, detail=result.detail)
                bar.advance()
    report = CheckReport(tuple(findings), tuple(results), flight.facts)
    own = [flight.base.folder / name for name in flight.base.files] if report.passed else []
    return report, own


def _one(
    name: str,
    needs: tuple[str, ...],
    before: list[Result],
    questions: Mapping[str, Callable[[], str]],
    ask: Callable[[str, Callable[[], str]], tuple[Result, Finding | None]],
) -> tuple[Result, Finding | None]:
    """One check, unless what it needs is not there."""
    states = {result.check: result.state for result in before}
    if name not in questions:
        return Result(name, "skipped", "not rehearsed"), None
    lacking = [need for need in needs if states[need] != "passed"]
    if lacking:
        return Result(name, "not run", f"needs {', '.join(lacking)}"), None
    return ask(name, questions[name])


def _bound(question: Question, flight: Flight) -> Callable[[], str]:
    return lambda: question(flight)


def _disk(flight: Flight) -> str:
    facts = flight.facts
    facts["planned"] = space.planned(
        flight.config,
        flight.tiers,
        parameters=facts["parameters"],
        trained=facts["trainable_parameters"],
        data_bytes=facts["data_bytes"],
    )
    return space.check(facts["planned"], flight.free)


@contextlib.contextmanager
def _child(config_path: Path, tiers: Tiers, *, rehearse: bool) -> Iterator[Offspring | None]:
    """The child process, started first: it loads its libraries while the data is looked at."""
    if not rehearse:
        yield None
        return
    try:
        scratch = tiers.new_scratch("check")
    except NexaError:  # which the check of the disk tells, with what is needed
        yield None
        return
    try:
        with Offspring(config_path, scratch) as child:
            yield child
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
