"""The five domains of the materials example: which elements, which fields, which sentences.

Everything a note can say stands here as a literal, so adding a field or a phrase is one line.
In a sentence `{v}` is the value that the record must hold and `{alt}` the same fact in a unit
that the record does not use. An aside tells of the bench and not of the element. The other blanks
take chance numbers of the same look as the facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Value = str | int | float


@dataclass(frozen=True)
class Field:
    """One key of a record: the fact behind it and the sentences that can state it."""

    key: str
    fact: str
    """Name of the fact, a key of what `facts.read_facts` gives for an element."""
    sentences: tuple[str, ...]
    other_unit: Callable[[float], float] | None = None
    """Turns the value into the unit of `{alt}`; None where no sentence has an `{alt}`."""


@dataclass(frozen=True)
class Domain:
    """A family of elements with a note style, a record and an instruction of its own."""

    name: str
    style: str
    elements: str
    """Symbols with a space between."""
    eval_elements: int
    pool_elements: int
    subject: tuple[str, str]
    """Key of the record's first entry, and the fact in it: `name` or `symbol`."""
    fields: tuple[Field, ...]
    openings: tuple[str, ...]
    asides: tuple[str, ...]
    prompts: tuple[str, ...]
    separator: str = " "


def _kelvin(celsius: float) -> float:
    return round(celsius + 273.15, 1)


def _celsius(kelvin: float) -> float:
    return round(kelvin - 273.15, 1)


def _picometre(angstrom: float) -> float:
    return round(angstrom * 100)


def _kg_per_m3(g_per_cm3: float) -> float:
    return round(g_per_cm3 * 1000)


def _g_per_cm3(kg_per_m3: float) -> float:
    return round(kg_per_m3 / 1000, 3)


# The s-block has fourteen elements: H and He stand with the nonmetals below and Fr has too few
# measured facts. Group 13, its neighbour in a table without the d-block, fills it up to sixteen.
S_BLOCK = Domain(
    name="s_block_and_group_13",
    style="lab notebook",
    elements="Li Be B Na Mg Al K Ca Ga Rb Sr In Cs Ba Tl Ra",
    eval_elements=5,
    pool_elements=4,
    subject=("sample", "name"),
    fields=(
        Field(
            "mp_c",
            "melting_c",
            (
                "Melted at {v} C.",
                "Melting point, corrected: {v} C.",
                "Liquid film seen at {v} C.",
                "It ran at {v} C ({alt} K).",
            ),
            other_unit=_kelvin,
        ),
        Field(
            "ie_ev",
            "ionisation_ev",
            (
                "First ionisation {v} eV.",
                "First electron off at {v} eV.",
                "Photoionisation edge: {v} eV.",
                "Ionised: {v} eV.",
            ),
        ),
        Field(
            "r_pm",
            "radius_pm",
            (
                "Atomic radius {v} pm.",
                "r = {v} pm.",
                "Atoms of radius {v} pm.",
                "Fitted radius: {v} pm.",
            ),
        ),
    ),
    openings=(
        "Notebook page {n}: {name}, new jar.",
        "Notebook {n}, bench work on {name}.",
        "Lab book, {name}, batch {n}.",
        "Lab page {n}. Opened {name}.",
    ),
    asides=(
        "Oil bath at {hundreds} C.",
        "Lamp set to {ones} eV.",
        "Mica spacing {hundreds} pm.",
        "Box at {tens} ppm water.",
        "Hot plate at {tens} C.",
        "Lunch, then slit {hundreds} um.",
    ),
    prompts=(
        "As JSON: sample, melting point, ionisation energy, radius.",
        "Give melting, ionisation and radius as JSON.",
        "Turn this notebook page into JSON.",
    ),
)

EARLY_D_BLOCK = Domain(
    name="early_d_block",
    style="abstract of a paper",
    elements="Sc Ti V Cr Mn Y Zr Nb Mo Tc La Hf Ta W Re Ac",
    eval_elements=5,
    pool_elements=4,
    subject=("element", "symbol"),
    fields=(
        Field(
            "phase",
            "lattice",
            (
                "The phase is {v} by {hundreds} lines.",
                "Its structure is {v}, from {hundreds} reflections.",
                "A single {v} phase fills {hundreds} um.",
                "We index {v} cells in {hundreds} frames.",
            ),
        ),
        Field(
            "a_angstrom",
            "lattice_constant_angstrom",
            (
                "Refinement gave a = {v} angstrom.",
                "The cell edge is {v} angstrom ({alt} pm).",
                "The lattice constant is {v} angstrom.",
                "For the cell we find {v} angstrom.",
            ),
            other_unit=_picometre,
        ),
        Field(
            "rho",
            "density_g_cm3",
            (
                "The density reached {v} g/cm3.",
                "Weighing gave {v} g/cm3.",
                "Its mass density is {v} g/cm3.",
                "The density is {v} g/cm3 ({alt} kg/m3).",
            ),
            other_unit=_kg_per_m3,
        ),
    ),
    openings=(
        "We study {symbol} in {n} scans.",
        "Bulk {symbol}, melt {n}, was examined.",
        "{symbol} films of {n} nm are reported.",
        "Foils of {symbol}, set {n}, were measured.",
    ),
    asides=(
        "X-rays of {ones} angstrom were used.",
        "The binder weighs {ones} g/cm3.",
        "The spinel substrate stays cubic up to {hundreds} C.",
        "Annealing took {tens} h.",
        "The holder, a rhombic crystal, drifted {tens} um.",
        "Errors are below {tens} ppm.",
    ),
    prompts=(
        "As JSON: element, phase, cell edge, density.",
        "Give phase, cell edge and density as JSON.",
        "Turn this abstract into JSON.",
    ),
)

