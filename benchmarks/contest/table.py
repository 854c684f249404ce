"""The contest as text: for docs/log.md and README."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from nexa.core.hardware import this_machine

from .contestants import NEXA, PEER_REFERENCE, PEERS, REFERENCE, named
from .figures import Figures, distance, figures, ratio
from .kept import Kept
from .limit import config_of, flop
from .work import ALPHA, LEARNING_RATE, MAX_LENGTH, RANK, Work

LOSSES_SHOWN = (1, 2, 3, 8, 15)
COLUMNS = (
    "contestant",
    "tokens/s (runs)",
    "label tokens/s",
    "of the limit",
    "peak RSS",
    "start to first step",
    "first step",
    "farthest from float32",
)


@dataclass(frozen=True)
class Contest:
    """The kept measurements with their work."""

    work: Work
    kept: Kept

    def figures(self) -> dict[str, Figures]:
        """Everybody's, the fastest first."""
        found = {name: figures(self.kept.runs(name), self.work) for name in self.kept.names}
        return dict(sorted(found.items(), key=lambda item: -item[1].tokens_per_s))

    def reference(self, name: str) -> tuple[float, ...]:
        """The losses in float32 of the same labels; none if nobody has run that is right for it."""
        plain = name.partition("@")[0]
        reference = PEER_REFERENCE if plain in PEERS else REFERENCE
        runs = self.kept.runs(reference.name) if plain != reference.name else []
        return figures(runs, self.work).losses if runs else ()

    def limit_tokens_per_s(self, steps: int) -> float | None:
        """Tokens a second, did the machine do nothing but multiply in bfloat16."""
        limits = self.kept.limits("bfloat16")
        if not limits:
            return None
        needed = flop(config_of(Path(self.work.model)), self.work, steps)
        return mean(limits) * 1e9 * sum(self.work.tokens[:steps]) / needed


def markdown(contest: Contest) -> str:
    """Setup, figures, losses and ratios."""
    parts = [_setup(contest), _main_table(contest), _losses(contest), _ratios(contest)]
    return "\n\n".join(part for part in [*parts, _remarks(contest)] if part)


def _setup(contest: Contest) -> str:
    """What was run, on what, with which versions."""
    work, machine = contest.work, this_machine()
    tokens, labels = sum(work.tokens), sum(work.label_tokens)
    rows = len(work.tokens) * work.rows_per_step
    day = time.strftime("%Y-%m-%d", time.gmtime(contest.kept.records[0]["at"]))
    loads = [record["load"] for record in contest.kept.records]
    limits = ", ".join(f"{value:.0f}" for value in contest.kept.limits("bfloat16"))
    return (
        f"**Setup.** {day}, {machine.cores} cores of {machine.cpu}, "
        f"{machine.memory_bytes / 2**30:.0f} GiB; {_versions(contest.kept)}. "
        f"Model {Path(work.model).name}; rows `{work.rows_name}` (sha256 {work.rows_sha256}), "
        f"{work.rows:,} of them trained on, {tokens / rows:.0f} tokens a row, "
        f"{labels / tokens:.0%} of them labels; {work.rows_per_step} rows a step, LoRA r={RANK} "
        f"alpha={ALPHA} on all linear layers, at most {MAX_LENGTH} tokens a row, "
        f"lr {LEARNING_RATE:g} constant, loss on the answer only. Everybody learns the same rows "
        f"in the same order. bfloat16 products at the model's shapes, before and after: "
        f"{limits or 'not measured'} GFLOP/s. Load of the machine before a run: at most "
        f"{max(loads):.1f}."
    )


def _versions(kept: Kept) -> str:
    """Which libraries each contestant ran with; those with the same ones together."""
    users: dict[str, list[str]] = {}
    for name in kept.names:
        libraries = sorted(kept.runs(name)[0]["versions"].items())
        users.setdefault(", ".join(f"{k} {v}" for k, v in libraries), []).append(name)
    return "; ".join(f"{', '.join(names)}: {told}" for told, names in users.items())


def _main_table(contest: Contest) -> str:
    rows = []
    for name, found in contest.figures().items():
        ceiling = contest.limit_tokens_per_s(found.steps)
        reference = contest.reference(name)
        rows.append(
            (
                named(name).label,
                f"{found.tokens_per_s:.0f} ({found.slowest_run:.0f}-{found.fastest_run:.0f})"
                if found.runs > 1
                else f"{found.tokens_per_s:.0f}",
                f"{found.label_tokens_per_s:.0f}",
                f"{found.tokens_per_s / ceiling:.0%}" if ceiling else "-",
                f"{found.peak_rss_bytes / 1e9:.2f} GB",
                f"{found.start_to_first_step_s:.1f} s",
                f"{found.first_step_s:.1f} s",
                _far(found, reference) if reference else "-",
            )
        )
    return _table(COLUMNS, rows)


def _far(found: Figures, reference: Sequence[float]) -> str:
    """The distance, with the number of steps it was looked for in."""
    steps = min(found.steps, len(reference))
    return f"{distance(found.losses, reference):.4f} in {steps} steps"


def _losses(contest: Contest) -> str:
    """The loss of some steps; all are in the kept file."""
    found = contest.figures()
    longest = max(each.steps for each in found.values())
    shown = [step for step in LOSSES_SHOWN if step <= longest]
    rows = [
        (
            named(name).label,
            *(f"{each.losses[step - 1]:.4f}" if step <= each.steps else "" for step in shown),
        )
        for name, each in found.items()
    ]
    return _table(("loss at step", *map(str, shown)), rows)


def _ratios(contest: Contest) -> str:
    """How many times as fast as each peer the fastest Nexa is."""
    names = list(contest.figures())
    ours = next((name for name in names if name in NEXA), None)
    theirs = [name for name in names if name not in NEXA and name != REFERENCE.name]
    if ours is None or not theirs:
        return ""
    runs = contest.kept.runs(ours)
    told = [
        f"{ratio(runs, contest.kept.runs(name), contest.work):.2f} times {named(name).label}"
        for name in theirs
    ]
    return f"{named(ours).label}, pair by pair: {'; '.join(told)}."


def _remarks(contest: Contest) -> str:
    """What a reader has to know before believing a row."""
    told = [
        "The first step is in no rate. Farthest from float32: Nexa from Nexa in float32, a peer "
        f"from {PEER_REFERENCE.label} (both with PEFT's random start of the adapter). "
        "Nexa's start finds what its flight check has left, tokenised rows among it."
    ]
    told += [
        f"{named(name).label} counts other tokens than the work has: its template differs."
        for name, found in contest.figures().items()
        if not found.same_tokens
    ]
    more = {
        f"{named(name).label} ({found.more_labels:+.2f})"
        for name, found in contest.figures().items()
        if found.more_labels
    }
    if more:
        told.append(f"Label tokens a row beyond those of the work: {', '.join(sorted(more))}.")
    told += [
        f"The start of {named(name).label} holds a flight check: none was kept."
        for name, found in contest.figures().items()
        if not found.check_cached
    ]
    told += [
        f"`nexa check` made for {record['contestant']} took {record['seconds']:.1f} s."
        for record in contest.kept.records
        if record["kind"] == "check"
    ]
    return " ".join(told)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
