"""`nexa leaderboard`: what runs enter, and the boards of one project or several, read back."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from nexa.core.errors import EvalError, IntegrityError, UsageError, nearest
from nexa.core.manifest import read_manifest
from nexa.core.records import Artifact, Interval
from nexa.core.statistics import paired_difference
from nexa.core.store import Store, UnknownArtifact
from nexa.core.tiers import Tiers
from nexa.orchestrate.leaderboard_facts import rows_of, seal_parts, subjects_of
from nexa.orchestrate.run_state import Run
from nexa.ui.leaderboard import Entry, append, board_name, from_parquet, newest, read
from nexa.ui.leaderboard_entries import entries_of
from nexa.ui.leaderboard_page import AXES, Sample, View, choose, sample_of, write_board_page
from nexa.ui.leaderboard_rank import Board, boards, front, seals_differ

REPORTS = "evals/reports"
BOARD = re.compile(r"leaderboard_[^/]*\.parquet")
DIGEST = re.compile(r"[0-9a-f]{64}")
NEXT = "nexa train, nexa eval or nexa judge: each run enters what it scores"


@dataclass(frozen=True)
class Wanted:
    """Which boards, and what of them. `places` are folders, files or addresses; none: here."""

    places: tuple[str, ...] = ()
    suite: str | None = None
    metric: str | None = None
    seal: str | None = None
    against: str | None = None
    every_metric: bool = False
    samples: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """The boards that were asked for, and what is to be said of them together."""

    views: tuple[View, ...]
    notes: tuple[str, ...] = ()


@dataclass
class Records:
    """The records behind entries, in whichever store has them."""

    stores: tuple[Store, ...]
    _known: dict[str, tuple[Artifact[Any], Store] | None] = field(default_factory=dict)
    _rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def scores(self, entry: Entry) -> tuple[Artifact[Any], Store] | None:
        """The Scores record that an entry was read from; None where no store here has it."""
        digest = entry.scores_digest or ""
        if digest not in self._known:
            self._known[digest] = self._find(digest)
        return self._known[digest]

    def rows(self, entry: Entry) -> dict[str, dict[str, Any]] | None:
        """The rows of scores.jsonl by id."""
        found = self.scores(entry)
        if found is None:
            return None
        scores, store = found
        if scores.digest not in self._rows:
            rows = rows_of(scores, "scores.jsonl", store)
            self._rows[scores.digest] = {row["id"]: row for row in rows}
        return self._rows[scores.digest]

    def paired(self, first: Entry, second: Entry) -> Interval | None:
        """The second minus the first on rows that both have a score for; None: rows not here."""
        a, b = self.rows(first), self.rows(second)
        metric = first.metric
        if a is None or b is None:
            return None
        both = [row for row in a if _number(a[row], metric) and _number(b.get(row, {}), metric)]
        if not both:
            return None
        groups = [str(a[row].get("group") or row) for row in both]
        return paired_difference(
            [float(a[row][metric]) for row in both], [float(b[row][metric]) for row in both], groups
        )

    def _find(self, digest: str) -> tuple[Artifact[Any], Store] | None:
        if not DIGEST.fullmatch(digest):
            return None
        for store in self.stores:
            try:
                return store.by_digest(digest), store
            except UnknownArtifact:
                continue
        return None


def board_place(day: date) -> str:
    """The name of a day's board in durable storage."""
    return f"{REPORTS}/{board_name(day)}"


def enter(run: Run, day: date | None = None) -> str:
    """Enter every Scores record that a run made on today's board; returns the board's address.

    The run's cost should be metered before.

    Raises:
        IntegrityError: what lies there is not a leaderboard.
        StorageError: it cannot be written.
    """
    tiers, manifest = run.tiers, run.ledger.manifest.model_dump(mode="json", by_alias=True)
    subjects = subjects_of(run.made, manifest, teachers=_teachers(tiers), store=tiers.store)
    entries = entries_of(run.made, manifest, subjects)
    name = board_place(day or datetime.now(UTC).date())
    return tiers.update(name, lambda path: append(path, entries))


