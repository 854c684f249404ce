"""`nexa doctor`: what is here, what is broken, and what to do about it; nothing is changed.

A line is `ok`, a `note` (something to know: slower, absent, optional) or `broken` (something will
fail). Credentials are told by where they come from, never by what they are.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any, Literal

import fsspec
from packaging.requirements import Requirement

import nexa
from nexa.core.errors import NexaError
from nexa.core.hardware import (
    Machine,
    available_memory_bytes,
    container_limits,
    this_machine,
)
from nexa.core.secrets import hub_endpoint, hub_token
from nexa.core.store import SPARE_BYTES, free_bytes, nearest_existing
from nexa.core.tiers import Tiers
from nexa.lm.derived import cache_root
from nexa.session import status

State = Literal["ok", "note", "broken"]
DISTRIBUTION = "nexa-compute"
OLDEST_PYTHON = (3, 11)
LEAST_MEMORY_BYTES = 4_000_000_000  # what training SmolLM2-135M took, by docs/log.md
LEAST_FREE_BYTES = 2_000_000_000  # a run of the smallest model: its download, merge and output


@dataclass(frozen=True)
class Line:
    """One thing that was looked at; `fix` says what to do where it is not as it should be."""

    section: str
    name: str
    value: str
    state: State = "ok"
    fix: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was looked at."""

    lines: tuple[Line, ...]

    @property
    def broken(self) -> list[Line]:
        """What will fail."""
        return [line for line in self.lines if line.state == "broken"]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"broken": len(self.broken), "lines": [asdict(line) for line in self.lines]}


def examine(
    root: Path, *, network: bool = False, environment: Mapping[str, str] = os.environ
) -> Diagnosis:
    """Look at the machine, and at the project in `root`; the Hub is asked only with `network`."""
    tiers = Tiers.of(root, environment)
    lines = [
        *machine(this_machine()),
        *software(requires(DISTRIBUTION) or ()),
        *storage(tiers),
        *caches(tiers, environment),
        *extras(requires(DISTRIBUTION) or ()),
        *credentials(environment),
        *session(),
    ]
    if network:
        lines += hub(environment)
    return Diagnosis(tuple(lines))


# -- the machine ---------------------------------------------------------------------------------


def machine(here: Machine) -> Iterator[Line]:
    """Processor, memory, GPU."""
    limits = container_limits()
    quota = "" if limits.cpus is None else f", the container allows {limits.cpus:g}"
    yield Line("machine", "processor", f"{here.cpu}, {here.cores} cores{quota}")
    limited = "" if limits.memory_bytes is None else ", the container's limit"
    room = f"{here.memory_bytes / 1e9:.1f} GB{limited}; {available_memory_bytes() / 1e9:.1f} free"
    if here.memory_bytes < LEAST_MEMORY_BYTES:
        least = f"{LEAST_MEMORY_BYTES / 1e9:.0f} GB were needed to train SmolLM2-135M"
        yield Line("machine", "memory", room, "note", f"{least}: use a larger machine")
    else:
        yield Line("machine", "memory", room)
    if here.bf16:
        yield Line("machine", "bfloat16", "multiplied at full speed")
    else:
        fix = "training.precision: auto takes float32, about half as fast"
        yield Line("machine", "bfloat16", "not in this processor", "note", fix)
    if here.gpu_type:
        fix = "this version trains on the processor"
        yield Line("machine", "GPU", here.gpu_type, "note", fix)
    else:
        yield Line("machine", "GPU", "none; none is needed")


# -- libraries -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clash:
    """Versions that are known to fail together: `condition` says when, by installed versions."""

    packages: tuple[str, ...]
    condition: Callable[[Mapping[str, str]], bool]
    what: str
    fix: str


def _major(versions: Mapping[str, str], name: str) -> int:
    return int(versions[name].split(".")[0])


CLASHES = (
    Clash(
        ("huggingface-hub", "click"),
        lambda v: _major(v, "huggingface-hub") >= 2 and _numbers(v["click"]) < (8, 4, 2),
        "huggingface-hub 2 needs click 8.4.2 or later",
        "pip install -U 'click>=8.4.2'",
    ),
    Clash(
        ("transformers", "huggingface-hub"),
        lambda v: _major(v, "transformers") >= 5 and _major(v, "huggingface-hub") < 1,
        "transformers 5 needs huggingface-hub 1 or later",
        "pip install -U huggingface-hub",
    ),
)


def software(requirements: Iterable[str]) -> Iterator[Line]:
    """Python, Nexa and what it needs, with the versions that are known not to go together."""
    yield Line("software", "nexa", nexa.__version__)
    python = platform.python_version()
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        yield Line("software", "python", python, "broken", f"Python {oldest} or later")
    else:
        yield Line("software", "python", python)
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _library(requirement)
    yield from clashes(CLASHES, _version)


def _library(requirement: Requirement) -> Line:
    found = _version(requirement.name)
    install = f"pip install '{requirement.name}{requirement.specifier}'"
    if found is None:
        return Line("software", requirement.name, "not installed", "broken", install)
    if not requirement.specifier.contains(found, prereleases=True):
        told = f"{found}, {requirement.specifier} is needed"
        return Line("software", requirement.name, told, "broken", install)
    return Line("software", requirement.name, found)


