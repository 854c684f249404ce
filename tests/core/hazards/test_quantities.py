"""Numbers and units as people write them."""

from __future__ import annotations

import pytest

from nexa.core.hazards.quantities import (
    NAMES,
    PART_PERCENT,
    convert,
    dimension,
    measured,
    named_unit,
    units,
)

MINUS = "\u2212"


def only(text: str) -> tuple[tuple[float, ...], str]:
    (found,) = measured(text)
    assert text[found.place : found.end].strip() != ""
    return found.values, found.unit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        (".5", 0.5),
        ("1,234.5", 1234.5),
        ("-3", -3),
        (f"{MINUS}3", -3),
        ("at minus 3", -3),
        ("negative 3", -3),
        ("(-3", -3),
        ("value: - 3", -3),
        ("\u2013 3", 3),
        ("of \u2013 3", -3),
        ("1e3", 1000),
        (f"1e{MINUS}3", 0.001),
        ("3 x 10^8", 3e8),
        ("3 \u00d7 10^{8}", 3e8),
        ("3\u00b710\u207b\u00b3", 0.003),
        ("3 \\times 10^{-3}", 0.003),
        ("3*10**4", 3e4),
        ("10^{-3}", 0.001),
        ("-10^3", -1000),
        ("10\u2075", 1e5),
        ("1e9999", float("inf")),
    ],
)
def test_a_number_is_what_it_says(text: str, value: float) -> None:
    assert only(text) == ((value,), "")


@pytest.mark.parametrize("text", ["K-12", "a5", "PA-66", "v1.2.3x"])
def test_names_hold_no_negative_numbers(text: str) -> None:
    assert all(value >= 0 for found in measured(text) for value in found.values)


def test_what_is_taken_away_is_not_negative() -> None:
    assert [found.values for found in measured("30 min minus 5 min")] == [(30,), (5,)]


@pytest.mark.parametrize("text", ["5-10 K", "5 \u2013 10 K", "5 to 10 K", "5..10 K"])
def test_a_range_has_two_ends(text: str) -> None:
    assert only(text) == ((5, 10), "kelvin")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("5 K", "kelvin"),
        ("5\u00a0K", "kelvin"),
        ("5\u00b0C", "degC"),
        ("5 degrees Celsius", "degC"),
        ("5 m/s", "meter*second**-1"),
        ("5 m s^-1", "meter*second**-1"),
        ("5 m s\u207b\u00b9", "meter*second**-1"),
        ("5 km per second", "kilometer*second**-1"),
        ("5 g/cm3", "gram*centimeter**-3"),
        ("5 g\u00b7cm^{-3}", "gram*centimeter**-3"),
        ("5 g.cm-3", "gram*centimeter**-3"),
        ("5 K/min", "kelvin*minute**-1"),
        ("5 kJ/\u00b0C", "kilojoule*delta_degC**-1"),
        ("$5$ m/s", "meter*second**-1"),
        ("5\\,\\mathrm{K}", "kelvin"),
        ("5 %", "%"),
        ("5 percent", "%"),
        ("5 wt%", PART_PERCENT),
        ("5 emu/g", ""),
        ("5 J/(kg K)", ""),
        ("5 apples", ""),
        ("5 g. As", "gram"),
        ("5", ""),
    ],
)
def test_the_unit_stands_behind_the_number(text: str, unit: str) -> None:
    assert only(text)[1] == unit


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("K", "kelvin"),
        ("m_per_s", "meter*second**-1"),
        ("percent", "%"),
        ("%", "%"),
        ("name", ""),
    ],
)
def test_a_key_names_its_unit(written: str, unit: str) -> None:
    assert named_unit(written) == unit


def test_units_are_converted_from_their_own_zero() -> None:
    assert convert(-300, "degC", "kelvin") == pytest.approx(-26.85)
    assert convert(-460, "degF", "kelvin") == pytest.approx(-0.183, abs=1e-3)
    assert convert(1, "kilometer*second**-1", "meter / second") == pytest.approx(1000)
    assert convert(5, "delta_degC**2*kelvin**-1", "kelvin") == pytest.approx(5)
    assert dimension("meter*second**-1") == dimension("speed_of_light")


def test_pint_knows_every_name_and_its_registry_is_made_once() -> None:
    for name in set(NAMES.values()):
        assert dimension(name)
    assert units() is units()