def _teachers(tiers: Tiers) -> frozenset[str]:
    """The models that students here have learned from."""
    names = set()
    for path in sorted(tiers.manifests.glob("*.json")):
        with contextlib.suppress(IntegrityError):  # a broken manifest is `verify`'s to tell
            names.add(read_manifest(path).teacher_model or "")
    return frozenset(names - {""})


def leaderboard(wanted: Wanted, project: Path) -> Found:
    """The boards of a project, or of several projects and files together.

    Raises:
        UsageError: there is no board, or none of that suite, metric, seal or model.
        IntegrityError: a file is not a leaderboard, was changed by another hand, or says of a
            record what the record does not say.
        EvalError: the model to compare with was scored in another way.
    """
    entries, records = _gathered(wanted.places, project)
    chosen = _chosen(entries, wanted)
    parts = _parts(entries, records)
    made = _with_seal(boards(chosen, metric=wanted.metric, paired=records.paired), wanted.seal)
    if wanted.every_metric and wanted.metric is None:
        made = [*made, *_with_seal(_other_metrics(chosen, made, records), wanted.seal)]
    if wanted.against is not None:
        _require_on_a_board(wanted.against, made, entries, parts)
    views = tuple(_view(board, wanted, records, parts) for board in made)
    return Found(views, tuple(_why_several(made, parts)))


def write_page(path: Path, found: Found) -> None:
    """The boards as one static page.

    Raises:
        StorageError: it cannot be written.
    """
    write_board_page(path, found.views, found.notes)


# -- where boards are ----------------------------------------------------------------------------


def _gathered(places: Sequence[str], project: Path) -> tuple[list[Entry], Records]:
    """The entries of all places, checked against the records that are here, and those records."""
    read_places = [_read_place(place, project) for place in places or [""]]
    stores = {store.root: store for _, _, store in read_places if store is not None}
    own = Tiers.of(project).store
    records = Records(tuple((stores | {own.root: own}).values()))
    several = len(read_places) > 1
    merged: dict[tuple[str, ...], Entry] = {}
    for place, entries, store in read_places:
        for entry in _with_prompts(entries, place if several else "", store):
            key = (
                entry.model_digest,
                entry.prompts_sha256 or entry.suite,
                entry.seal,
                entry.metric,
            )
            if key not in merged or merged[key].created <= entry.created:
                merged[key] = entry
    for entry in merged.values():
        _require_true(entry, records)
    return list(merged.values()), records


def _read_place(place: str, project: Path) -> tuple[str, list[Entry], Store | None]:
    """The entries at a place, and the store of the project that it is, if it is one."""
    path = project / place
    if "://" in place:
        tiers = replace(Tiers.of(project), durable=place)
        return place, _of_durable(tiers, place), None
    if path.is_file():
        return place, read(path), None
    if not path.is_dir():
        raise UsageError(
            f"there is no folder and no file {place}",
            fix="a project's folder, a folder of durable storage, or a leaderboard_*.parquet",
        )
    if not place or (path / ".nexa").is_dir():
        tiers = Tiers.of(path)
        return place, _of_durable(tiers, str(path)), tiers.store
    plain = sorted(p for p in path.iterdir() if BOARD.fullmatch(p.name))
    if plain:
        return place, newest(entry for file in plain for entry in read(file)), None
    tiers = replace(Tiers.of(project), durable=str(path))
    return place, _of_durable(tiers, place), None


def _of_durable(tiers: Tiers, place: str) -> list[Entry]:
    names = [n for n in tiers.names(REPORTS) if BOARD.fullmatch(n.removeprefix(f"{REPORTS}/"))]
    if not names:
        raise UsageError(
            f"there is no leaderboard in {place}",
            found=f"no {REPORTS}/leaderboard_*.parquet in {tiers.durable_place('')}",
            fix=NEXT,
        )
    return newest(
        entry
        for name in names
        for entry in from_parquet(tiers.read(name), tiers.durable_place(name))
    )


