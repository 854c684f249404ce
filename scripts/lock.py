"""Write requirements.lock: the versions that are installed here of all that Nexa needs.

The closure of the project's dependencies and of its extras `test` and `dev` is walked through the
installed packages' own metadata, so the lock is what was tested. Left out on purpose:

- hashes and local versions (`+cpu`): `torch==2.13.0` is then found wherever pip looks;
- the accelerator packages that only some builds of torch depend on: those bring them themselves.

To move to newer versions: `.venv/bin/pip install --upgrade --editable .[test,dev]`, `make test`,
then `make lock`.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("test", "dev")
ACCELERATOR = re.compile(r"(nvidia|cuda|triton|pytorch-triton)\b")
HEADER = """\
# Written by `make lock`: runtime, tests and tools, as they were tested together.
# No hashes and no local versions, so that every build of torch {torch} fits.
"""


def main() -> None:
    """Write the file."""
    pins = closure(wanted(ROOT / "pyproject.toml"))
    lines = [f"{name}=={version}" for name, version in sorted(pins.items())]
    text = HEADER.format(torch=pins["torch"]) + "\n".join(lines) + "\n"
    (ROOT / "requirements.lock").write_text(text, encoding="utf-8")
    print(f"requirements.lock: {len(pins)} packages")


def wanted(pyproject: Path) -> list[Requirement]:
    """What the project asks for: its dependencies, its extras, and its build system."""
    tree = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    project = tree["project"]
    lines = [*project["dependencies"], *tree["build-system"]["requires"]]
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def closure(requirements: list[Requirement]) -> dict[str, str]:
    """Name -> version of every installed package that is needed, directly or not."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = list(requirements)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if ACCELERATOR.match(name) or (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        found = installed(name)
        pins[name] = found.version.partition("+")[0]
        queue += needs(found, requirement.extras)
    return pins


def needs(found: Distribution, extras: set[str]) -> list[Requirement]:
    """What a package itself requires here, with these of its extras."""
    listed = [Requirement(line) for line in found.requires or []]
    return [
        item
        for item in listed
        if item.marker is None
        or any(item.marker.evaluate({"extra": extra}) for extra in (extras or {""}) | {""})
    ]


def installed(name: str) -> Distribution:
    """The installed package.

    Raises:
        SystemExit: it is not installed: the environment is not what pyproject.toml asks for.
    """
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise SystemExit(f"{name} is not installed: .venv/bin/pip install -e .[test,dev]") from None


if __name__ == "__main__":
    main()
