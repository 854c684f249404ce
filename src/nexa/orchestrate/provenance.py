"""The facts that a manifest opens with: which code, which libraries, which machine."""

from __future__ import annotations

import secrets
import socket
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

import nexa
from nexa.core.hardware import this_machine
from nexa.core.identity import canonical_json, new_run_id, sha256_bytes, sha256_file
from nexa.core.manifest import RunManifest


def opening_facts(start: datetime, *, run_type: str, config_path: Path | None) -> RunManifest:
    """A manifest that says what is known before any work."""
    machine = this_machine()
    versions = library_versions()
    return RunManifest(
        run_id=new_run_id(start, secrets.token_bytes(2)),
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


@cache
def code_digest() -> str:
    """sha256 over the names and digests of Nexa's own source files."""
    root = Path(nexa.__file__).parent
    files = {str(p.relative_to(root)): sha256_file(p) for p in sorted(root.rglob("*.py"))}
    return sha256_bytes(canonical_json(files))


@cache
def library_versions() -> dict[str, str]:
    """The installed version of each library that Nexa needs."""
    versions = {}
    for line in requires("nexa-compute") or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            try:
                versions[requirement.name] = version(requirement.name)
            except PackageNotFoundError:  # an editable install may be ahead of its environment
                continue
    return dict(sorted(versions.items()))
