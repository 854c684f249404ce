"""The leaderboard: `evals/reports/leaderboard_<date>.parquet`, one row a model and metric.

A file says which version it has and carries the digest of its rows, so that a row that another
hand changed is noticed; files of the first version, with fewer columns and no digest, are read.
Who enters is `leaderboard_entries`, who stands where `leaderboard_rank`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.errors import IntegrityError
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.seals import REMOTE
from nexa.core.store import write_atomic

Role = Literal["tuned", "base", "teacher", "baseline", "other"]
ROLES: tuple[str, ...] = get_args(Role)

VERSION = b"2"
VERSION_KEY, DIGEST_KEY = b"nexa.leaderboard", b"nexa.rows_sha256"
FIRST_VERSION_FIELDS = 18  # the columns that a file of the first version has, in this order
TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "Role": pa.string(),
    "tuple[str, ...]": pa.list_(pa.string()),
}
OR_NONE = " | None"


@dataclass(frozen=True)
class Entry:
    """One metric of one model on one suite. None: not known, which is never zero."""

    created: str
    """When, in UTC, ISO 8601."""
    run_id: str
    role: Role
    """tuned | base | teacher (a model of an API, or that a student learned from) | baseline (set
    beside another one) | other."""
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
    """Of the training run."""
    origin: str | None = None
    """Where the model came from, as its record says: api:PROVIDER, hub:..., folder."""
    ruler: str | None = None
    """What the seal has in common with that of a model of an API."""
    prompts_sha256: str | None = None
    """Of what is asked, with the targets: a suite of another name may be the same."""
    scores_digest: str | None = None
    """The record that all this is read from."""
    judge_model_id: str | None = None
    """None: scored by rule. So it is with the next two."""
    judge_prompt_hash: str | None = None
    rubric_sha256: str | None = None
    human_agreement: float | None = None
    """The judge's with people by this metric, where a file of labels was given."""
    human_agreement_of: str | None = None
    """Which measure of agreement, on how many rows."""
    safety_score: float | None = None
    red_flag_count: int | None = None
    latency_s_p50: float | None = None
    latency_s_p95: float | None = None
    cost_usd_per_1000_prompts: float | None = None
    """Of answering."""
    cost_source: str | None = None
    """Who names the price, or why there is no cost."""
    missing: int | None = None
    """Rows of the suite without a score."""
    bound_low: float | None = None
    """The mean if each of those had the lowest score there is; `bound_high`: the highest."""
    bound_high: float | None = None
    contaminated_rows: int | None = None
    """Rows of the suite that occur in the training rows; None: nobody could look."""
    contaminated_ids: tuple[str, ...] | None = None
    contaminated_mean: float | None = None
    """Over those rows alone; the `clean` three are over all others."""
    clean_mean: float | None = None
    clean_low: float | None = None
    clean_high: float | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What an entry is of: the same model scored the same way is entered once."""
        return (self.model_digest, self.suite, self.seal, self.metric)

    @property
    def remote(self) -> bool:
        """Whether it answers behind an API, so that nobody here knows how."""
        return (self.origin or "").startswith(REMOTE)

    @property
    def contaminated(self) -> bool:
        """Whether it saw rows of the suite in training, so that its score says nothing."""
        return bool(self.contaminated_rows) or self.verdict == "contaminated"


def board_name(day: date) -> str:
    """`leaderboard_2025-10-28.parquet`."""
    return f"leaderboard_{day:%Y-%m-%d}.parquet"


def append(path: Path, entries: Iterable[Entry]) -> Path:
    """Add entries to a board; one that is there already is replaced by the newer.

    The file is replaced whole or not at all.

    Raises:
        IntegrityError: what is there is not a leaderboard.
        StorageError: it cannot be written.
    """
    write_atomic(path, to_parquet([*(read(path) if path.exists() else []), *entries]))
    return path


def to_parquet(entries: Iterable[Entry]) -> bytes:
    """A board's bytes: the newest entry of each key, in a stable order."""
    rows = [asdict(entry) for entry in sorted(newest(entries), key=lambda entry: entry.key)]
    table = pa.Table.from_pylist(rows, schema=_schema())
    noted = {VERSION_KEY: VERSION, DIGEST_KEY: _digest(table.to_pylist())}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(noted), buffer, compression="zstd")
    return buffer.getvalue()


