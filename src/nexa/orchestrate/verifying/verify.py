"""`nexa verify`: whether anything here was changed since it was made; every byte is read again.

Nothing is written and nothing is mended. It finds what changed by accident, and what was changed
by somebody who did not also forge every digest that leads to it; who made it, it cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import DataError, IntegrityError, UsageError
from nexa.core.ledger import SUMS, read_sums
from nexa.core.manifest import find_run_id
from nexa.core.records import KINDS
from nexa.core.store_check import Problem, StoreCheck
from nexa.core.tiers import Tiers
from nexa.data.registry import read as read_registry
from nexa.orchestrate.output import CARD, read_output
from nexa.orchestrate.verifying.durable import DurableCheck
from nexa.orchestrate.verifying.run import RunCheck
from nexa.publish import layout
from nexa.publish.verify import absent, verify_folder
from nexa.train import checkpoint

REGISTRY = "dataset_registry.yaml"
TOLD = 20  # problems that an error lists; their number is told in any case


@dataclass(frozen=True)
class Verified:
    """What was looked at and found whole. `notes` are remarks on what is no fault."""

    subject: str
    checks: tuple[str, ...]
    notes: tuple[str, ...] = ()


def verify(what: str | None, project: Path, expect: str | None = None) -> Verified:
    """Verify a run, an artifact, a published folder, or (None) all that is here.

    Args:
        what: a run's id, its beginning or `latest`; `KIND/NAME[@vN]`; a folder.
        project: the user's folder.
        expect: for a published folder: the root digest that publishing printed.

    Raises:
        IntegrityError: names every file that is not what it should be, and why.
        UsageError: no such run; `expect` for something that has no root digest.
        UnknownArtifact: no such artifact.
    """
    tiers = Tiers.of(project)
    folder = Path(what) if what is not None else None
    if folder is not None and (folder / layout.ROOT).is_file():
        return _folder(folder, expect)
    if expect is not None:
        raise UsageError("--expect is for a published folder", fix="nexa verify FOLDER --expect D")
    if folder is not None and (folder / CARD).is_file():
        return _run(str(read_output(folder)["run_id"]), tiers)
    if what is None:
        return _all(tiers)
    kind, slash, name = what.partition("/")
    if slash and kind in KINDS:
        return _artifact(kind, name, tiers)
    if folder is not None and folder.is_dir():
        return _folder(folder, expect)
    return _run(find_run_id(tiers.manifests, what), tiers)


def _folder(folder: Path, expect: str | None) -> Verified:
    checks = verify_folder(folder, expect=expect)
    notes = [
        f"{file} is not in this folder (sha256 {digest}): the scores are of it, and each GGUF file "
        "was compared with it"
        for file, digest in absent(folder).items()
    ]
    return Verified(str(folder), tuple(check.name for check in checks), tuple(notes))


def _run(run_id: str, tiers: Tiers) -> Verified:
    run = RunCheck(tiers, run_id, StoreCheck(tiers.store), DurableCheck(tiers))
    return _told(f"run {run_id}", run.everything())


def _artifact(kind: str, name: str, tiers: Tiers) -> Verified:
    check = StoreCheck(tiers.store)
    # The name by itself: a record that was changed cannot be asked for its label.
    pointer = tiers.store.named(kind, name)
    digest = pointer.read_bytes().decode(errors="replace")
    problems = list(check.artifact(digest, str(pointer)))
    return _told(
        f"{kind}/{pointer.parent.name}@{pointer.name}", [("records and their files", problems)]
    )


def _all(tiers: Tiers) -> Verified:
    store, durable = StoreCheck(tiers.store), DurableCheck(tiers)

    def checks() -> Iterator[tuple[str, list[Problem]]]:
        yield "store", list(store.everything())
        yield "durable storage", list(durable.everything())
        yield "ledger", list(_ledger(tiers))
        yield REGISTRY, list(_registry(tiers))
        for path in sorted(tiers.manifests.glob("*.json")):
            for name, problems in RunCheck(tiers, path.stem, store, durable).everything():
                yield f"run {path.stem}: {name}", problems

    told = _told("everything here", checks())
    counted = f"{len(store.records)} records, {len(store.blobs)} files in the store"
    notes = [counted, *_leftovers(tiers, store, durable)]
    return Verified(told.subject, told.checks, tuple(notes))


def _ledger(tiers: Tiers) -> Iterator[Problem]:
    """Manifests that are noted and gone; those that are here are each run's own to verify."""
    try:
        noted = read_sums(tiers.manifests)
    except IntegrityError as error:
        yield Problem(str(tiers.manifests / SUMS), error.what)
        return
    for name in noted:
        if not (tiers.manifests / name).is_file():
            yield Problem(str(tiers.manifests / name), f"is missing; {SUMS} has a digest of it")


def _registry(tiers: Tiers) -> Iterator[Problem]:
    """Every dataset that the registry names is in the store, with the digest it gives."""
    path = tiers.root / REGISTRY
    try:
        registry = read_registry(path)
    except DataError as error:
        yield Problem(str(path), error.found or error.what)
        return
    for name, versions in registry.items():
        for version, entry in versions.items():
            pointer = tiers.store.root / "names" / "dataset" / name / version
            if not pointer.is_file():
                yield Problem(str(path), f"names dataset/{name}@{version}, which is not here")
            elif pointer.read_text(errors="replace") != entry.get("digest"):
                yield Problem(str(path), f"gives another digest of dataset/{name}@{version}")


def _leftovers(tiers: Tiers, store: StoreCheck, durable: DurableCheck) -> Iterator[str]:
    """What stopped work has left: told, and no fault."""
    if store.leftovers:
        yield f"{store.leftovers} files in the store were left by stopped writers; safe to delete"
    for marker in sorted(tiers.scratch.rglob(checkpoint.MARKER)):
        try:
            checkpoint.check(marker.parent)
        except IntegrityError as error:
            yield f"run state: {error.what}; resuming passes over it"
    for problem in durable.run_state():
        yield f"run state: {problem.place} {problem.what}; resuming passes over it"


def _told(subject: str, checks: Iterable[tuple[str, list[Problem]]]) -> Verified:
    """The names of the checks that found nothing; else the error that names what they found."""
    names, problems = [], []
    for name, found in checks:
        names.append(name)
        problems += found
    if not problems:
        return Verified(subject, tuple(names))
    lines = list(dict.fromkeys(f"{problem.place}: {problem.what}" for problem in problems))
    more = [f"and {len(lines) - TOLD} more"] if len(lines) > TOLD else []
    places = len({problem.place for problem in problems})
    raise IntegrityError(
        f"{subject} is not what was made: {places} file{'s' * (places > 1)} changed or gone",
        found="\n".join([*lines[:TOLD], *more]),
        fix="take the files from a backup, or run the command that made them again",
    )
