"""What a rubric is: criteria with anchored levels, their weights, and the digest of all that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from nexa.core.identity import canonical_json, sha256_bytes

OVERALL = "overall"
LEVELS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Criterion:
    """One thing that is graded; `levels` says in words what earns 1, 2, 3, 4 and 5."""

    name: str
    asks: str
    levels: tuple[str, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Rubric:
    """Criteria in their order. `primary` is one of them, or `overall`, their weighted mean."""

    name: str
    criteria: tuple[Criterion, ...]
    primary: str = OVERALL
    show_target: bool = False  # whether the judge is shown the answer that was wanted

    @cached_property
    def sha256(self) -> str:
        """The digest of every word and number of it: one changed comma makes another."""
        return sha256_bytes(canonical_json(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Plain data, as judgements keep it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rubric:
        """What `to_json` gave."""
        criteria = (
            Criterion(**{**criterion, "levels": tuple(criterion["levels"])})
            for criterion in data["criteria"]
        )
        return cls(**{**data, "criteria": tuple(criteria)})

    @property
    def names(self) -> list[str]:
        """The criteria's names."""
        return [criterion.name for criterion in self.criteria]

    @property
    def metrics(self) -> list[str]:
        """What scores by it have: the criteria and their mean."""
        return [*self.names, OVERALL]

    def overall(self, values: Mapping[str, float | None]) -> float | None:
        """The weighted mean over all criteria; None where one of them has no value."""
        weighted = []
        for criterion in self.criteria:
            value = values[criterion.name]
            if value is None:
                return None
            weighted.append(criterion.weight * value)
        return math.fsum(weighted) / math.fsum(criterion.weight for criterion in self.criteria)


def score_of(level: float) -> float:
    """A level from 1 to 5 as a score from 0 to 1."""
    return (level - LEVELS[0]) / (LEVELS[-1] - LEVELS[0])


def level_of(score: float) -> float:
    """A score from 0 to 1 as the level that it was."""
    return LEVELS[0] + score * (LEVELS[-1] - LEVELS[0])