def clashes(known: Iterable[Clash], installed: Callable[[str], str | None]) -> Iterator[Line]:
    """The combinations of the table that are installed here."""
    for clash in known:
        found = {name: installed(name) for name in clash.packages}
        versions = {name: text for name, text in found.items() if text is not None}
        if len(versions) == len(found) and clash.condition(versions):
            told = ", ".join(f"{name} {text}" for name, text in versions.items())
            yield Line("software", told, clash.what, "broken", clash.fix)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def extras(requirements: Iterable[str]) -> Iterator[Line]:
    """Optional parts: there, or missing with the line that installs them."""
    wanted: dict[str, list[str]] = {
        name: [] for name in metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    }
    for line in requirements:
        requirement = Requirement(line)
        for name in wanted:
            marker = requirement.marker
            if marker and marker.evaluate({"extra": name}) and not marker.evaluate({"extra": ""}):
                wanted[name].append(requirement.name)
    for name, packages in wanted.items():
        missing = [package for package in packages if _version(package) is None]
        if missing:
            fix = f"pip install '{DISTRIBUTION}[{name}]'   if you want it"
            yield Line("extras", name, f"missing: {', '.join(missing)}", "note", fix)
        else:
            yield Line("extras", name, f"installed ({len(packages)} packages)")


# -- storage -------------------------------------------------------------------------------------


def storage(tiers: Tiers) -> Iterator[Line]:
    """Each tier's place: whether it may be written, and what is free there."""
    places = {"scratch": tiers.scratch, "store": tiers.store.root, "ledger": tiers.manifests}
    for name, place in places.items():
        yield _place(name, place)
    if tiers.durable_is_local:
        yield _place("durable", Path(tiers.durable_place("")))
        return
    scheme = tiers.durable.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        fix = "install what it names, or set NEXA_DURABLE to a folder"
        yield Line("storage", "durable", f"{tiers.durable}: {error}", "broken", fix)
    else:
        yield Line("storage", "durable", f"{tiers.durable} (asked when it is written)")


def _place(name: str, place: Path) -> Line:
    there = nearest_existing(place)
    try:
        free = free_bytes(place)
        with tempfile.TemporaryFile(dir=there if there.is_dir() else there.parent):
            pass
    except OSError as error:
        what = f"{place} cannot be written: {error.strerror or error}"
        fix = "make it writable, or set NEXA_SCRATCH and NEXA_DURABLE"
        return Line("storage", name, what, "broken", fix)
    told = f"{place}, {free / 1e9:.1f} GB free"
    if free < SPARE_BYTES:
        return Line("storage", name, told, "broken", "free some space")
    if free < LEAST_FREE_BYTES:
        fix = "free some space: a run of the smallest model takes about 2 GB"
        return Line("storage", name, told, "note", fix)
    return Line("storage", name, told)


def caches(tiers: Tiers, environment: Mapping[str, str]) -> Iterator[Line]:
    """What is kept from earlier work, and how large it is."""
    places = {
        "nexa's models": cache_root(),
        "the Hub's": hub_cache(environment),
        "this project": tiers.root / ".nexa",
    }
    for name, place in places.items():
        size = size_of(place)
        yield Line("caches", name, f"{place}, {size / 1e9:.2f} GB" if size else f"{place}, empty")


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Where the Hub's own client keeps what it downloads, by its own variables."""
    if told := environment.get("HF_HUB_CACHE"):
        return Path(told).expanduser()
    general = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(environment.get("HF_HOME") or general / "huggingface").expanduser() / "hub"


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder; a file with several names counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                stat = os.lstat(os.path.join(parent, name))
            except OSError:  # it went while we looked
                continue
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_size
    return total


# -- credentials, session, the Hub ---------------------------------------------------------------


def credentials(environment: Mapping[str, str]) -> Iterator[Line]:
    """Where the Hub token comes from."""
    try:
        token = hub_token(environment)
    except NexaError as error:
        yield Line("credentials", "Hub token", error.what, "broken", error.fix)
        return
    if token is None:
        fix = "nexa login   where a private or a network repository is used"
        yield Line("credentials", "Hub token", "none; local work needs none", "ok", fix)
    else:
        yield Line("credentials", "Hub token", f"from {token.source}")


def session() -> Iterator[Line]:
    """Whether the session server runs, and whether it holds a token."""
    try:
        now = status()
    except NexaError as error:
        yield Line("session", "server", error.what, "broken", error.fix)
        return
    if not now.running:
        yield Line("session", "server", "not running; nexa login starts it")
    elif now.has_token and now.expires_in_s is not None:
        hours = now.expires_in_s / 3600
        yield Line("session", "server", f"holds a token for {hours:.1f} hours more")
    else:
        yield Line("session", "server", "running, without a token")


def hub(environment: Mapping[str, str]) -> Iterator[Line]:
    """Whether the Hub answers, and knows the token if there is one."""
    from nexa.lm.hub_access import whoami

    endpoint = hub_endpoint(environment)
    try:
        token = hub_token(environment)
        if token is not None:
            identity = whoami(token, endpoint)
            yield Line("network", endpoint, f"knows the token of {identity.name} ({identity.role})")
            return
        yield _answers(endpoint)
    except NexaError as error:
        yield Line("network", endpoint, error.what, "broken", error.fix)


def _answers(endpoint: str) -> Line:
    """Whether anything answers at the Hub's address; what it says does not matter."""
    try:
        urllib.request.urlopen(f"{endpoint}/api/models?limit=1", timeout=10).close()
    except urllib.error.HTTPError as refusal:  # which is an answer, too
        refusal.close()
    except OSError as error:
        fix = "see that this machine may reach it, or set HF_ENDPOINT; local work needs no Hub"
        return Line("network", endpoint, f"cannot be reached: {error}", "broken", fix)
    return Line("network", endpoint, "answers")
