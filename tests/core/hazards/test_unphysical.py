"""Laws that quantities obey, and words that tell a quantity from a change of it."""

from __future__ import annotations

from typing import get_args

import pytest

from nexa.core.config_filters import PhysicalKind
from nexa.core.hazards.unphysical import LAWS, QUANTITIES, Law, unphysical


def kinds(text: str) -> list[str]:
    return [found.quantity for found in unphysical(text)]


@pytest.mark.parametrize(
    ("kind", "breaks", "obeys"),
    [
        ("temperature", "Cool it to -300 \u00b0C.", "Cool it to -200 \u00b0C."),
        ("temperature", "It froze at -500 F.", "It froze at -50 F."),
        ("temperature", "Anneal at -5 K.", "Anneal at 5 K."),
        ("speed", "It travels at 5e9 m/s.", "It travels at 5e6 m/s."),
        ("speed", "The jet moves at 1.2c.", "The jet moves at 0.2c."),
        ("speed", "The ship flies at twice the speed of light.", "It flies at 3 m/s."),
        ("efficiency", "An efficiency of 120 %.", "An efficiency of 20 %."),
        ("efficiency", "An efficiency of 1.2.", "An efficiency of 0.2."),
        ("efficiency", "It is 120 % efficient.", "It is 20 % efficient."),
        ("yield", "The yield was 120 %.", "The yield was 99 %."),
        ("fraction", "Porosity: 120 %.", "Porosity: 20 %."),
        ("fraction", "The mole fraction is 1.2.", "The mole fraction is 0.2."),
        ("fraction", "It holds 120 wt% iron.", "It holds 20 wt% iron."),
        ("probability", "A probability of 1.2.", "A probability of 0.2."),
        ("probability", "A chance of 120 %.", "A chance of 20 %."),
        ("mass", "Weigh -3 g in.", "Weigh 3 g in."),
        ("concentration", "A concentration of -3 mM.", "A concentration of 3 mM."),
        ("concentration", "A lead content of -3 mg/L.", "A lead content of 3 mg/L."),
        ("pressure", "A partial pressure of -3 Pa.", "A partial pressure of 3 Pa."),
        ("duration", "Stir for -3 min.", "Stir for 3 min."),
        ("wavelength", "A wavelength of -3 nm.", "A wavelength of 3 nm."),
        ("density", "A steel of density 80 g/cm3.", "A steel of density 8 g/cm3."),
        ("pH", "The pH was 17.", "The pH was 7."),
        ("pH", "At pH -3 it dissolves.", "At pH 3 it dissolves."),
        ("refractive_index", "A glass of refractive index 0.5.", "Its refractive index is 1.5."),
    ],
)
def test_each_quantity_has_its_limits(kind: str, breaks: str, obeys: str) -> None:
    assert kinds(breaks) == [kind]
    assert kinds(obeys) == []


@pytest.mark.parametrize(
    "text",
    [
        "The temperature changed by -300 K.",
        "A wind of 5e9 m/s is impossible.",
        "Can it travel at 5e9 m/s?",
        "The phase velocity is 5e9 m/s.",
        "The phase runs ahead at three times the speed of light.",
        "The efficiency rose by 120 %.",
        "The yield was 120 %, so solvent must be left.",
        "The crude yield was 120 %.",
        "A probability of 3 heads.",
        "The efficiency is 24.5.",
        "The density of the star is 1e6 g/cm3.",
        "Add -3 of them.",
    ],
)
def test_changes_comparisons_counts_and_denials_are_none(text: str) -> None:
    assert kinds(text) == []


def test_a_record_may_tell_the_unit_in_the_key() -> None:
    assert kinds('{"velocity_m_per_s": 5e9, "temperature_K": -4}') == ["speed", "temperature"]
    assert kinds("temperature (K) = -4") == ["temperature"]
    assert kinds('{"temperature_K": 4, "name_x": -4}') == []


def test_a_find_tells_the_value_where_it_stands_and_why_not() -> None:
    text = "First this.\nThen cool to -300 \u00b0C quickly."
    (found,) = unphysical(text)
    assert (found.value, found.why) == ("-300 \u00b0C", "below absolute zero")
    assert text[found.place :].startswith("-300")


def test_a_range_counts_by_either_end() -> None:
    assert kinds("Yields of 90-140 % were found.") == ["yield"]


def test_a_law_speaks_of_its_own_units_only() -> None:
    law = Law("speed", "meter / second", 0, 10, "why")
    assert law.breaks(11, "meter*second**-1")
    assert not law.breaks(11, "%")
    assert not law.breaks(11, "kelvin")


def test_the_configuration_names_the_same_quantities() -> None:
    assert get_args(PhysicalKind) == QUANTITIES
    assert {law.quantity for law in LAWS} == set(QUANTITIES)