def _with_prompts(entries: Iterable[Entry], place: str, store: Store | None) -> Iterable[Entry]:
    """Entries of the first version name a suite by its label alone; its record knows the prompts.

    Where that is not here, a label of another project may be another suite, so it gets its place.
    """
    for entry in entries:
        if entry.prompts_sha256 is not None:
            yield entry
            continue
        digest = _prompts(entry.suite, store)
        label = entry.suite if digest or not place else f"{entry.suite} in {place}"
        yield replace(entry, prompts_sha256=digest, suite=label)


def _prompts(label: str, store: Store | None) -> str | None:
    try:
        return None if store is None else store.get("suite", label).files["prompts.jsonl"]
    except UnknownArtifact:
        return None


def _require_true(entry: Entry, records: Records) -> None:
    """Refuse an entry that says of its record what the record does not say."""
    found = records.scores(entry)
    if found is None:
        return
    scores, body = found[0], found[0].body
    if scores.kind != "scores":
        raise IntegrityError(f"{scores.label} is no scores, and an entry says so")
    told = {**(body.corpus or {}), **body.metrics}.get(entry.metric)
    said = (entry.mean, entry.low, entry.high, entry.rows, entry.groups)
    is_so = None if told is None else (told.mean, told.low, told.high, told.n, told.groups)
    of = (entry.seal, entry.model_digest)
    if said != is_so or of != (body.seal, body.model.digest):
        raise IntegrityError(
            f"an entry of {entry.model} is not what {scores.label} says",
            found=f"{entry.metric} {entry.mean} in the board, "
            f"{'none' if told is None else told.mean} in the record",
            fix="that board was changed: leave it out, or score the model again",
        )


# -- which boards --------------------------------------------------------------------------------


def _chosen(entries: Sequence[Entry], wanted: Wanted) -> list[Entry]:
    """The entries of the suite and metric that were asked for."""
    chosen = list(entries)
    for option, value, told in (
        ("--suite", wanted.suite, [entry.suite for entry in entries]),
        ("--metric", wanted.metric, [entry.metric for entry in entries]),
    ):
        if value is None:
            continue
        matching = {name for name in told if value in (name, name.partition("@")[0])}
        if not matching:
            raise _none(option, value, told)
        attribute = option.removeprefix("--")
        chosen = [entry for entry in chosen if getattr(entry, attribute) in matching]
    if not chosen:
        raise UsageError(f"no score on {wanted.suite} is of {wanted.metric}", fix=NEXT)
    return chosen


def _with_seal(made: Sequence[Board], seal: str | None) -> list[Board]:
    if seal is None:
        return list(made)
    matching = [board for board in made if board.seal.startswith(seal)]
    if not matching and made:
        raise _none("--seal", seal, [board.seal for board in made])
    return matching


def _none(option: str, value: str, there: Iterable[str]) -> UsageError:
    names = sorted(set(there))
    near = nearest(value, names)
    return UsageError(
        f"no board has {option} {value}",
        found=", ".join(names),
        fix=f"{option} {near}" if near else None,
    )


def _other_metrics(
    entries: Sequence[Entry], made: Sequence[Board], records: Records
) -> list[Board]:
    """A board for each metric that is no board's primary."""
    there = {(board.suite, board.seal, board.metric) for board in made}
    others = dict.fromkeys(entry.metric for entry in entries)
    return [
        board
        for metric in sorted(others)
        for board in boards(entries, metric=metric, paired=records.paired)
        if (board.suite, board.seal, board.metric) not in there
    ]


def _parts(entries: Iterable[Entry], records: Records) -> dict[str, dict[str, str]]:
    """Seal -> what it is a digest of, for those of which a record is here."""
    parts: dict[str, dict[str, str]] = {}
    for entry in entries:
        found = records.scores(entry)
        if entry.seal not in parts and found is not None:
            parts[entry.seal] = seal_parts(*found)
    return parts


