"""What config.yaml may say of filters: the names under `data.filters`, and the options of each.

A filter's options are a section like any other: its docstring says what the filter does, its
fields are the options. The code of each stands in `nexa.data.filters`, whose table has the same
names; an installed package brings more of them (entry points in the group `nexa.filter`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from nexa.core.config_base import Count, Positive, Section, Share
from nexa.core.errors import DataError, nearest
from nexa.core.plugins import BrokenPlugin, Registry

Action = Literal["redact", "drop"]
PiiKind = Literal["email", "phone", "iban", "card", "ip", "mac", "ssn", "passport"]
PII_KINDS: tuple[PiiKind, ...] = (
    *("email", "phone", "iban", "card"),
    *("ip", "mac", "ssn", "passport"),
)
PhysicalKind = Literal[
    "temperature",
    "speed",
    "efficiency",
    "yield",
    "fraction",
    "probability",
    "mass",
    "concentration",
    "pressure",
    "duration",
    "wavelength",
    "density",
    "pH",
    "refractive_index",
]
PHYSICAL_KINDS: tuple[PhysicalKind, ...] = get_args(PhysicalKind)
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


class NormaliseSection(Section):
    r"""Mends characters: composed Unicode, `\n` as line end, no control characters but tabs."""

    compose: bool = Field(default=True, description="Unicode's composed form, NFC")
    line_ends: bool = Field(default=True, description="`\\r\\n` and `\\r` become `\\n`")
    controls: bool = Field(
        default=True, description="control characters but tabs and line ends are taken out"
    )
    trailing_blanks: bool = Field(
        default=False, description="blanks at the end of lines and texts are taken out"
    )


class QualitySection(Section):
    """Leaves out rows whose answer is empty, the prompt once more, a loop or broken characters."""

    echo: bool = Field(default=True, description="leave out answers that only repeat the prompt")
    max_loop: Annotated[float, Field(gt=0, le=1, strict=True)] = Field(
        default=0.8, description="the share of an answer's words that one repeated phrase may be"
    )
    max_broken: Annotated[float, Field(ge=0, le=1, strict=True)] = Field(
        default=0.05, description="the share of characters that a wrong encoding may have broken"
    )
    gopher: bool = Field(
        default=False, description="also Gopher's limits for repeated lines and phrases; for prose"
    )
    min_letters: Share = Field(
        default=0.0, description="the share of an answer's characters that letters must be"
    )
    min_words: Count = Field(default=0, description="words an answer must have")
    max_words: Positive | None = Field(default=None, description="words an answer may have")
    refusals: bool = Field(
        default=False, description="leave out answers such as `as an AI language model I cannot`"
    )


class PiiSection(Section):
    """Finds personal data, by form and check digits; each is redacted, or its row left out."""

    action: Action = Field(
        default="redact", description="redact: a placeholder such as `[EMAIL]`; drop: no such row"
    )
    kinds: Annotated[tuple[PiiKind, ...], Field(min_length=1)] = Field(
        default=PII_KINDS, description="what is looked for"
    )


class SecretsSection(Section):
    """Finds credentials: keys, tokens, passwords; each is redacted, or its row left out."""

    action: Action = Field(
        default="redact", description="redact: a placeholder such as `[SECRET]`; drop: no such row"
    )


class LanguageSection(Section):
    """Keeps rows of some languages; short texts, code and numbers have none."""

    keep: Annotated[tuple[LanguageCode, ...], Field(min_length=1)] = Field(
        description="codes of ISO 639: en, de"
    )
    min_confidence: Share = Field(
        default=0.5, description="a language that is less likely counts as unknown"
    )
    unknown: Literal["keep", "drop"] = Field(
        default="keep", description="rows whose language cannot be told: short ones, code, numbers"
    )


class SafetySection(Section):
    """Finds hazards in proposed experiments: red flags that no measure near them answers."""

    action: Literal["drop", "keep"] = Field(
        default="drop", description="drop: no such row; keep: the row stays and is counted"
    )
    max_red_flags: Count = Field(default=0, description="red flags a row may have")
    min_safety_score: Annotated[float, Field(ge=0, le=1, strict=True)] = Field(
        default=0.0, description="the safety score a row must have, from 0 to 1"
    )


class UnphysicalSection(Section):
    """Finds quantities that cannot be: below absolute zero, faster than light, over 100 %."""

    action: Literal["drop", "keep"] = Field(
        default="drop", description="drop: no such row; keep: the row stays and is counted"
    )
    kinds: Annotated[tuple[PhysicalKind, ...], Field(min_length=1)] = Field(
        default=PHYSICAL_KINDS, description="the quantities that are looked at"
    )


class BalanceSection(Section):
    """So that no domain outweighs the others; which rows stay is drawn by each row's digest."""

    by: Literal["domain"] = Field(default="domain", description="the label that is balanced")
    at_most: Positive | None = Field(default=None, description="rows a domain may have")
    ratio: Annotated[float, Field(ge=1, strict=True)] | None = Field(
        default=None, description="how many times the rows of the smallest domain one may have"
    )
    seed: Annotated[Count, Field(lt=2**32)] = Field(
        default=0, description="another one keeps other rows"
    )

    @model_validator(mode="after")
    def _one_limit(self) -> BalanceSection:
        if (self.at_most is None) == (self.ratio is None):
            raise ValueError("give at_most or ratio, one of them")
        return self


