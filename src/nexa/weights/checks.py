"""What a proof of parity is made of: named checks, each with what was seen and what was allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nexa.core.errors import ParityError


@dataclass(frozen=True)
class Check:
    """One question with its answer: `value` against `limit` (a bound, a range or an equal)."""

    name: str
    passed: bool
    value: Any
    limit: Any


@dataclass(frozen=True)
class Parity:
    """The content of parity.json: `facts` about what was compared, and every check's outcome.

    `refusal` and `fix` are what a failure is told with, and no part of the content.
    """

    checks: tuple[Check, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = "the written model is not the model it was made from"
    fix: str = "nothing was kept; keep what it was made from and report this"

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        checks = [asdict(check) for check in self.checks]
        return {"passed": self.passed, **self.facts, "checks": checks}

    def require(self) -> None:
        """Stop here unless every check passed.

        Raises:
            ParityError: names each failing check with its value and limit.
        """
        failed = [check for check in self.checks if not check.passed]
        if failed:
            raise ParityError(
                f"{self.refusal}: {', '.join(check.name for check in failed)}",
                found="\n".join(f"{c.name}: {c.value} (limit {c.limit})" for c in failed),
                fix=self.fix,
            )