def newest(entries: Iterable[Entry]) -> list[Entry]:
    """The newest of each key; the order given is that in which they were made.

    A model that is asked again after its training, and scores the same, keeps what the training
    run said of it: its verdict and what it cost.
    """
    found: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        before = found.get(entry.key)
        found[entry.key] = entry if before is None else _renewed(before, entry)
    return list(found.values())


def read(path: Path) -> list[Entry]:
    """The entries of one board.

    Raises:
        IntegrityError: it is not a leaderboard, or was changed by another hand.
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
    _require_board(table, rows, place)
    return [_entry(row, f"{place}, row {number}") for number, row in enumerate(rows, 1)]


def read_all(folder: Path) -> list[Entry]:
    """The entries of every day's board, the newest of each key."""
    paths = sorted(folder.glob("leaderboard_*.parquet"))
    return newest(entry for path in paths for entry in read(path))


def _renewed(before: Entry, now: Entry) -> Entry:
    same = (before.mean, before.low, before.high) == (now.mean, now.low, now.high)
    if now.verdict or not before.verdict or not same:
        return now
    of_training = ("created", "run_id", "role", "model", "base_model", "verdict")
    names = (*of_training, "tokens_trained", "cost_usd")
    return replace(now, **{name: getattr(before, name) for name in names})


def _schema() -> pa.Schema:
    return pa.schema(
        [(field.name, TYPES[str(field.type).removesuffix(OR_NONE)]) for field in fields(Entry)]
    )


def _digest(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return sha256_bytes(canonical_json(list(rows))).encode()


def _require_board(table: pa.Table, rows: Sequence[Mapping[str, Any]], place: str) -> None:
    """Refuse a file that no Nexa wrote as it stands."""
    noted = table.schema.metadata or {}
    version = noted.get(VERSION_KEY)
    if version not in (None, VERSION):
        raise IntegrityError(
            f"{place} is a leaderboard of another version",
            found=f"version {version.decode(errors='replace')}, this Nexa reads 1 and 2",
            fix="read it with the Nexa that wrote it",
        )
    schema = _schema()
    wanted = list(schema) if version else list(schema)[:FIRST_VERSION_FIELDS]
    if [(c.name, c.type) for c in table.schema] != [(c.name, c.type) for c in wanted]:
        odd = [c for c in table.schema if c.name not in schema.names or c not in wanted]
        raise IntegrityError(
            f"{place} is not a leaderboard",
            found=", ".join(f"{c.name}: {c.type}" for c in odd) or "columns are missing",
            fix="name a project's folder, or a file that `nexa train` or `nexa eval` wrote",
        )
    if version and noted.get(DIGEST_KEY) != _told_digest(rows):
        raise IntegrityError(
            f"{place} was changed after it was written",
            found="its rows do not have the digest that the file notes",
            fix="score the models again: each run enters its own",
        )


def _told_digest(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """The digest of rows as they are read; None of those that hold what no score is (NaN)."""
    numbers = (value for row in rows for value in row.values() if isinstance(value, float))
    return _digest(rows) if all(map(math.isfinite, numbers)) else None


def _entry(row: Mapping[str, Any], place: str) -> Entry:
    """A row as an entry; the first version's have no digest that would speak for them."""
    required = [field for field in fields(Entry) if OR_NONE not in str(field.type)]
    if empty := [field.name for field in required if row[field.name] is None]:
        raise IntegrityError(f"{place}: a value is missing", found=", ".join(empty))
    if row["role"] not in ROLES:
        raise IntegrityError(f"{place}: there is no such role", found=repr(row["role"]))
    mean, low, high = (row[name] for name in ("mean", "low", "high"))
    if not all(map(math.isfinite, (mean, low, high))) or low > high:
        raise IntegrityError(f"{place}: this is no score", found=f"{mean} [{low}, {high}]")
    ids = row.get("contaminated_ids")
    return Entry(**{**row, "contaminated_ids": None if ids is None else tuple(ids)})