FILTER_SECTIONS: dict[str, type[Section]] = {
    "normalise": NormaliseSection,
    "secrets": SecretsSection,
    "pii": PiiSection,
    "quality": QualitySection,
    "language": LanguageSection,
    "safety": SafetySection,
    "unphysical": UnphysicalSection,
}
# Every filter's name: those above, and those of installed packages.
FILTER_NAMES: Registry[Any] = Registry("filter", FILTER_SECTIONS)

Place = tuple[str | int, ...]


def filters_asked(told: object) -> dict[str, dict[str, Any] | Literal[False]]:
    """What `data.filters` asks for: names with their options, False for one that is left out.

    Raises:
        ValueError: it is neither a list nor names with options.
        ValidationError: unknown names, unknown options, values that an option does not take: all
            of them, each with its place below `data.filters`.
    """
    asked: dict[str, dict[str, Any] | Literal[False]] = {}
    mistakes: list[InitErrorDetails] = []
    for place, name, options in _pairs(told):
        if name in asked:
            mistakes.append(_mistake("is asked for twice", place, None))
            continue
        found = _checked(place, name, options)
        mistakes += found
        asked[name] = False if options is False else dict(options or {}) if not found else {}
    if mistakes:
        raise ValidationError.from_exception_data("filters", mistakes)
    return asked


FiltersAsked = Annotated[dict[str, dict[str, Any] | Literal[False]], BeforeValidator(filters_asked)]


def _pairs(told: object) -> Iterator[tuple[Place, str, Any]]:
    """Every name with its place and options, of a list or of a mapping."""
    if isinstance(told, Mapping):
        for name, options in told.items():
            yield (str(name),), str(name), options
        return
    if isinstance(told, str) or not isinstance(told, list | tuple):
        raise ValueError("should be a list of filters, or names with their options")
    for index, item in enumerate(told):
        if isinstance(item, Mapping):
            yield from (((index, *place), name, o) for place, name, o in _pairs(item))
        else:
            yield (index, str(item)), str(item), None


def _checked(place: Place, name: str, options: Any) -> list[InitErrorDetails]:
    """The mistakes of one filter."""
    if name not in FILTER_NAMES:
        names = FILTER_NAMES.names()
        near = nearest(name, names)
        meant = f"did you mean {near!r}?" if near else f"known: {', '.join(names)}"
        return [_mistake(f"is not a filter: {meant}", place, None)]
    if options is False:
        return []
    if options is not None and not isinstance(options, Mapping):
        return [_mistake("should be options, or false to leave it out", place, options)]
    given = {str(key): value for key, value in (options or {}).items()}
    section = FILTER_SECTIONS.get(name)
    if section is not None:
        return _of_section(section, place, name, given)
    try:
        FILTER_NAMES[name](given)
    except (DataError, BrokenPlugin) as error:
        told = error.what + (f" ({error.found})" if error.found else "")
        return [_mistake(told, place, None)]
    return []


def _of_section(
    section: type[Section], place: Place, name: str, given: Mapping[str, Any]
) -> list[InitErrorDetails]:
    try:
        section.model_validate(given)
    except ValidationError as error:
        mistakes = []
        for item in error.errors(include_url=False):
            at, told = (*place, *item["loc"]), item["msg"]
            if item["type"] == "extra_forbidden":
                near = nearest(str(at[-1]), section.model_fields)
                known = f"known: {', '.join(section.model_fields)}"
                told = f"is not an option of {name}: "
                told += f"did you mean {near!r}?" if near else known
            mistakes.append(_mistake(told, at, item["input"], item["type"]))
        return mistakes
    return []


def _mistake(told: str, place: Place, value: Any, kind: str = "filter") -> InitErrorDetails:
    kind = "filter" if kind == "extra_forbidden" else kind
    sentence = PydanticCustomError(kind, "{told}", {"told": told})
    return InitErrorDetails(type=sentence, loc=place, input=value)
