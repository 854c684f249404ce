"""The facts that a manifest opens with: which code, which libraries, which machine."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

import nexa
from nexa.core.hardware import this_machine
from nexa.core.identity import canonical_json, new_run_id, sha256_bytes, sha256_file
from nexa.core.manifest import RunManifest


def opening_facts(
    start: datetime, *, run_type: str, config_path: Path | None, ledger: Path
) -> RunManifest:
    """A manifest that says what is known before any work; `ledger` has those of earlier runs."""
    machine = this_machine()
    versions = library_versions()
    return RunManifest(
        run_id=next_run_id(start, ledger),
        run_type=run_type,
        hostname=socket.gethostname(),
        gpu_type=machine.gpu_type,
        nexa_version=nexa.__version__,
        code_digest=code_digest(),
        lock_digest=sha256_bytes(canonical_json(versions)),
        versions=versions,
        machine=machine.to_json(),
        config_sha256=sha256_file(config_path) if config_path else None,
    )


def next_run_id(start: datetime, ledger: Path) -> str:
    """A new run's name, which sorts after those of the ledger, even within one second."""
    second = new_run_id(start, b"\0\0")[:-4]
    taken = [int(path.stem[-4:], 16) for path in ledger.glob(f"{second}*.json")]
    token = max(taken) + 1 if taken else secrets.randbelow(1 << 15)
    return new_run_id(start, token.to_bytes(2, "big"))


@cache
def code_digest() -> str:
    """sha256 over the names and digests of Nexa's own source files."""
    root = Path(nexa.__file__).parent
    files = {str(p.relative_to(root)): sha256_file(p) for p in sorted(root.rglob("*.py"))}
    return sha256_bytes(canonical_json(files))


@cache
def library_versions() -> dict[str, str]:
    """The installed version of each library that Nexa needs."""
    return versions_of(requires("nexa-compute") or ())


def versions_of(requirements: Iterable[str]) -> dict[str, str]:
    """Versions of what is required here, by name; extras and what is not installed are left out."""
    versions = {}
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            # An editable install may be ahead of its environment.
            with contextlib.suppress(PackageNotFoundError):
                versions[requirement.name] = version(requirement.name)
    return dict(sorted(versions.items()))