LATE_D_BLOCK = Domain(
    name="late_d_block",
    style="supplier's data sheet, a line per entry",
    elements="Fe Co Ni Cu Zn Ru Rh Pd Ag Cd Os Ir Pt Au Hg",
    eval_elements=5,
    pool_elements=4,
    subject=("product", "name"),
    fields=(
        Field(
            "cas_no",
            "cas",
            (
                "CAS {v}",
                "CAS number: {v}",
                "Registry no. {v}",
                "Identity: CAS {v}",
            ),
        ),
        Field(
            "kg_m3",
            "density_kg_m3",
            (
                "Density {v} kg/m3",
                "Mass per volume: {v} kg/m3",
                "Specific mass {v} kg/m3 ({alt} g/cm3)",
                "Solid density, {v} kg/m3",
            ),
            other_unit=_g_per_cm3,
        ),
        Field(
            "melts_k",
            "melting_k",
            (
                "Melts: {v} K",
                "Melting point {v} K ({alt} C)",
                "Fusion temperature: {v} K",
                "Liquid above {v} K",
            ),
            other_unit=_celsius,
        ),
    ),
    openings=(
        "DATA SHEET {n} - {name}",
        "Product: {name}, grade {n}",
        "{name} / lot {n}",
        "Item {n}: {name}",
    ),
    asides=(
        "Tap density {thousands} kg/m3",
        "Store below {hundreds} K",
        "Order no. 7731-{tens}-{digit}",
        "EC no. 231-{hundreds}-{digit}",
        "Pack size {hundreds} g",
        "Price list of {year}",
    ),
    prompts=(
        "As JSON: product, CAS number, density, melting point.",
        "Give CAS number, density and melting as JSON.",
        "Turn this data sheet into JSON.",
    ),
    separator="\n",
)

# Left out for want of a fact: At, P (each allotrope boils for itself), and what antiquity knew.
P_BLOCK = Domain(
    name="p_block_and_nonmetals",
    style="letter to a colleague",
    elements="H He N O F Ne Si Cl Ar Ge Se Br Kr Te I Xe Po Rn",
    eval_elements=6,
    pool_elements=4,
    subject=("substance", "name"),
    fields=(
        Field(
            "found",
            "discovery_year",
            (
                "It was found in {v}.",
                "The first report is of {v}.",
                "Its discovery fell in {v}.",
                "Nobody knew it before {v}.",
            ),
        ),
        Field(
            "country",
            "discovery_place",
            (
                "It was done in {v}; drawer {hundreds} has proof.",
                "Credit goes to {v} (see page {hundreds}).",
                "The honour belongs to {v} [{hundreds}].",
                "I filed it under {v}, shelf {hundreds}.",
            ),
        ),
        Field(
            "boils_k",
            "boiling_k",
            (
                "It boils at {v} K.",
                "I saw it boil at {v} K.",
                "Its boiling point, {v} K, surprised me.",
                "Boiling sets in at {v} K ({alt} C).",
            ),
            other_unit=_celsius,
        ),
    ),
    openings=(
        "Dear Ida, here is {name}, card {n}.",
        "Dear Tom, letter {n} asked about {name}.",
        "Dear Mina, my page {n} is on {name}.",
        "My dear Jon, {name} fills {n} cards.",
    ),
    asides=(
        "Our institute opened in {year}.",
        "I left Vienna in {year}.",
        "My cellar stays at {hundreds} K.",
        "The guests from Canada stayed {tens} days.",
        "The parcel from Norway weighs {tens} kg.",
        "Your stamp is of {year}!",
    ),
    prompts=(
        "As JSON: substance, year, country, boiling point.",
        "Give year, country and boiling point as JSON.",
        "Turn this letter into JSON.",
    ),
)

F_BLOCK = Domain(
    name="f_block",
    style="instrument log",
    elements="Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr",
    eval_elements=6,
    pool_elements=5,
    subject=("analyte", "symbol"),
    fields=(
        Field(
            "z",
            "atomic_number",
            (
                "Z = {v};",
                "protons {v};",
                "atomic number {v};",
                "nuclear charge {v};",
            ),
        ),
        Field(
            "mass_u",
            "atomic_weight",
            (
                "mass line {v} u;",
                "atomic weight {v} u;",
                "centroid {v} u;",
                "mean mass: {v} u;",
            ),
        ),
        Field(
            "shell",
            "configuration",
            (
                "configuration {v};",
                "electrons {v};",
                "ground state {v};",
                "shells filled {v};",
            ),
        ),
    ),
    openings=(
        "LOG {n} > {symbol}:",
        "Run {n}, {symbol}, source on;",
        "[{n}] loaded {symbol};",
        "Shift {n}: target {symbol};",
    ),
    asides=(
        "lock mass {hundreds}.{tens} u;",
        "magnet {hundreds} A;",
        "background {tens} counts;",
        "charge state {digit}+;",
        "gate {tens} open;",
        "restart after {tens} s;",
    ),
    prompts=(
        "As JSON: analyte, Z, mass, shell.",
        "Give Z, mass and shell as JSON.",
        "Turn this log into JSON.",
    ),
)

DOMAINS = (S_BLOCK, EARLY_D_BLOCK, LATE_D_BLOCK, P_BLOCK, F_BLOCK)