def _why_several(made: Sequence[Board], parts: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    """For a suite with several boards of one metric: in what their seals differ."""
    groups: dict[tuple[str, str], list[str]] = {}
    for board in made:
        key = (board.prompts_sha256 or board.suite, board.metric)
        groups.setdefault(key, []).append(board.seal)
    for board in made:
        seals = groups.pop((board.prompts_sha256 or board.suite, board.metric), [])
        if len(seals) > 1:
            why = seals_differ(seals, parts) or "the records that would say in what are not here"
            yield f"{board.suite} has {len(seals)} boards by {board.metric}, one a seal: {why}"


def _require_on_a_board(
    model: str,
    made: Sequence[Board],
    entries: Sequence[Entry],
    parts: Mapping[str, Mapping[str, str]],
) -> None:
    """The model to compare with must have been scored as those that it is compared with."""
    if any(_named(entry, model) for board in made for entry in board.entries):
        return
    elsewhere = [entry for entry in entries if _named(entry, model)]
    if not elsewhere:
        raise _none("--against", model, [entry.model for entry in entries])
    seals = [made[0].seal, elsewhere[0].seal]
    raise EvalError(
        f"{model} was not scored as the models of this board were",
        found=seals_differ(seals, parts) or f"seals {seals[0][:16]} and {seals[1][:16]}",
        fix="score it in the same way: nexa eval with the same suite and engine",
    )


def _named(entry: Entry, model: str) -> bool:
    """By its name, with its version or without, or by its digest."""
    return model in (entry.model, entry.model.partition("@")[0], entry.model_digest)


# -- what is shown of a board --------------------------------------------------------------------


def _view(
    board: Board, wanted: Wanted, records: Records, parts: Mapping[str, Mapping[str, str]]
) -> View:
    other = next((e for e in board.entries if wanted.against and _named(e, wanted.against)), None)
    view = View(
        board=board,
        fronts=tuple(front(board, axis) for axis in AXES),
        parts=parts.get(board.seal, {}),
        against_model="" if other is None else other.model,
    )
    against: dict[tuple[str, ...], Interval] = {}
    domains: dict[tuple[str, ...], Mapping[str, Interval]] = {}
    hazards: dict[tuple[str, ...], Mapping[str, int]] = {}
    samples: dict[tuple[str, ...], Sequence[Sample]] = {}
    for entry in board.entries:
        found = records.scores(entry)
        if found is None:
            continue
        by_domain = found[0].body.by_domain.items()
        domains[entry.key] = {n: s[entry.metric] for n, s in by_domain if entry.metric in s}
        safety = found[0].body.safety
        hazards[entry.key] = {} if safety is None else safety.kinds
        if wanted.samples:
            samples[entry.key] = _samples(entry, found, wanted)
        minus = None if other in (None, entry) else records.paired(other, entry)
        if minus is not None:
            against[entry.key] = minus
    return replace(view, against=against, domains=domains, hazards=hazards, samples=samples)


def _samples(entry: Entry, found: tuple[Artifact[Any], Store], wanted: Wanted) -> list[Sample]:
    """Some answers of a model, for a person to read."""
    scores, store = found
    suite = store.by_digest(scores.inputs["suite"])
    answers = store.by_digest(scores.body.answers_digest)
    prompts = {row["id"]: row for row in rows_of(suite, "prompts.jsonl", store)}
    texts = {row["id"]: row for row in rows_of(answers, "answers.jsonl", store)}
    rows = rows_of(scores, "scores.jsonl", store)
    return [
        sample_of(prompts[row["id"]], texts[row["id"]], row, entry.metric)
        for row in choose(rows, wanted.samples, seed=wanted.seed)
    ]


def _number(row: Mapping[str, Any], metric: str) -> bool:
    return row.get(metric) is not None
