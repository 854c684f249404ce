"""A clean check is kept until anything that it looked at changes.

Kept in .nexa/checks under the digest of what is cheap to read: config.yaml, Nexa's code and step
versions, the libraries, the machine, the files of data. The model's files are large: each is
known by its size, times and inode, with the digest that was taken when it looked like that. What
lies outside (free space, the token) is not kept: it is looked at every time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nexa.core.events import emit
from nexa.core.hardware import this_machine
from nexa.core.identity import canonical_json, sha256_bytes, sha256_file
from nexa.core.store import write_atomic
from nexa.core.tiers import Tiers
from nexa.orchestrate.check.report import CheckReport, Result
from nexa.orchestrate.provenance import code_digest, library_versions
from nexa.orchestrate.steps import STEPS

FORMAT = 1  # of an entry; raised when its fields change
KEPT = 20  # entries a project keeps; the oldest go


def key_of(config_path: Path, data_files: Iterable[Path], *, rehearse: bool) -> str:
    """The digest of all that is cheap to read and that a check's result depends on."""
    machine = this_machine()
    return sha256_bytes(
        canonical_json(
            {
                "format": FORMAT,
                "config": sha256_file(config_path),
                "data": [[path.name, sha256_file(path)] for path in sorted(data_files)],
                "code": code_digest(),
                "steps": {name: step.version for name, step in STEPS.items()},
                "libraries": library_versions(),
                "machine": {**machine.to_json(), "gpus": list(machine.gpus)},
                "rehearse": rehearse,
            }
        )
    )


def find(tiers: Tiers, key: str) -> CheckReport | None:
    """The clean check under this key, if the model is still the one it looked at."""
    path = _folder(tiers) / f"{key}.json"
    try:
        entry = json.loads(path.read_bytes())
        results = tuple(Result(**result) for result in entry["results"])
        seen = {Path(name): stamp for name, stamp in entry["model_files"].items()}
        facts: dict[str, Any] = entry["facts"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        emit("note", text=f"{path} cannot be read and is made again: {type(error).__name__}")
        return None
    if any(_stamp(file) != stamp for file, stamp in seen.items()):
        return None
    return CheckReport((), results, facts, cached=True)


def keep(tiers: Tiers, key: str, report: CheckReport, model_files: Iterable[Path]) -> None:
    """Keep a clean check."""
    entry: Mapping[str, Any] = {
        "results": [asdict(result) for result in report.results],
        "facts": report.facts,
        "model_files": {str(path): _stamp(path) for path in sorted(model_files)},
    }
    folder = _folder(tiers)
    write_atomic(folder / f"{key}.json", json.dumps(entry, indent=2).encode())
    entries = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for old in entries[:-KEPT]:
        old.unlink(missing_ok=True)


def _stamp(path: Path) -> list[int] | None:
    """Size, times and inode: a file with the same ones was not written in between.

    The time of change cannot be set back by a program, as the time of modification can.
    """
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _folder(tiers: Tiers) -> Path:
    return tiers.root / ".nexa" / "checks"
