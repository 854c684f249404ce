"""A YAML file that a user wrote: its values, the line of each, and its mistakes, told at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from nexa.core.errors import ConfigError, nearest

Place = tuple[str | int, ...]
"""The keys and positions that lead to a value."""


class Page:
    """The values of a YAML text; `wrong` notes a mistake, `close` tells all of them.

    Raises:
        ConfigError: the text is not YAML, or not keys with values.
    """

    def __init__(self, text: str, *, name: str) -> None:
        self.name = name
        self._mistakes: list[tuple[int, str]] = []
        try:
            # The round-trip loader alone keeps line numbers; the safe one gives plain values.
            self._tree: Any = YAML(typ="rt").load(text)
            self.values: Any = YAML(typ="safe", pure=True).load(text)
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(
                f"{name} is not YAML", found=f"line {line}: {error.problem}"
            ) from error
        except YAMLError as error:
            raise ConfigError(f"{name} is not YAML", found=str(error)) from error
        if not isinstance(self.values, Mapping):
            raise ConfigError(
                f"{name} holds no keys",
                found="an empty file" if self.values is None else f"{self.values!r:.60}",
            )

    def wrong(self, place: Place, text: str) -> None:
        """Note a mistake in the value at `place`."""
        mistake = (self.line(place), f"{dotted(place)} {text}")
        if mistake not in self._mistakes:
            self._mistakes.append(mistake)

    def section(
        self,
        value: Any,
        place: Place,
        known: Iterable[str],
        *,
        refused: Mapping[str, str] | None = None,
        elsewhere: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The known keys of a mapping that have a value; every other key is a mistake.

        `refused` says of keys that are meant well why they are not taken, `elsewhere` where a key
        belongs. What is no mapping is a mistake too, and gives none.
        """
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(place, f"should have keys below it (got {value!r})")
            return {}
        known, found = list(known), {}
        for key, inner in value.items():
            name, at = str(key), (*place, str(key))
            if name in known:
                found[name] = inner
            elif name in (refused or {}):
                self.wrong(at, f"is not taken: {(refused or {})[name]}")
            else:
                self.wrong(at, f"is not a key: {_meant(name, known, elsewhere or {})}")
        return {name: inner for name, inner in found.items() if inner is not None}

    def line(self, place: Place) -> int:
        """The 1-based line of the value at `place`, or of what it should be in."""
        line, node = 1, self._tree
        for part in place:
            keys = range(len(node)) if isinstance(node, list) else node
            key = next((key for key in keys if str(key) == str(part)), None)
            if key is None:
                break
            # A key that came in by `<<` has no line of its own here: its section's is told.
            if key in (node.lc.data or ()):
                line = int(node.lc.data[key][0]) + 1
            node = node[key]
            if not isinstance(node, (list, dict)):
                break
        return line

    def close(self) -> None:
        """Tell the mistakes.

        Raises:
            ConfigError: there are some: all of them in the file's order, with their lines.
        """
        if self._mistakes:
            in_order = sorted(self._mistakes, key=lambda mistake: mistake[0])
            told = [f"line {line}: {text}" for line, text in in_order]
            count = "a mistake" if len(told) == 1 else f"{len(told)} mistakes"
            raise ConfigError(f"{self.name} has {count}", found="\n".join(told))


def read_page(path: Path) -> Page:
    """The page of a file.

    Raises:
        ConfigError: it cannot be read, or is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", found=str(error)) from error
    return Page(text, name=path.name)


def dotted(place: Place) -> str:
    """A place as people write it: `models[0].parameters.weight`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _meant(name: str, known: list[str], elsewhere: Mapping[str, str]) -> str:
    """What may have been meant by an unknown key."""
    if name in elsewhere:
        return f"did you mean {elsewhere[name]}?"
    if near := nearest(name, known):
        return f"did you mean {near!r}?"
    if other := nearest(name, elsewhere):
        return f"did you mean {elsewhere[other]}?"
    return "known: " + ", ".join(known)
