"""The flight check in its order: what is asked, what each question needs, and what is kept.

Every check that can run does, so that one call tells all that is wrong; one that needs an answer
that a failed one did not give is told as not run. Heavy libraries are imported only when something
has to be looked at anew: a check whose answer is kept takes a fraction of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nexa.core.config import Config, load_config
from nexa.core.errors import NexaError
from nexa.core.events import emit
from nexa.core.store import free_bytes
from nexa.core.tiers import Tiers
from nexa.orchestrate.check import access, cache, sources, space
from nexa.orchestrate.check.report import CheckReport, Finding, Result

# name -> the checks whose answers it needs, in the order in which they are asked and told.
ORDER: dict[str, tuple[str, ...]] = {
    "config": (),
    "output": ("config",),
    "files": ("config",),
    "formats": ("files",),
    "model": ("config",),
    "vocabulary": ("model",),
    "weights": ("model",),
    "template": ("model",),
    "mask": ("formats", "template"),
    "truncation": ("formats", "template"),
    "leakage": ("formats",),
    "trainable": ("model",),
    "disk": ("files", "trainable"),
    "dataset": ("mask", "truncation", "leakage", "disk"),
    "suite": ("dataset",),
    "memory": ("dataset", "vocabulary", "weights", "trainable", "disk"),
    "token": ("config",),
    "merge": ("memory",),
    "gguf": ("merge",),
    "publish": ("merge",),
}
OUTSIDE = ("disk", "token")  # what they look at changes without anything here changing


def flight_check(
    config_path: Path,
    *,
    fresh: bool = False,
    rehearse: bool = True,
    free: Callable[[Path], int] = free_bytes,
) -> CheckReport:
    """Look at everything that a run of this config.yaml needs; raises nothing of what it finds.

    Args:
        config_path: the config.yaml.
        fresh: look anew, whatever is kept from before.
        rehearse: also run the longest batch, the merge and the publication in a child process.
        free: how the free bytes of a path's file system are read.
    """
    begin = time.monotonic()
    try:
        config = load_config(config_path)
    except NexaError as error:
        report = _refused(error)
    else:
        report = _answer(config_path, config, fresh=fresh, rehearse=rehearse, free=free)
    return replace(report, seconds=time.monotonic() - begin)


def require_clean(config_path: Path, *, rehearse: bool = True) -> CheckReport:
    """The flight check as a gate: the first finding is raised as the error that it is.

    Raises:
        NexaError: of the finding's own class; the others are told by notes.
    """
    report = flight_check(config_path, rehearse=rehearse)
    for other in report.findings[1:]:
        emit("note", text=f"the flight check also found ({other.check}): {other.what}")
    if report.findings:
        raise report.findings[0].error()
    return report


def _answer(
    path: Path, config: Config, *, fresh: bool, rehearse: bool, free: Callable[[Path], int]
) -> CheckReport:
    tiers = Tiers.of(path.parent)
    key = _key(path, config, tiers, rehearse=rehearse)
    kept = None if fresh or key is None else cache.find(tiers, key)
    if kept is not None:
        return _with_outside(kept, config, free)
    from nexa.orchestrate.check.looking import look  # torch and transformers: seconds

    order = _order(config)
    report, model_files = look(path, config, tiers, order, ask, rehearse=rehearse, free=free)
    if report.passed and key is not None:
        cache.keep(tiers, key, report, model_files)
    return report


def _order(config: Config) -> dict[str, tuple[str, ...]]:
    """The checks of this configuration: a conversion to GGUF only where it is published."""
    if config.publish is not None and config.publish.quantizations:
        return {**ORDER, "publish": ("merge", "gguf")}
    return {name: needs for name, needs in ORDER.items() if name != "gguf"}


def _key(path: Path, config: Config, tiers: Tiers, *, rehearse: bool) -> str | None:
    """What a kept answer would be kept under; None where the data cannot be read."""
    try:
        files = sources.all_files(config, tiers.root)
        return cache.key_of(path, files, rehearse=rehearse)
    except (NexaError, OSError):  # which the check of files tells in its own words
        return None


def _with_outside(kept: CheckReport, config: Config, free: Callable[[Path], int]) -> CheckReport:
    """A kept answer, with what lies outside looked at now."""
    again: dict[str, Callable[[], str]] = {
        "disk": lambda: space.check(kept.facts["planned"], free),
        "token": lambda: access.check(config),
    }
    results, findings = [], []
    for result in kept.results:
        if result.check in OUTSIDE:
            result, finding = ask(result.check, again[result.check])
            findings += [finding] if finding else []
        results.append(result)
    return replace(kept, results=tuple(results), findings=tuple(findings))


def ask(check: str, question: Callable[[], str]) -> tuple[Result, Finding | None]:
    """Run one check: its line, and the finding if there is one."""
    begin = time.monotonic()
    try:
        detail = question()
    except NexaError as error:
        seconds = time.monotonic() - begin
        return Result(check, "failed", error.what, seconds), Finding.of(check, error)
    return Result(check, "passed", detail, time.monotonic() - begin), None


def _refused(error: NexaError) -> CheckReport:
    """The report of a configuration that cannot be read: nothing else can be looked at."""
    results = [Result("config", "failed", error.what)]
    results += [
        Result(name, "not run", "needs config") for name in ORDER if name not in ("config", "gguf")
    ]
    return CheckReport((Finding.of("config", error),), tuple(results))
