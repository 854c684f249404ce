"""Facts about the elements, read from the database inside the PyPI package `mendeleev`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from domains import Value

VERSION = "1.3.0"
INSTALL = f"pip install mendeleev=={VERSION}"

# The database's codes, in words; the codes that are not here belong to elements outside `domains`.
LATTICES = {
    "BCC": "body-centred cubic",
    "CUB": "cubic",
    "FCC": "face-centred cubic",
    "HEX": "hexagonal",
}

# The database gives one row for each allotrope: a melting point counts if all rows agree on it.
_PHASES = """
    SELECT atomic_number, MIN(melting_point) AS melting, MIN(boiling_point) AS boiling,
           MAX(melting_point) - MIN(melting_point) AS melting_spread,
           MAX(boiling_point) - MIN(boiling_point) AS boiling_spread,
           COALESCE(MAX(is_sublimation_point), 0) AS sublimes
    FROM phasetransitions GROUP BY atomic_number
"""
_ELEMENTS = f"""
    SELECT p.melting, p.boiling, p.melting_spread, p.boiling_spread, p.sublimes,
           i.ionization_energy, e.*
    FROM elements e
    LEFT JOIN ({_PHASES}) p ON p.atomic_number = e.atomic_number
    LEFT JOIN ionizationenergies i ON i.atomic_number = e.atomic_number AND i.ion_charge = 0
    WHERE e.atomic_number <= 103
"""


class MendeleevMissing(RuntimeError):
    """The package with the facts is absent or of another version."""


def database() -> Path:
    """The package's `elements.db`. The package is found, not imported: its imports are heavy.

    Raises:
        MendeleevMissing: with the version found and the line that installs the right one.
    """
    spec = importlib.util.find_spec("mendeleev")
    if spec is None or spec.origin is None:
        raise MendeleevMissing(f"package mendeleev is not installed\n  try    {INSTALL}")
    found = importlib.metadata.version("mendeleev")
    if found != VERSION:
        raise MendeleevMissing(
            f"facts come from mendeleev {VERSION}\n  found  {found}\n  try    {INSTALL}"
        )
    return Path(spec.origin).with_name("elements.db")


def read_facts(database: Path) -> dict[str, dict[str, Value]]:
    """Facts by element symbol; a fact that is unknown has no key.

    Units are in the names of the facts; temperatures are rounded to 0.1, ionisation to 0.01.
    """
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        elements = [dict(row) for row in connection.execute(_ELEMENTS)]
    facts = {}
    for element in elements:
        known = _facts_of(element)
        facts[element["symbol"]] = {
            name: value for name, value in known.items() if value is not None
        }
    return facts


def _facts_of(row: Mapping[str, float | str | None]) -> dict[str, Value | None]:
    melting = _number(row, "melting") if row["melting_spread"] == 0 else None
    boiling = _number(row, "boiling") if row["boiling_spread"] == 0 else None
    if row["sublimes"]:
        melting = boiling = None
    density, place = _number(row, "density"), row["discovery_location"]
    return {
        "name": _text(row, "name"),
        "symbol": _text(row, "symbol"),
        "atomic_number": _whole(_number(row, "atomic_number")),
        "atomic_weight": _number(row, "atomic_weight"),
        "cas": _text(row, "cas"),
        "configuration": _text(row, "electronic_configuration"),
        "lattice": LATTICES.get(_text(row, "lattice_structure") or ""),
        "lattice_constant_angstrom": _number(row, "lattice_constant"),
        "density_g_cm3": _rounded(density, 3),
        "density_kg_m3": None if density is None else round(density * 1000),
        "melting_c": _rounded(melting, 1, minus=273.15),
        "melting_k": _rounded(melting, 1),
        "boiling_k": _rounded(boiling, 1),
        "ionisation_ev": _rounded(_number(row, "ionization_energy"), 2),
        "radius_pm": _rounded(_number(row, "atomic_radius"), 0),
        "discovery_year": _whole(_number(row, "discovery_year")),
        "discovery_place": None if place is None else str(place).replace("/", " and "),
    }


def _number(row: Mapping[str, float | str | None], column: str) -> float | None:
    value = row[column]
    return None if value is None else float(value)


def _text(row: Mapping[str, float | str | None], column: str) -> str | None:
    value = row[column]
    return None if value is None else str(value)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _rounded(value: float | None, digits: int, *, minus: float = 0.0) -> Value | None:
    """Rounded half to even; to a whole number when `digits` is 0."""
    if value is None:
        return None
    return round(value - minus, digits) if digits else round(value - minus)
