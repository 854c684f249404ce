"""The section `feedback` of config.yaml: what counts as weak, and what is done about it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from nexa.core.config_base import Amount, Positive, Section


def _texts(told: object) -> object:
    """One text, or a list of them."""
    return (told,) if isinstance(told, str) else told


def _dollars(told: object) -> object:
    """Two prices; YAML has lists where a tuple is wanted."""
    return tuple(told) if isinstance(told, list) else told


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
NotNegative = Annotated[float, Field(ge=0)]
Dollars = Annotated[tuple[NotNegative, NotNegative], BeforeValidator(_dollars)]
# The ways in which held-out rows are cut into slices; the feedback layer knows how.
KINDS = ("domain", "tag", "length", "cluster")


class FeedbackSection(Section):
    """How a trained model's weaknesses are found, and how rows against them are come by."""

    threshold: Annotated[float, Field(gt=0, le=1, strict=True)] | None = Field(
        default=None, description="a slice is weak where the primary metric lies below it"
    )
    rules: Texts = Field(
        default=(),
        description="instead of threshold: what is weak, e.g. `falsifiability < 4.0`; neither: "
        "what lies below the rest of the suite",
    )
    by: Texts = Field(default=KINDS, description="what held-out rows are cut by")
    minimum_rows: Positive = Field(default=4, description="a slice with fewer is never weak")
    minimum_groups: Positive = Field(default=3, description="a slice with fewer is never weak")
    analysis_share: Annotated[float, Field(gt=0, lt=1, strict=True)] = Field(
        default=1 / 3,
        description="of the held-out groups: where weaknesses are looked for; on the others a "
        "round is accepted",
    )
    generator: str = Field(
        default="pool", description="pool, teacher, paraphrase, hard_negative or random"
    )
    pool: str | None = Field(
        default=None,
        description="labelled rows that nobody trained on yet; left out: a file `pool.*` beside "
        "the training rows",
    )
    rows: Positive = Field(default=40, description="candidates a round, at most")
    rounds: Positive = Field(default=2, description="rounds of improvement, at most")
    budget_usd: Amount | None = Field(
        default=None, description="of all rounds: the teacher's answers and the machine's time"
    )
    teacher: str | None = Field(default=None, description="who writes rows, as in nexa distill")
    base_url: str | None = Field(default=None, description="where the teacher is asked")
    price: Dollars | None = Field(
        default=None, description="the teacher's, dollars for a million tokens: [in, out]"
    )
    votes: Positive = Field(default=2, description="answers of the teacher that must agree")

    @field_validator("rules")
    @classmethod
    def _one_way(cls, rules: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if rules and info.data.get("threshold") is not None:
            raise ValueError("give threshold or rules, not both")
        if not all(rule.strip() for rule in rules):
            raise ValueError("should be rules such as `exact < 0.5`; one of them is empty")
        return rules

    @field_validator("by")
    @classmethod
    def _known(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        for name in by:
            if name not in KINDS:
                raise ValueError(f"{name!r} is nothing that rows are cut by: {', '.join(KINDS)}")
        if not by:
            raise ValueError(f"should name one of {', '.join(KINDS)}")
        return tuple(dict.fromkeys(by))
