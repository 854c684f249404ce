"""Numbers with their units, as people, papers and JSON records write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pint

MINUS = "\u2212"  # the sign of typesetting; a keyboard has the hyphen
DASHES = f"-{MINUS}\u2013\u2010\u2011"
RAISED = str.maketrans(
    "\u207b\u207a\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079", "-+0123456789"
)

# A dash is a sign where nothing that it could join stands before it; set apart by blanks it is
# one only after a word or sign that a value follows.
SIGN = (
    rf"(?:(?<![\w.\u00b0%)\]}}])[{DASHES}](?=[\d.])|(?<=[=:~])\s?[{DASHES}]\s?"
    rf"|(?:(?<=\bof )|(?<=\bat )|(?<=\bto )|(?<=\bis )|(?<=\bwas )|(?<=\bby )"
    rf"|(?<=\babout ))[{DASHES}]\s"
    r"|\b(?:minus|negative)\s)"
)
DIGITS = r"(?:\d{1,3}(?:[,\u202f\u2009]\d{3})+(?:\.\d+)?|\d{1,30}(?:\.\d{1,30})?|\.\d{1,30})"
POWER = (
    rf"10\s?(?:(?:\^|\*\*)\s?\{{?\s?(?P<#>[+{DASHES}]?\d{{1,4}})\s?\}}?"
    r"|(?P<#_raised>[\u207b\u207a]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]{1,4}))"
)
TIMES = r"\s?(?:[x\u00d7\u00b7*\u22c5]|\\times|\\cdot)\s?"
NUMBER = re.compile(
    rf"(?P<sign>{SIGN})?(?<![\w.])(?:{POWER.replace('#', 'alone')}|(?P<digits>{DIGITS})"
    rf"(?:[eE](?P<exponent>[+{DASHES}]?\d{{1,4}})|{TIMES}{POWER.replace('#', 'power')})?)"
)
EXPONENTS = ("exponent", "power", "power_raised", "alone", "alone_raised")
UPPER = re.compile(rf"\s?(?:[{DASHES}]|\bto\b|\.\.)\s?({DIGITS})(?=\s?[^\d.,]|$)")

# After these "minus 5" is a value; elsewhere it takes away: "30 minutes minus 5 minutes".
VALUE_AFTER = re.compile(
    r"(?:^|[=:(,;\n]|\b(?:at|to|of|is|was|be|are|were|reached|reads?|shows?|showed|below|around"
    r"|about"
    r"|approximately|for|by|than|from|until|and|between|near|nearly|roughly|towards?|as))\s*$",
    re.IGNORECASE,
)

# As written, and as pint calls it. What is not here is no unit: "3 a" or "5 in" are words.
NAMES = {
    "\u00b0C": "degC", "\u2103": "degC", "\u00b0F": "degF", "\u00b0K": "kelvin", "K": "kelvin",
    "Kelvin": "kelvin", "kelvin": "kelvin", "kelvins": "kelvin", "degC": "degC", "degF": "degF",
    "degrees Celsius": "degC", "degrees Fahrenheit": "degF", "degree Celsius": "degC",
    "degrees C": "degC", "degrees F": "degF", "deg C": "degC", "deg F": "degF",
    "Celsius": "degC", "Fahrenheit": "degF", "celsius": "degC", "fahrenheit": "degF",
    "degrees celsius": "degC", "degrees fahrenheit": "degF", "mK": "millikelvin",
    "\u00b5K": "microkelvin", "\u03bcK": "microkelvin",
    "m": "meter", "km": "kilometer", "cm": "centimeter", "mm": "millimeter", "nm": "nanometer",
    "\u00b5m": "micrometer", "\u03bcm": "micrometer", "um": "micrometer", "pm": "picometer",
    "\u00c5": "angstrom", "nanometers": "nanometer", "nanometres": "nanometer",
    "meters": "meter", "metres": "meter", "kilometers": "kilometer", "kilometres": "kilometer",
    "mi": "mile", "miles": "mile", "ft": "foot",
    "s": "second", "sec": "second", "seconds": "second", "second": "second", "ms": "millisecond",
    "\u00b5s": "microsecond", "\u03bcs": "microsecond", "ns": "nanosecond", "ps": "picosecond",
    "fs": "femtosecond", "min": "minute", "mins": "minute", "minutes": "minute",
    "minute": "minute", "h": "hour", "hr": "hour", "hours": "hour", "hour": "hour",
    "days": "day", "day": "day", "weeks": "week", "years": "year",
    "g": "gram", "kg": "kilogram", "mg": "milligram", "\u00b5g": "microgram",
    "\u03bcg": "microgram", "ug": "microgram", "ng": "nanogram", "t": "tonne",
    "grams": "gram", "gram": "gram", "kilograms": "kilogram", "kilogram": "kilogram",
    "milligrams": "milligram", "lb": "pound",
    "L": "liter", "l": "liter", "mL": "milliliter", "ml": "milliliter", "\u00b5L": "microliter",
    "\u03bcL": "microliter", "dL": "deciliter", "cc": "centimeter**3", "liter": "liter",
    "litre": "liter",
    "mol": "mole", "mmol": "millimole", "\u00b5mol": "micromole", "\u03bcmol": "micromole",
    "M": "molar", "mM": "millimolar", "\u00b5M": "micromolar", "\u03bcM": "micromolar",
    "uM": "micromolar", "nM": "nanomolar", "molar": "molar",
    "Pa": "pascal", "kPa": "kilopascal", "MPa": "megapascal", "GPa": "gigapascal",
    "hPa": "hectopascal", "bar": "bar", "mbar": "millibar", "atm": "atmosphere", "Torr": "torr",
    "torr": "torr", "psi": "psi", "mmHg": "mmHg",
    "A": "ampere", "mA": "milliampere", "V": "volt", "mV": "millivolt", "\u00b5V": "microvolt",
    "\u03bcV": "microvolt", "J": "joule", "kJ": "kilojoule", "eV": "electron_volt", "W": "watt",
    "mW": "milliwatt", "Hz": "hertz", "N": "newton", "C": "degC", "F": "degF",
    "c": "speed_of_light", "times the speed of light": "speed_of_light",
    "times light speed": "speed_of_light",
}  # fmt: skip
_TOKEN = "|".join(re.escape(name) for name in sorted(NAMES, key=len, reverse=True))
_RAISE = rf"(?:\^?\{{?[{DASHES}]?\d\}}?|\*\*-?\d|[\u207b\u207a]?[\u00b9\u00b2\u00b3\u2074])"
PART = re.compile(rf"(?P<name>{_TOKEN})(?P<power>{_RAISE})?(?![A-Za-z\u00b5\u03bc])")
JOIN = re.compile(
    r"\s?(?P<per>/|\bper\s)\s?|\s?[\u00b7*\u22c5]\s?|\.(?=\S{1,4}[-\u207b\d])"
    r"|[ ~](?=[A-Za-z\u00b5\u03bc]{1,4}(?:\^|\*\*|\u207b|[-\u2212]\d))"
)
PERCENT = re.compile(r"\s?(?:(?P<part>(?:wt|at|vol)\.?[ -]?%)|%|(?:percent|per cent|pct)\b)")
PART_PERCENT = "part%"  # of weight, of atoms, of volume
COUNTED = ("", "%", PART_PERCENT)  # units that measure nothing
BLANK = re.compile(r"(?:[ \u00a0\u202f~]|\\[,; ])?\$? ?(?:\\(?:mathrm|text)\{)?")
UNKNOWN = re.compile(r"\s?/\s?[A-Za-z(]|_")


@dataclass(frozen=True)
class Measured:
    """A number in a text: from `place` to `end` with its unit, and what both mean.

    `values` are one, or the two ends of a range; `unit` is a name that pint knows or one of
    COUNTED.
    """

    place: int
    end: int
    values: tuple[float, ...]
    unit: str


def measured(text: str) -> Iterator[Measured]:
    """Every number of a text with the unit that follows it."""
    done = 0
    for match in NUMBER.finditer(text):
        if match.start() < done:
            continue  # the upper end of a range, or part of a unit
        value = _value(match)
        if (
            match["sign"]
            and match["sign"][0] in "mM"
            and not VALUE_AFTER.search(text[: match.start()])
        ):
            value = -value
        values, end = [value], match.end()
        upper = UPPER.match(text, end)
        if upper:
            values.append(float(_plain(upper[1])))
            end = upper.end()
        unit, end = _unit(text, end)
        done = end
        yield Measured(match.start(), end, tuple(values), unit)


@cache
def units() -> pint.UnitRegistry[Any]:
    """The process's one registry of units."""
    import pint

    return pint.UnitRegistry()


