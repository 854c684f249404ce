"""The table of filters of single rows, and what config.yaml asks of it.

A built-in filter is three things: its options in `nexa.core.config_filters.FILTER_SECTIONS`, a
row here, and a module with `make(options)`. The module is imported when the filter is made, so
what nobody asks for costs nothing. A package adds a filter with an entry point in the group
`nexa.filter` (`nexa.data.filters.base.FilterMaker`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from nexa.core.config_base import Section
from nexa.core.config_filters import FILTER_SECTIONS, filters_asked
from nexa.core.errors import ConfigError, DataError
from nexa.core.plugins import Registry
from nexa.data.filters.base import FilterMaker, FilterSpec, RowFilter

# What every dataset goes through unless told otherwise, in this order.
DEFAULT = ("normalise", "quality")


@dataclass(frozen=True)
class BuiltIn:
    """A row of the table: the filter's name, where its code is, and that code's version."""

    name: str
    module: str
    version: int

    @property
    def section(self) -> type[Section]:
        """Its options."""
        return FILTER_SECTIONS[self.name]

    def __call__(self, options: Mapping[str, Any]) -> RowFilter:
        """The filter, made by its module's `make`."""
        try:
            section = self.section.model_validate(dict(options))
        except ValidationError as error:
            told = "; ".join(
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
            )
            raise DataError(f"the filter {self.name} does not take this", found=told) from error
        return cast("RowFilter", import_module(self.module).make(section))


_FOLDER = "nexa.data.filters"
FILTERS: Registry[FilterMaker] = Registry(
    "filter",
    {
        "normalise": BuiltIn("normalise", f"{_FOLDER}.normalise", version=1),
        "secrets": BuiltIn("secrets", f"{_FOLDER}.secrets", version=1),
        "pii": BuiltIn("pii", f"{_FOLDER}.pii", version=1),
        "quality": BuiltIn("quality", f"{_FOLDER}.quality", version=1),
        "language": BuiltIn("language", f"{_FOLDER}.language", version=1),
        "safety": BuiltIn("safety", f"{_FOLDER}.safety", version=1),
        "unphysical": BuiltIn("unphysical", f"{_FOLDER}.unphysical", version=1),
    },
)


@dataclass(frozen=True)
class Described:
    """A filter for people: what it does, and each option with its default and meaning."""

    name: str
    does: str
    default: bool
    options: tuple[tuple[str, str, str], ...]


def specs(asked: object = (), *, default: Sequence[str] = DEFAULT) -> tuple[FilterSpec, ...]:
    """The filters that rows go through: the default ones, then those asked for, in their order.

    `asked` is what `data.filters` holds: names, or names with options. A default filter takes
    its options from there, and is left out where it is given as false. With `default=()` only
    what was asked for by name is there.

    Raises:
        ConfigError: unknown names or options, or values that an option does not take: all of them.
    """
    try:
        wanted = filters_asked(asked)
    except ValidationError as error:
        told = [
            f"{'.'.join(p for p in item['loc'] if isinstance(p, str))}: {item['msg']}"
            for item in error.errors(include_url=False)
        ]
        raise ConfigError("these filters cannot be had", found="\n".join(told)) from error
    except ValueError as error:
        raise ConfigError("these filters cannot be had", found=str(error)) from error
    in_order = dict.fromkeys([*default, *wanted])
    return tuple(
        _spec(name, options) for name in in_order if (options := wanted.get(name, {})) is not False
    )


def described(names: Iterable[str] | None = None) -> list[Described]:
    """Filters for people: those named, or all in the table's order and installed packages' last."""
    every = [*FILTER_SECTIONS, *(n for n in FILTERS.names() if n not in FILTER_SECTIONS)]
    return [_described(name) for name in (every if names is None else names)]


def option(name: str, field: FieldInfo) -> tuple[str, str, str]:
    """An option for people: its name, its default as config.yaml would say it, its meaning."""
    default = "needed" if field.is_required() else _shown(field.default)
    return name, default, field.description or ""


def _spec(name: str, options: Mapping[str, Any]) -> FilterSpec:
    """With every option's value, given or not: two ways to ask for one thing are one recipe."""
    values = dict(options)
    if name in FILTER_SECTIONS:
        values = FILTER_SECTIONS[name].model_validate(values).model_dump()
    return FilterSpec(name, FILTERS[name].version, tuple(sorted(values.items())))


def _described(name: str) -> Described:
    section = FILTER_SECTIONS.get(name)
    if section is None:
        return Described(name, _first_line(FILTERS[name]), False, ())
    options = tuple(option(key, field) for key, field in section.model_fields.items())
    return Described(name, _first_line(section), name in DEFAULT, options)


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _shown(value: object) -> str:
    """A default as config.yaml would say it."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "none"}[value]
    return str(value)
