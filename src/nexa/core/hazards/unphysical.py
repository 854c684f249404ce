"""Quantities that nothing can have: below absolute zero, faster than light, a yield over 100 %."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from nexa.core.hazards.quantities import (
    COUNTED,
    PART_PERCENT,
    convert,
    dimension,
    measured,
    named_unit,
)
from nexa.core.hazards.sentences import Sentence, sentences

BEFORE, AFTER = 100, 70  # characters around a number that say what it is a quantity of

# A text that says of a value that it cannot be says nothing unphysical.
DENIED = re.compile(
    r"\b(?:impossible|cannot|can['\u2019]t|could not|not possible|unphysical|nonsens\w+|violat\w+"
    r"|absurd|absolute zero|typo|erroneous|mistak\w+|incorrect|artefacts?|artifacts?|hypothetical"
    r"|science fiction|would (?:be|mean|imply|require|exceed)|no \w+ can|nothing can"
    r"|must not exceed|exceeds? the speed|forbidden|sanity check|invalid)\b",
    re.IGNORECASE,
)
CHANGE = (
    r"differen|\bchang|shift|offset|\bdelta\b|\u0394|relative|deviat|drift|\bloss\b|\blost\b|drop"
    r"|decreas|increas|\bgains?\b|\brate\b|gradient|correction|\berror\b|uncertain|residual|\bbias"
    r"|\bby(?: about| up to)?\s*$|\bnet\b|\blog|\bln\b|lower(?:ed|s) by|compared"
)
MORE = (
    r"increas|improv|\brose\b|\bgr[eo]w|rais|higher|\bgains?\b|boost|enhanc|relative|versus|\bvs\b"
    r"|compar|theoretical|reference|normali[sz]ed|of its|of the (?:control|original|initial|value)"
    r"|\bof that\b|\bby(?: about| up to)?\s*$|baseline|\bmore\b|outperform"
)


@dataclass(frozen=True)
class Impossible:
    """A quantity that cannot be: its kind, the value as it is written, where, and why not."""

    quantity: str
    value: str
    why: str
    place: int


@dataclass(frozen=True)
class Law:
    """What values a quantity can have: from `low` to `high` in `unit`, the ends included.

    `subject` must stand near the number, which tells this quantity from others of its unit;
    `excused_by` near it, in its clause if it follows, means that it is something else, as a change
    or a comparison is; `explained_by` may stand in a later clause too.
    `after` subjects may also follow the number. `only`: no other units but these. `share`: whole
    numbers and those over 10 tell something else (five heads, 24.5 with the percent sign left out).
    """

    quantity: str
    unit: str
    low: float
    high: float
    why: str
    subject: str | None = None
    excused_by: str | None = None
    explained_by: str | None = None
    after: str | None = None
    only: tuple[str, ...] = ()
    share: bool = False
    patterns: dict[str, re.Pattern[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = {
            "subject": self.subject,
            "excuse": self.excused_by,
            "explained": self.explained_by,
            "after": self.after,
        }
        compiled = {k: re.compile(v, re.IGNORECASE) for k, v in given.items() if v is not None}
        object.__setattr__(self, "patterns", compiled)

    def breaks(self, value: float, unit: str) -> bool:
        """Whether a value lies outside; False if its unit is of another dimension."""
        if self.only and unit not in self.only:
            return False
        if self.share and (value > 10 or (value > 1 and value.is_integer())):
            return False
        if unit in COUNTED or self.unit in COUNTED:
            return unit == self.unit and not self.low <= value <= self.high
        if dimension(unit) != dimension(self.unit):
            return False
        return not self.low <= convert(value, unit, self.unit) <= self.high

    def speaks(self, before: str, after: str) -> bool:
        """Whether the words around a number are of this quantity."""
        excuse, explained = self.patterns.get("excuse"), self.patterns.get("explained")
        clause = re.split("[,;]", after, maxsplit=1)[0]
        if excuse and (excuse.search(before) or excuse.search(clause)):
            return False
        if explained and (explained.search(before) or explained.search(after)):
            return False
        subject, behind = self.patterns.get("subject"), self.patterns.get("after")
        if subject is None or subject.search(before):
            return True
        return behind is not None and behind.match(after) is not None


# A subject is kept to its own number; the digits of a formula (CO2) are none, and "yield: 26 mg
# (118 %)" tells one thing twice.
_TO = r"(?:[^0-9;]|(?<=[A-Za-z)])[0-9]){0,60}(?:[0-9.,]+ ?(?:[mk]?g|m?mol)\b\W{1,3})?$"
_USUAL = (
    r"(?:glass|lens|prism|fib(?:er|re)|liquid|\boil\b|water|polymer|coating|window|transparent)"
)
_SOLVENT = r"crude|residual|solvent|moisture|impurit|\bwet\b|apparent|not dry"
LAWS: tuple[Law, ...] = (
    Law(
        *("temperature", "kelvin", -0.1, inf, "below absolute zero"),
        excused_by=CHANGE,
        only=("degC", "degF"),
    ),
    # Energies and couplings are told in kelvin too, and those have both signs.
    Law(
        *("temperature", "kelvin", -0.1, inf, "below absolute zero"),
        only=("kelvin", "millikelvin", "microkelvin"),
        subject=r"(?:temperature|\bT\b|\bTc\b|\bat(?: about)?\s*$|anneal|\bcool|\bheat|freez"
        r"|warm|stor(?:e|ed|age)"
        r"|bath|thermometer|cryo|furnace|dewar|boil|melt|\bkept\b|\bdown to\b|\u00b0C|\bset\b)"
        r"[^;]{0,80}$",
        excused_by=CHANGE
        + r"|weiss|spin temp|supercool|undercool|coupling|exchange|\bd[TH]/|anisotrop"
        r"|\bcharge|interaction|binding|inversion",
    ),
    Law(
        *("speed", "meter / second", -inf, 299792458 * 1.002, "faster than light in vacuum"),
        subject=r"speed|veloc|\bmov|\btravel|propagat|\bfl(?:y|ies|ew)\b|accelerat|\bv\b|outward"
        r"|\bjet|ejecta"
        r"|\bship|leav|reach|arriv|\bran\b|run|at\s*$|transmit|carr",
        excused_by=r"phase|group veloc|apparent|superluminal|projection|hubble|reced|recession"
        r"|expan"
        r"|galax|cosmolog|shadow|light spot|tachyon|illusion|warp|\bfig",
    ),
    Law(
        *("efficiency", "%", 0, 100, "no more can come out than goes in"),
        subject=rf"efficien(?:cy|cies|t){_TO}",
        after=r"[\s-]{0,2}(?:\w+ ){0,2}efficien",
        excused_by=MORE + r"|quantum|\b[EI]QE\b|fission|multipl|heat pump|\bCOP\b|chiller|PCR\b"
        r"|coefficient of performance|amplif|heating value|condensing|plating|cloning|impossible",
    ),
    Law(
        *("efficiency", "", 0, 1, "no more can come out than goes in"),
        share=True,
        subject=r"efficiency\W{0,3}(?:of|is|was|equals|about|=|:|\s){0,4}$",
        excused_by=MORE + r"|quantum|\b[EI]QE\b|heat pump|\bPCR\b|\blog",
    ),
    Law(
        *("yield", "%", 0, 100, "no more product than the starting material gives"),
        subject=rf"\byields?\b{_TO}",
        after=r"[\s,]{0,2}(?:\w+ ){0,2}yields?\b",
        excused_by=MORE + r"|yield (?:strength|stress|point)|quantum|crop|grain|harvest|farm|bond",
        explained_by=_SOLVENT,
    ),
    Law(
        *("fraction", "%", 0, 100, "a part is no larger than the whole"),
        subject=r"(?:conversion|selectivity|faradaic|\bpurity|porosity|crystallinity|transmittance"
        r"|reflectance|reflectivity|enantiomeric excess|(?:volume|mole|mass|weight|molar|void"
        r"|packing|phase|area)"
        rf" fraction|occupancy){_TO}",
        after=r"\s?(?:\w+ )?(?:conversion|selectivity|purity|porosity|crystallinity"
        r"|transmittance)\b",
        excused_by=MORE + r"|quantum|swell|strain|humidity",
        explained_by=_SOLVENT,
    ),
    Law(
        *("fraction", PART_PERCENT, 0, 100, "a part is no larger than the whole"),
        excused_by=MORE
        + r"|uptake|loading|swell|with respect|based on|sorption|\bof the\b|equivalent"
        r"|ratio|catalyst|reagent",
    ),
    Law(
        *("fraction", "", 0, 1, "a part is no larger than the whole"),
        share=True,
        subject=r"(?:volume|mole|mass|weight|molar|void|packing|phase|filling|solid) fraction"
        + _TO,
        excused_by=MORE + "|ratio|collector",
    ),
    Law(
        *("probability", "%", 0, 100, "certainty is 100 %"),
        subject=rf"(?:probabilit(?:y|ies)|chance|likelihood){_TO}",
        after=r"\s?(?:probability|chance|likelihood)\b",
        excused_by=MORE,
    ),
    Law(
        *("probability", "", 0, 1, "certainty is 1"),
        share=True,
        subject=r"probabilit(?:y|ies)[^0-9;,]{0,60}$",
        excused_by=MORE + r"|\blog|\bln\b|density|odds|ratio|current",
    ),
    Law(
        *("mass", "kilogram", 0, inf, "no matter weighs less than nothing"),
        excused_by=CHANGE
        + r"|effective mass|\btare|acceler|gravit|g-force|pilot|\bforce\b|balance\b|\bdue\b"
        r"|buoyan",
    ),
    Law(
        *("concentration", "mole / liter", 0, inf, "there is no less than none"),
        subject=r"concentrat|\bc ?\(|\[[^\]]{1,20}\]|solution|content|dissolv|level|contain"
        r"|dos(?:e|ed|ing)\b|\badd",
        excused_by=CHANGE + r"|deplet|consum",
    ),
    Law(
        *("concentration", "kilogram / liter", 0, inf, "there is no less than none"),
        subject=r"concentrat|\bc ?\(|content|dissolv|level|contain|\bdose",
        excused_by=CHANGE + r"|deplet|consum|density",
    ),
    Law(
        *("pressure", "pascal", 0, inf, "absolute pressure ends at vacuum"),
        subject=r"absolute|partial pressure|vapou?r pressure|total pressure|base pressure"
        r"|evacuated to"
        r"|residual gas pressure|pumped (?:down )?to",
        excused_by=CHANGE + r"|gauge|tension|suction|capillar|water potential|negative pressure",
    ),
    Law(
        *("duration", "second", 0, inf, "nothing lasts less than no time"),
        subject=r"(?:\bfor(?: about)?\s*$|half-?life|lifetime|duration|\btimes?\b|stir|incubat"
        r"|expos|lasted|took"
        r"|\bperiod|anneal)[^;]{0,40}$",
        excused_by=CHANGE
        + r"|delay|zero|before|\bt ?=|\blag\b|earlier|jitter|skew|countdown|dead time",
    ),
    Law(
        *("wavelength", "meter", 0, inf, "a wavelength is a length"),
        subject=r"(?:wavelength|\u03bb|laser|excit|emission|emit|absorption (?:peak|maximum"
        r"|band))[^;]{0,50}$",
        excused_by=CHANGE + r"|detun|focal|position|defocus|dispersion|\bz ?=|\bx ?=",
    ),
    Law(
        *(
            "density",
            "gram / centimeter ** 3",
            0,
            23,
            "osmium, the densest matter at hand, has 22.6",
        ),
        subject=r"densit(?:y|ies)|\bdense\b|\u03c1",
        excused_by=CHANGE
        + r"|\bstars?\b|dwarf|neutron|nucle(?:ar|us|on)|plasma|fusion|implo|black hole|\bcore\b"
        r"|degenerate|(?:current|charge|number|energy|power|flux|optical|dislocation) densit|shock",
    ),
    Law(
        *("pH", "", -1.5, 15, "outside what water allows"),
        subject=r"(?-i:\bpH)\b(?:[\s=:\"\u2248~<>(]|of|is|was|at|to|about|around|approximately"
        r"|value|values|reached"
        r"|rose|fell|dropped|final|equals|adjusted|set|the|a)*$",
        excused_by=r"differen|chang|shift|\bdelta|\u0394|pH units|superacid|documented|hammett"
        r"|\bmines?\b|\bby\s*$",
    ),
    Law(
        *("refractive_index", "", 1, inf, "light would be faster in it than in vacuum"),
        subject=rf"{_USUAL}.{{0,60}}refractive ind(?:ex|ices){_TO}|refractive index of (?:the "
        rf"|this )?(?:\w+ )?{_USUAL}{_TO}",
        excused_by=CHANGE
        + r"|x-?ray|metamaterial|plasma|silver|gold|epsilon|effective|complex|imaginary|photonic",
    ),
)
SPEED = next(law for law in LAWS if law.quantity == "speed")
QUANTITIES = tuple(dict.fromkeys(law.quantity for law in LAWS))

# What may break a law, for RE2: a sign before a number, a percentage over 100, a speed, ...
UNPHYSICAL_TRIGGER = (
    r"(?:^|[\s(=:~<>\"\[,\x{2248}])[-\x{2212}\x{2013}\x{2010}\x{2011}]\.?\d|(?i:minus|negative)\s\d"
    r"|(?:[=:~]|\b(?:of|at|to|is|was|by|about))\s?[-\x{2212}\x{2013}\x{2010}\x{2011}]\s?\d"
    r"|(?:100\.\d|1\d[1-9]|1[1-9]\d|[2-9]\d\d|\d{4,}|\d,\d{3})(?:\.\d+)?\s?(?:(?:wt|at|vol"
    r"|mol)\.?[ -]?)?(?:%|per ?cent|pct)"
    r"|(?:(?i:percent|pct)|%[)\]])\"?\s*[:=]|speed of light|light speed|_per_s|\dc\b|\d c\b"
    r"|[a-z]\s?/\s?[m\x{b5}\x{3bc}n]?s|per [a-z]{0,5}sec|[a-z]\s?s\^?\{?[-\x{2212}\x{207b}]\S?\d"
    r"|\bpH[^0-9\n]{0,40}(?:1[5-9]|[2-9]\d|\d{3})"
    r"|(?i:probabilit|efficiency|fraction)[^0-9\n]{0,70}[1-9]\.\d"
    r"|(?i:densit|dense)|(?i:refractive ind)"
)
# `"mass_g": ` and `T (K) = `: the unit stands before the number.
KEY = re.compile(
    r"(?:_(?P<key>\w+_per_\w+|[^\s_\"]{1,12})\""
    r"|[\[(](?P<told>[^\s\[(\])]{1,12})[\])]\"?)\s*[:=]\s*$"
)
TIMES_LIGHT = re.compile(
    r"\b(?:twice|(?:two|three|four|five|six|seven|eight|nine|ten|twenty|(?:a )?hundred|several"
    r"|many)"
    r" times) the speed of light",
    re.IGNORECASE,
)


def unphysical(text: str) -> tuple[Impossible, ...]:
    """The quantities of a text that cannot be, in order.

    A value that the sentence itself calls impossible, or asks about, is none of them.
    """
    return tuple(
        found
        for sentence in sentences(text)
        if not sentence.asks
        for found in _of_sentence(sentence)
        if not DENIED.search(sentence.words)
    )


def _of_sentence(sentence: Sentence) -> Iterator[Impossible]:
    words = sentence.words
    for number in measured(words):
        before = words[max(0, number.place - BEFORE) : number.place]
        after = words[number.end : number.end + AFTER]
        unit = number.unit or _key_unit(before)
        law = _broken(number.values, unit, before.replace("_", " "), after)
        if law:
            value = words[number.place : number.end].strip()
            yield Impossible(law.quantity, value, law.why, sentence.place + number.place)
    for match in TIMES_LIGHT.finditer(words):
        before, after = words[: match.start()][-BEFORE:], words[match.end() :][:AFTER]
        if SPEED.speaks(before, after):
            yield Impossible(SPEED.quantity, match[0], SPEED.why, sentence.place + match.start())


def _broken(values: tuple[float, ...], unit: str, before: str, after: str) -> Law | None:
    """The first law that one of the values breaks."""
    return next(
        (
            law
            for law in LAWS
            if any(law.breaks(value, unit) for value in values) and law.speaks(before, after)
        ),
        None,
    )


def _key_unit(before: str) -> str:
    """The unit that the name of the number holds, if any."""
    key = KEY.search(before)
    return named_unit(key["key"] or key["told"]) if key else ""
