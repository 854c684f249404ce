"""A rubric from its YAML file; every mistake is told at once, with its line.

name: research
primary: overall            # or a criterion
show_target: false          # whether the judge sees the answer that was wanted
criteria:
  clarity:
    asks: Would a colleague understand it?
    weight: 1
    levels: {1: ..., 2: ..., 3: ..., 4: ..., 5: ...}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from nexa.core.errors import ConfigError, nearest
from nexa.eval.rubrics.rubric import LEVELS, OVERALL, Criterion, Rubric

FOLDER = Path(__file__).parent
DEFAULT = "research"
KEYS = ("name", "primary", "show_target", "criteria")
CRITERION_KEYS = ("asks", "weight", "levels")
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Keys of a row of scores or judgements, and of a verdict.
RESERVED = frozenset(
    {
        *("id", "group", "domain", "stopped", "detail", OVERALL, "nonce", "reason", "reasons"),
        *("safety_score", "red_flag_count", "red_flags", "problem", "flags", "left_out"),
    }
)

Place = tuple[str | int, ...]


def built_in() -> list[str]:
    """The names of the package's own rubrics."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_rubric(what: str | Path = DEFAULT) -> Rubric:
    """A rubric of the package by its name, or one from a file.

    Raises:
        ConfigError: there is none, or it has mistakes: all of them, with lines.
    """
    known = built_in()
    path = FOLDER / f"{what}.yaml" if str(what) in known else Path(what).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = nearest(str(what), known)
        raise ConfigError(
            f"there is no rubric {what}",
            found=f"the nearest name is {near}" if near else f"known: {', '.join(known)}",
            fix="--rubric FILE.yaml, or one of: " + ", ".join(known),
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the rubric {path}", found=str(error)) from error
    return parse_rubric(text, name=path.name)


def parse_rubric(text: str, *, name: str = "rubric.yaml") -> Rubric:
    """A rubric from its text; `name` is what its mistakes are told under.

    Raises:
        ConfigError: it is not YAML, or has mistakes: all of them, with lines.
    """
    try:
        tree = YAML(typ="rt").load(text)  # the one loader that keeps line numbers
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name} is not YAML", found=f"line {line}: {error.problem}") from error
    except YAMLError as error:
        raise ConfigError(f"{name} is not YAML", found=str(error)) from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{name} holds no rubric", fix=f"keys: {', '.join(KEYS)}")
    page = _Page(tree)
    rubric = page.rubric()
    if page.mistakes:
        count = "a mistake" if len(page.mistakes) == 1 else f"{len(page.mistakes)} mistakes"
        told = "\n".join(f"line {line}: {text}" for line, text in sorted(page.mistakes))
        raise ConfigError(f"{name} has {count}", found=told)
    return rubric


class _Page:
    """A file's values with their lines; mistakes are gathered, and something stands in for them."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.mistakes: list[tuple[int, str]] = []

    def rubric(self) -> Rubric:
        values = self._keys(self.tree, (), KEYS, wanted=("name", "criteria"))
        criteria = self._criteria(values.get("criteria"))
        primary = values.get("primary", OVERALL)
        names = [criterion.name for criterion in criteria]
        if primary not in (OVERALL, *names):
            near = nearest(str(primary), (OVERALL, *names))
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join((OVERALL, *names))}"
            self._wrong(("primary",), f"{primary!r} is no criterion: {hint}")
        show_target = values.get("show_target", False)
        if not isinstance(show_target, bool):
            self._wrong(("show_target",), f"{show_target!r} is not true or false")
        name = values.get("name")
        if "name" in values and not (isinstance(name, str) and NAME.fullmatch(name)):
            self._wrong(("name",), f"{name!r} is not a name: lower case, digits, _")
        return Rubric(str(name), tuple(criteria), str(primary), bool(show_target))

    def _criteria(self, found: Any) -> list[Criterion]:
        if found is None:
            return []
        if not isinstance(found, Mapping) or not found:
            self._wrong(("criteria",), "holds no criteria")
            return []
        return [self._criterion(name, value) for name, value in found.items()]

    def _criterion(self, name: Any, found: Any) -> Criterion:
        place = ("criteria", name)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            self._wrong(place, f"{name!r} is not a name: lower case, digits, _")
        elif name in RESERVED:
            self._wrong(place, f"{name!r} is a name that every row has already")
        values = self._keys(found, place, CRITERION_KEYS, wanted=("asks", "levels"))
        weight = values.get("weight", 1)
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight <= 0:
            self._wrong((*place, "weight"), f"{weight!r} is not a number above 0")
            weight = 1
        asks = self._text(values.get("asks", "-"), (*place, "asks"))
        return Criterion(str(name), asks, self._levels(values, place), float(weight))

    def _levels(self, values: Mapping[str, Any], place: Place) -> tuple[str, ...]:
        found = values.get("levels", dict.fromkeys(LEVELS, "-"))
        place = (*place, "levels")
        if not isinstance(found, Mapping) or set(found) != set(LEVELS):
            told = ", ".join(map(str, found)) if isinstance(found, Mapping) else repr(found)
            self._wrong(place, f"are not 1, 2, 3, 4 and 5, each with its words (got {told:.60})")
            return ()
        return tuple(self._text(found[level], (*place, level)) for level in LEVELS)

    def _text(self, value: Any, place: Place) -> str:
        if not isinstance(value, str) or not value.strip():
            self._wrong(place, f"{value!r} is not words")
        return " ".join(str(value).split())

    def _keys(
        self, found: Any, place: Place, known: Sequence[str], *, wanted: Sequence[str]
    ) -> dict[str, Any]:
        """The known keys of a section; others, and those that are missing, are mistakes."""
        if not isinstance(found, Mapping):
            self._wrong(place, f"is not a section with the keys {', '.join(known)}")
            return {}
        for key in found:
            if key not in known:
                near = nearest(str(key), known)
                hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
                self._wrong((*place, key), f"is not a key: {hint}")
        for key in wanted:
            if found.get(key) is None:
                self._wrong(place, f"{key} is missing")
        return {key: found[key] for key in known if found.get(key) is not None}

    def _wrong(self, place: Place, text: str) -> None:
        dotted = ".".join(map(str, place))
        self.mistakes.append((self._line(place), f"{dotted} {text}".strip()))

    def _line(self, place: Place) -> int:
        line, node = 1, self.tree
        for key in place:
            if key in (node.lc.data or ()):
                line = int(node.lc.key(key)[0]) + 1
            node = node[key]
        return line
