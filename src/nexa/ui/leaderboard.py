"""The leaderboard: `evals/reports/leaderboard_<date>.parquet`, one row a model and metric.

A seal is the digest of how a score was made. Scores of different seals are never ranked together:
`rank` gives one board for each seal.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.errors import EvalError, IntegrityError
from nexa.core.records import Artifact
from nexa.core.store import write_atomic

TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


@dataclass(frozen=True)
class Entry:
    """One metric of one model on one suite."""

    created: str
    """When, in UTC, ISO 8601."""
    run_id: str
    role: str
    """base or tuned."""
    model: str
    model_digest: str
    base_model: str
    suite: str
    seal: str
    metric: str
    primary: bool
    """Whether the board is ranked by this metric."""
    mean: float
    low: float
    high: float
    rows: int
    groups: int
    verdict: str
    tokens_trained: int
    cost_usd: float

    @property
    def key(self) -> tuple[str, ...]:
        """What an entry is of: the same model scored the same way is entered once."""
        return (self.model_digest, self.suite, self.seal, self.metric)


def entries_of(records: Mapping[str, Artifact[Any]], manifest: Mapping[str, Any]) -> list[Entry]:
    """The entries of a run: base and tuned, one a metric.

    Args:
        records: role -> record: suite, checkpoint, base_scores, tuned_scores and report.
        manifest: the run's manifest.
    """
    report, checkpoint = records["report"].body, records["checkpoint"].body
    cost = manifest.get("cost") or {}
    entries = []
    for side in ("base", "tuned"):
        scores = records[f"{side}_scores"].body
        tuned = side == "tuned"
        entries += [
            Entry(
                created=str(cost.get("end_time") or ""),
                run_id=str(manifest.get("run_id") or ""),
                role=side,
                model=records["checkpoint"].name if tuned else checkpoint.base.name,
                model_digest=scores.model.digest,
                base_model=checkpoint.base.name,
                suite=f"{records['suite'].name}@{records['suite'].version}",
                seal=scores.seal,
                metric=metric,
                primary=metric == report.primary,
                mean=interval.mean,
                low=interval.low,
                high=interval.high,
                rows=interval.n,
                groups=interval.groups,
                verdict=report.verdict if tuned else "",
                tokens_trained=checkpoint.tokens_trained if tuned else 0,
                cost_usd=float(cost.get("cost_total_usd") or 0.0) if tuned else 0.0,
            )
            for metric, interval in sorted(scores.metrics.items())
        ]
    return entries


def board_name(day: date) -> str:
    """`leaderboard_2025-10-28.parquet`."""
    return f"leaderboard_{day:%Y-%m-%d}.parquet"


def append(folder: Path, entries: Iterable[Entry], *, day: date) -> Path:
    """Add entries to the day's board; one that is there already is replaced by the newer.

    Returns the board's path. The file is replaced whole or not at all.
    """
    path = folder / board_name(day)
    write_atomic(path, to_parquet([*(read(path) if path.exists() else []), *entries]))
    return path


def to_parquet(entries: Sequence[Entry]) -> bytes:
    """A board's bytes: the newest entry of each key, in a stable order."""
    newest = {entry.key: entry for entry in entries}
    rows = [asdict(newest[key]) for key in sorted(newest)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), buffer, compression="zstd")
    return buffer.getvalue()


def read(path: Path) -> list[Entry]:
    """The entries of one board.

    Raises:
        IntegrityError: it is not a leaderboard.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"cannot read the leaderboard {path}", found=str(error)) from error
    return from_parquet(data, str(path))


def from_parquet(data: bytes, place: str) -> list[Entry]:
    """The entries of a board's bytes, which are those of `place`; raises as `read`."""
    try:
        table = pq.read_table(io.BytesIO(data))
        rows = table.to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise IntegrityError(f"cannot read the leaderboard {place}", found=str(error)) from error
    if table.schema.names != _schema().names:
        raise IntegrityError(f"{place} is not a leaderboard", found=", ".join(table.schema.names))
    return [Entry(**row) for row in rows]


def read_all(folder: Path) -> list[Entry]:
    """The entries of every day's board, the newest of each key."""
    found = [entry for path in sorted(folder.glob("leaderboard_*.parquet")) for entry in read(path)]
    return list({entry.key: entry for entry in found}.values())


def rank(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """One board for each seal: the entries of its primary metric, best first."""
    boards: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.primary:
            boards.setdefault(entry.seal, []).append(entry)
    return {seal: rank_sealed(board) for seal, board in sorted(boards.items())}


def rank_sealed(entries: Sequence[Entry]) -> list[Entry]:
    """Entries of one seal, best first.

    Raises:
        EvalError: they were scored in different ways, or are of different metrics.
    """
    for name in ("seal", "metric"):
        kinds = sorted({getattr(entry, name) for entry in entries})
        if len(kinds) > 1:
            raise EvalError(
                f"scores of {len(kinds)} different {name}s cannot be ranked together",
                found=", ".join(kind[:16] for kind in kinds),
                fix="rank each by itself: `nexa leaderboard` shows one board a seal",
            )
    return sorted(entries, key=lambda entry: (-entry.mean, entry.model, entry.model_digest))


def _schema() -> pa.Schema:
    return pa.schema([(field.name, TYPES[str(field.type)]) for field in fields(Entry)])
