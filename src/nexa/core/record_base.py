"""What every sealed body is made of: a frozen model, a model's name, a number with its interval."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    """The part of a record that its kind defines. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def is_none(value: object) -> bool:
    """For a field that a later version added: left out while it is None.

    So a record that was sealed before has the digest it had.
    """
    return value is None


class ModelRef(Body):
    """Which model, exactly: where it came from and the digest of its files."""

    name: str = Field(description="what the user calls it: an alias, a Hub id, a folder's name")
    origin: str = Field(description="hub:ID@REVISION | wheel:NAME==VERSION | folder | gguf")
    digest: str = Field(description="sha256 over the names and digests of its files")
    quantisation: str | None = Field(
        default=None, description="what the weights were dequantised from, if they were"
    )
    source_sha256: str | None = Field(
        default=None,
        description="digest of the file the weights were taken out of, if there is one",
    )


class Interval(Body):
    """A number with its uncertainty. `low` and `high` are a 95 % interval, clustered by group."""

    mean: float = Field(description="over the rows")
    low: float = Field(description="lower end")
    high: float = Field(description="upper end")
    n: int = Field(description="rows scored")
    groups: int = Field(description="clusters the interval was drawn over")
