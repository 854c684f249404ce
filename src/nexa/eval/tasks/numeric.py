"""Answers that are a number, with a unit where the target has one: 3.2 km is 3200 m.

Units are pint's. A unit is read where it stands right after the number (`9.81 m/s^2`,
`5 J/(mol K)`, `7.8 g cm-3`), so that words of a sentence are none. A number
whose unit is missing, unknown or of another dimension is wrong, and counted as such.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

from nexa.core.errors import EvalError
from nexa.eval.tasks.extract import NUMBER, Extract, whole
from nexa.eval.tasks.task import Grade, Metric, Task

METRICS = (
    Metric("correct", 1, "1 if the quantity is the target's, within the tolerance"),
    Metric("dimension", 1, "1 if there is a number, in a unit of the target's dimension"),
)
RELATIVE = 1e-6
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_WORD = r"(?:(?:°\s?)?[^\W\d_]+|%|°)"
_POWER = r"(?:(?:\^|\*\*)\(?[-+\u2212]?\d+\)?|[-\u2212]?\d+|[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)"
_BELOW = r"(?:(?:\^|\*\*)?[-\u2212]\d+|⁻[⁰¹²³⁴⁵⁶⁷⁸⁹]+)"  # a power that no word of a sentence has
# A word and its power; then more of them, joined by a sign, by `per`, or by the power they have.
_UNIT = re.compile(
    rf"\s*{_WORD}{_POWER}?"
    rf"(?:(?:\s*(?:/|\*|·|⋅)\s*|\s+per\s+)(?:{_WORD}{_POWER}?|\([^()]*\))|\s+{_WORD}{_BELOW})*"
)
_JOINED = re.compile(r"(?<=[^\W\d_])([-+]?\d+)")


@dataclass(frozen=True)
class Tolerance:
    """How far an answer may be off: what any of them allows is right.

    `relative` is a share of the target, `absolute` in the target's unit; with `digits` both are
    rounded to so many significant ones first.
    """

    relative: float = RELATIVE
    absolute: float = 0.0
    digits: int | None = None

    def allows(self, given: float, wanted: float) -> bool:
        """Whether the two are the same number, as far as asked."""
        if abs(given - wanted) <= max(self.absolute, self.relative * abs(wanted)):
            return True
        return self.digits is not None and math.isclose(
            _significant(given, self.digits), _significant(wanted, self.digits), rel_tol=1e-12
        )


@dataclass(frozen=True)
class Quantity:
    """A number and the unit behind it: "" for none, None for one that pint does not know."""

    value: float
    unit: str | None


def numeric_task(
    name: str = "numeric",
    about: str = "the answer is a number, with its unit",
    *,
    unit: str = "",
    tolerance: Tolerance = Tolerance(),
    extract: Extract = whole,
    last: bool = True,
) -> Task:
    """A task whose targets are quantities; `unit` is that of targets that name none.

    Of several numbers in an answer the last one counts, or the first.
    """
    if unit and _parsed(unit) is None:
        raise EvalError(f"{unit!r} is no unit that pint knows", fix="e.g. km, m/s**2, kJ/mol")

    def wanted(target: str) -> Quantity:
        found = quantity(target, last=last, units=True)
        if found is None or (found.unit is None and not unit):
            raise EvalError(
                "a held-out answer is no number with a unit",
                found=target[:80],
                fix="name the unit right after the number, as in 3.2 km, or the task's `unit`",
            )
        return Quantity(found.value, found.unit or unit)

    def grade(answer: str, target: str) -> Grade:
        right = wanted(target)
        part = extract(answer)
        given = None if part is None else quantity(part, last=last, units=bool(right.unit))
        return _grade(given, right, tolerance)

    return Task(
        name=name,
        about=about,
        metrics=METRICS,
        primary="correct",
        parser="quantity/1",
        fits=lambda targets: bool([wanted(target) for target in targets]),
        grader=lambda targets: grade,
        reader=extract,
    )


def quantity(text: str, *, last: bool = True, units: bool = True) -> Quantity | None:
    """The last number of a text (or the first) with its unit; None without a number."""
    found: list[Quantity] = []
    at = 0
    while match := NUMBER.search(text, at):
        behind = _UNIT.match(text, match.end())
        at = behind.end() if behind else match.end()  # a power of the unit is no number
        unit = _plain(behind.group()) if behind and units else ""
        found.append(Quantity(_number(match.group()), unit if _parsed(unit) is not None else None))
    return found[-1 if last else 0] if found else None


def _grade(given: Quantity | None, right: Quantity, tolerance: Tolerance) -> Grade:
    counts = dict.fromkeys(("unreadable", "unit_missing", "unit_wrong", "value_wrong"), 0)
    value: float | None = None
    if given is None:
        counts["unreadable"] = 1
    elif right.unit and given.unit == "":
        counts["unit_missing"] = 1
    else:
        value = _converted(given, right.unit or "")
        counts["unit_wrong"] = int(value is None)
    correct = value is not None and tolerance.allows(value, right.value)
    counts["value_wrong"] = int(value is not None and not correct)
    return Grade({"correct": float(correct), "dimension": float(value is not None)}, counts)


def _converted(given: Quantity, unit: str) -> float | None:
    """The number in another unit; None where there is no way from the one to the other."""
    if given.unit is None:
        return None
    import pint

    try:
        found = _registry().Quantity(given.value, given.unit).to(unit).magnitude
    except (pint.PintError, OverflowError, ZeroDivisionError):
        return None
    return float(found)


def _number(text: str) -> float:
    """A number as it is written, whatever its signs."""
    plain = text.replace("\u2212", "-").replace(",", "").replace(" ", "")
    plain = _RAISED.sub(lambda raised: "^" + raised.group().translate(_SUPERSCRIPTS), plain)
    plain = re.sub(r"[x*\u00d7\u00b7]10(?:\^|\*\*)\{?([-+]?\d+)\}?", r"e\1", plain)
    return float(plain)


def _plain(unit: str) -> str:
    """A unit in pint's signs: `g cm⁻³` is `g cm**-3`."""
    text = unit.strip().replace("\u2212", "-").replace("^", "**").replace("° ", "°")
    for sign, plain in (("·", "*"), ("⋅", "*"), ("μ", "µ"), ("°", "deg"), ("%", "percent")):
        text = text.replace(sign, plain)
    text = _RAISED.sub(lambda raised: "**" + raised.group().translate(_SUPERSCRIPTS), text)
    return _JOINED.sub(r"**\1", text)


@cache
def _parsed(unit: str) -> Any:
    """What pint makes of a unit's text; None if it does not know it."""
    import pint

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _registry().parse_units(unit)
    except (pint.PintError, ValueError, TypeError, AttributeError, SyntaxError, KeyError):
        return None


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True, cache_folder=None)


def _significant(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}") if math.isfinite(value) else value


NUMERIC = numeric_task()
