"""What a flight check found: one line a check, and every finding with its exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nexa.core import errors
from nexa.core.errors import NexaError

State = Literal["passed", "failed", "not run", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: what, why, and what to do next."""

    check: str
    error_class: str
    exit_code: int
    what: str
    found: str | None
    fix: str | None

    @classmethod
    def of(cls, check: str, error: NexaError) -> Finding:
        """An error as a finding."""
        kind = type(error)
        return cls(check, kind.__name__, kind.exit_code, error.what, error.found, error.fix)

    def error(self) -> NexaError:
        """The finding as the error it would be."""
        return _error_class(self.error_class)(self.what, found=self.found, fix=self.fix)


@dataclass(frozen=True)
class Result:
    """How one check went; `detail` is what was seen, or why it was not run."""

    check: str
    state: State
    detail: str
    seconds: float = 0.0


@dataclass(frozen=True)
class CheckReport:
    """The whole flight check. `facts` are what was measured; `cached` says they are from before."""

    findings: tuple[Finding, ...]
    results: tuple[Result, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    cached: bool = False
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def exit_code(self) -> int:
        """That of the first finding; 0 without one."""
        return self.findings[0].exit_code if self.findings else 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "passed": self.passed,
            "exit_code": self.exit_code,
            "cached": self.cached,
            "seconds": round(self.seconds, 2),
            "results": [asdict(result) for result in self.results],
            "findings": [asdict(finding) for finding in self.findings],
            "facts": dict(self.facts),
        }


def _error_class(name: str) -> type[NexaError]:
    """The class of `core.errors` with this name; its parent's where it is defined elsewhere."""
    known = getattr(errors, name, NexaError)
    return known if isinstance(known, type) and issubclass(known, NexaError) else NexaError