@cache
def dimension(unit: str) -> str:
    """What a unit measures, as pint writes it: `[length] / [time]`."""
    return str(units().Unit(unit).dimensionality)


def convert(value: float, unit: str, wanted: str) -> float:
    """A value of one unit in another one of the same dimension."""
    zero, one = _straight(unit, wanted)
    return zero + value * (one - zero)


@cache
def _straight(unit: str, wanted: str) -> tuple[float, float]:
    """What 0 and 1 of a unit are in another one: all units here differ by a straight line."""
    zero, one = (units().Quantity(value, unit).to(wanted).magnitude for value in (0.0, 1.0))
    return float(zero), float(one)


def named_unit(written: str) -> str:
    """The unit that the end of a JSON key names: `K`, `m_per_s`, `percent`; empty: none."""
    if written.lower() in ("percent", "pct", "%"):
        return "%"
    return _unit(written.replace("_per_", "/"), 0)[0]


def _value(match: re.Match[str]) -> float:
    exponent = next((match[name] for name in EXPONENTS if match[name]), "0")
    sign = "-" if match["sign"] else ""
    return float(f"{sign}{_plain(match['digits'] or '1')}e{_plain(exponent)}")


def _plain(number: str) -> str:
    """A number as float() takes it."""
    number = re.sub(r"[,\u202f\u2009]", "", number.translate(RAISED))
    return re.sub(f"[{DASHES}]", "-", number)


def _unit(text: str, start: int) -> tuple[str, int]:
    """The unit that begins here, after a blank or none, and where it ends; empty: none."""
    percent = PERCENT.match(text, start)
    if percent:
        return PART_PERCENT if percent["part"] else "%", percent.end()
    place, end, per = start + len(BLANK.match(text, start)[0]), start, False  # type: ignore[index]
    factors: list[tuple[str, int]] = []
    while part := PART.match(text, place):
        power = int(_plain((part["power"] or "1").strip("^*{}")))
        factors.append((NAMES[part["name"]], -power if per else power))
        end = part.end()
        join = JOIN.match(text, end)
        if join is None:
            break
        per, place = join["per"] is not None, join.end()
    if UNKNOWN.match(text, end):
        return "", start
    if len(factors) > 1 or (factors and factors[0][1] != 1):
        # Of a compound with degrees pint asks which zero they are counted from: from none.
        factors = [(name.replace("deg", "delta_deg"), power) for name, power in factors]
    return "*".join(f"{name}**{power}" if power != 1 else name for name, power in factors), end
