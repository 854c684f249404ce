"""The leaderboard as one page and as data: a static file, no script, no network, light and dark.

It shows what boards and records say and computes nothing but which answers to show. Equal input
gives equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nexa import __version__
from nexa.core.identity import sha256_bytes
from nexa.core.records import Interval
from nexa.core.secrets import redact
from nexa.core.store import write_atomic
from nexa.ui.charts import Dot, dot_chart, scatter
from nexa.ui.leaderboard import Entry
from nexa.ui.leaderboard_rank import Axis, Board, Front, Placed
from nexa.ui.report import said

Key = tuple[str, ...]
Row = Mapping[str, Any]

AXES: Mapping[Axis, tuple[str, str]] = {
    "cost_usd_per_1000_prompts": ("Quality and cost", "dollars for 1,000 prompts"),
    "latency_s_p50": ("Quality and latency", "seconds a prompt, median"),
}
TEXT_LIMIT = 1600  # characters of a prompt or an answer that are shown
SEAL_SHOWN = 16

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
)


@dataclass(frozen=True)
class Sample:
    """One answer for a person to read."""

    id: str
    domain: str
    question: str
    target: str
    answer: str | None
    """None: the model gave none; `problem` says why."""
    problem: str
    score: float | None
    red_flags: int


@dataclass(frozen=True)
class View:
    """A board with all that is known of its entries, by their key."""

    board: Board
    fronts: tuple[Front, ...]
    parts: Mapping[str, str]
    """What the seal is a digest of; empty where no record of the board is here."""
    against: Mapping[Key, Interval] = field(default_factory=dict)
    against_model: str = ""
    domains: Mapping[Key, Mapping[str, Interval]] = field(default_factory=dict)
    hazards: Mapping[Key, Mapping[str, int]] = field(default_factory=dict)
    samples: Mapping[Key, Sequence[Sample]] = field(default_factory=dict)


def write_board_page(path: Path, views: Sequence[View], notes: Sequence[str] = ()) -> None:
    """Write the page, whole or not at all, and without secrets.

    Raises:
        StorageError: it cannot be written.
    """
    write_atomic(path, redact(render_boards(views, notes)).encode())


def render_boards(views: Sequence[View], notes: Sequence[str] = ()) -> str:
    """The page as HTML."""
    here = Path(__file__).parent
    return _templates.get_template("leaderboard.html.jinja").render(
        css="".join(
            (here / name).read_text(encoding="utf-8") for name in ("report.css", "leaderboard.css")
        ),
        views=[_page_of(number, view) for number, view in enumerate(views, 1)],
        notes=notes,
        nexa_version=__version__,
    )


def board_json(view: View) -> dict[str, Any]:
    """A board as plain data: ranks, what is apart and why, fronts, domains, samples."""
    board = view.board
    return {
        "suite": board.suite,
        "prompts_sha256": board.prompts_sha256,
        "seal": board.seal,
        "metric": board.metric,
        "scored": dict(view.parts),
        "ranked": [_placed_json(view, placed) for placed in board.ranked],
        "contaminated": [_entry_json(view, entry) for entry in board.apart],
        "fronts": [_front_json(one) for one in view.fronts],
    }


def choose(rows: Sequence[Row], count: int, *, seed: int) -> list[Row]:
    """Answers for a person to read: those with red flags first, then any, by the seed.

    The order is that of a digest of seed and id, so that all models of a suite show the same rows
    as far as none of them has flags. Each row needs `id` and `red_flag_count`.
    """

    def place(row: Row) -> tuple[bool, str]:
        drawn = sha256_bytes(f"{seed}:{row['id']}".encode())
        return not row.get("red_flag_count"), drawn

    return sorted(rows, key=place)[:count]


def sample_of(prompt: Row, answer: Row, scores: Row, metric: str) -> Sample:
    """A row of prompts.jsonl, answers.jsonl and scores.jsonl as a person reads it."""
    turns = [str(m["content"]) for m in prompt["messages"] if m["role"] != "assistant"]
    target = prompt.get("target")
    given = answer.get("text") is not None or bool(answer.get("log_likelihoods"))
    return Sample(
        id=str(prompt["id"]),
        domain=str(prompt.get("domain") or ""),
        question=_cut("\n\n".join(turns)),
        target=_cut(target if isinstance(target, str) else json.dumps(target, ensure_ascii=False)),
        answer=_cut(said(answer)) if given else None,
        problem=str(answer.get("problem") or ""),
        score=scores.get(metric),
        red_flags=int(scores.get("red_flag_count") or 0),
    )


def told_score(mean: float | None, low: float | None, high: float | None) -> str:
    """`0.812 [0.720, 0.890]`; "-" for what is not known."""
    if mean is None:
        return "-"
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def told_number(value: float | None, form: str = ".3g") -> str:
    """A number, or "-" for one that is not known."""
    return "-" if value is None else f"{value:{form}}"


def told_missing(entry: Entry) -> str:
    """How many rows have no score, and what the mean could be if they had one."""
    if not entry.missing:
        return "-" if entry.missing is None else "0"
    bounds = _bounds(entry)
    return f"{entry.missing} (mean {bounds})" if bounds else str(entry.missing)


def told_front(one: Front) -> list[str]:
    """The front in sentences: who is on it, who is not and why, of whom nothing is known."""
    title, unit = AXES[one.axis]
    lines = []
    if one.best:
        best = ", ".join(f"{_name(e)} ({e.mean:.3f} at {_value(e, one.axis)})" for e in one.best)
        lines.append(f"{title} ({unit}): on the front {best}")
    for dominated in one.dominated:
        entry, by = dominated.entry, dominated.by[0]
        lines.append(
            f"{_name(entry)} ({entry.mean:.3f} at {_value(entry, one.axis)}) is dominated by "
            f"{_name(by)}: no worse, and no dearer or slower"
        )
    if one.unknown:
        why = {e.cost_source or "" for e in one.unknown} if one.axis.startswith("cost") else set()
        reasons = f" ({'; '.join(sorted(filter(None, why)))})" if any(why) else ""
        names = ", ".join(map(_name, one.unknown))
        lines.append(f"not known in {unit}, so on no front: {names}{reasons}")
    return lines


# -- as data -------------------------------------------------------------------------------------


def _placed_json(view: View, placed: Placed) -> dict[str, Any]:
    behind = placed.behind
    return {
        "rank": placed.rank,
        "tied_by": placed.tied_by or None,
        "behind": None if behind is None else behind.model_dump(mode="json"),
        **_entry_json(view, placed.entry),
    }


def _entry_json(view: View, entry: Entry) -> dict[str, Any]:
    against = view.against.get(entry.key)
    domains = view.domains.get(entry.key, {})
    return {
        **asdict(entry),
        "against": None if against is None else against.model_dump(mode="json"),
        "domains": {name: found.model_dump(mode="json") for name, found in domains.items()},
        "hazards": dict(view.hazards.get(entry.key, {})),
        "samples": [asdict(sample) for sample in view.samples.get(entry.key, ())],
    }


def _front_json(one: Front) -> dict[str, Any]:
    def named(entry: Entry) -> dict[str, Any]:
        return {
            "model": entry.model,
            "model_digest": entry.model_digest,
            "mean": entry.mean,
            one.axis: getattr(entry, one.axis),
        }

    return {
        "quality_against": one.axis,
        "front": [named(entry) for entry in one.best],
        "dominated": [
            {**named(d.entry), "by": [named(entry) for entry in d.by]} for d in one.dominated
        ],
        "not_known": [{**named(e), "why": e.cost_source} for e in one.unknown],
    }


# -- as a page -----------------------------------------------------------------------------------


def _page_of(number: int, view: View) -> dict[str, Any]:
    board = view.board
    return {
        "number": number,
        "suite": board.suite,
        "metric": board.metric,
        "seal": board.seal,
        "mixed": len({entry.remote for entry in board.entries}) > 1,
        "against_model": view.against_model,
        "rows": [_line(view, placed.entry, str(placed.rank), placed) for placed in board.ranked],
        "apart": [_apart(entry) for entry in board.apart],
        "chart": _chart(board),
        "fronts": [_front(one) for one in view.fronts],
        "domains": _domains(view),
        "parts": list(view.parts.items()),
        "hazards": _hazards(view),
        "samples": [
            (_name(entry), view.samples[entry.key])
            for entry in board.entries
            if view.samples.get(entry.key)
        ],
    }


def _line(view: View, entry: Entry, rank: str, placed: Placed) -> dict[str, Any]:
    against = view.against.get(entry.key)
    return {
        "rank": rank,
        "tied_by": placed.tied_by,
        "model": entry.model,
        "role": entry.role,
        "origin": _origin(entry),
        "mean": f"{entry.mean:.3f}",
        "interval": f"{entry.low:.3f} to {entry.high:.3f}",
        "against": "" if against is None else f"{against.mean:+.3f}",
        "against_interval": "" if against is None else f"{against.low:+.3f} to {against.high:+.3f}",
        "rows": f"{entry.rows} / {entry.groups}",
        "missing": told_number(entry.missing, "d"),
        "bounds": _bounds(entry),
        "safety": told_number(entry.safety_score, ".3f"),
        "flags": told_number(entry.red_flag_count, "d"),
        "latency": f"{told_number(entry.latency_s_p50)} / {told_number(entry.latency_s_p95)}",
        "cost": told_number(entry.cost_usd_per_1000_prompts, ".4g"),
        "cost_source": entry.cost_source or "",
        "agreement": told_agreement(entry),
        "verdict": entry.verdict,
    }


def told_difference(found: Interval) -> str:
    """A paired difference, `+0.120 [+0.040, +0.200]`."""
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def told_agreement(entry: Entry) -> str:
    """How far the judge agrees with people, if that was measured."""
    if entry.human_agreement is None:
        return ""
    return f"{entry.human_agreement:.2f} ({entry.human_agreement_of})"


def _apart(entry: Entry) -> dict[str, Any]:
    return {
        "model": entry.model,
        "role": entry.role,
        "score": told_score(entry.mean, entry.low, entry.high),
        "clean": told_score(entry.clean_mean, entry.clean_low, entry.clean_high),
        "dirty": told_score(entry.contaminated_mean, None, None),
        "count": told_number(entry.contaminated_rows, "d"),
        "ids": list(entry.contaminated_ids or ()),
    }


def _chart(board: Board) -> str | None:
    dots = [
        Dot(_name(p.entry), _interval(p.entry), "tuned" if p.entry.role == "tuned" else "base")
        for p in board.ranked
    ]
    label = f"{board.metric} of each model with its 95 % interval; the table has the numbers"
    return dot_chart(dots, label=label) if dots else None


def _front(one: Front) -> dict[str, Any]:
    title, unit = AXES[one.axis]
    on = [(entry, "tuned", "on the front") for entry in one.best]
    off = [(d.entry, "base", f"dominated by {', '.join(map(_name, d.by))}") for d in one.dominated]
    points = [Dot(_name(e), _interval(e), kind, getattr(e, one.axis)) for e, kind, _ in on + off]
    drawing = scatter(points, x_label=unit, y_label="score", label=title) if points else None
    return {
        "title": title,
        "unit": unit,
        "chart": drawing,
        "rows": [
            (number, _name(entry), f"{entry.mean:.3f}", _value(entry, one.axis), why)
            for number, (entry, _, why) in enumerate(on + off, 1)
        ],
        "unknown": [(_name(e), e.cost_source or "not measured") for e in one.unknown],
    }


def _domains(view: View) -> dict[str, Any] | None:
    names = sorted({name for found in view.domains.values() for name in found})
    rows = [
        (_name(entry), [_told(view.domains[entry.key].get(name)) for name in names])
        for entry in view.board.entries
        if entry.key in view.domains
    ]
    return {"names": names, "rows": rows} if len(names) > 1 else None


def _hazards(view: View) -> list[tuple[str, str, str, str]]:
    return [
        (
            _name(entry),
            told_number(entry.safety_score, ".3f"),
            told_number(entry.red_flag_count, "d"),
            ", ".join(f"{kind} {n}" for kind, n in view.hazards.get(entry.key, {}).items()) or "-",
        )
        for entry in view.board.entries
        if entry.red_flag_count is not None
    ]


def _bounds(entry: Entry) -> str:
    """What the mean could be if the missing scores were there."""
    if not entry.missing or entry.bound_low is None or entry.bound_high is None:
        return ""
    return f"{entry.bound_low:.3f} to {entry.bound_high:.3f}"


def _origin(entry: Entry) -> str:
    """Where a model came from, without the digest of what was made here."""
    origin = entry.origin or ""
    return origin.partition(":")[0] if origin.startswith(("export:", "checkpoint:")) else origin


def _told(found: Interval | None) -> str:
    return "-" if found is None else told_score(found.mean, found.low, found.high)


def _interval(entry: Entry) -> Interval:
    return Interval(
        mean=entry.mean, low=entry.low, high=entry.high, n=entry.rows, groups=entry.groups
    )


def _name(entry: Entry) -> str:
    return entry.model


def _value(entry: Entry, axis: Axis) -> str:
    return told_number(getattr(entry, axis), ".4g")


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + " …"
