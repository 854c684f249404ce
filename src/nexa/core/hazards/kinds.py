"""The kinds of hazard that a proposal can hold, how severe each is, and what makes it bearable."""

from __future__ import annotations

from dataclasses import dataclass

VENTED = (
    r"(?:fume|extraction|laminar|ventilated)[- ](?:hood|cupboard)|\bin (?:a|the) hood\b|scrubber"
    r"|\bventilated\b|\bexhaust(?:ed)?\b|gas cabinet|glove ?box|burn box|\bvent(?:ed|ing|s)?\b"
    r"|\bdetectors?\b|\balarm\b|respirator|snorkel|extraction arm|sash"
)
PROTECTED = (
    r"\bgloves?\b|\bgoggles\b|face shield|blast shield|safety (?:glasses|screen|shield)"
    r"|calcium gluconate|\bPPE\b|protective|\bapron\b|\bshield(?:ed|ing)?\b"
)
RATED = (
    r"\brated\b|\bautoclaves?\b|burst disc|rupture dis[ck]|relief valve|pressure relief"
    r"|\bvent(?:ed)?\b"
    r"|blast shield|safety shield|polycarbonate|\bParr\b|\bopen(?:ed)?\b|loose(?:ly)?"
    r"|pressure gauge"
    r"|pressure[- ](?:tube|vessel|vial)"
)
LOCKED = (
    r"switch(?:ed)? (?:it )?off|turned off|unplug\w*|de-?energi[sz]ed|lock(?:ed)?[- ]?out"
    r"|ground(?:ed|ing)|earth(?:ed|ing)|bleed(?:er)? resistor|isolated|insulat\w+"
    r"|discharged? through"
    r"|crowbar"
)
GUARDED = (
    r"goggles|eyewear|lead (?:castle|pig|brick|glass)|\btongs\b|dosimet\w+|\bshielded\b|enclosed"
    r"|interlocked|low power|beam (?:card|viewer)|camera|glove ?box|hot cell"
)
CONTAINED = (
    r"\bA?BSL-?[34]\b|biosafety|bio-?safety|containment level|class (?:II|III|2|3) cabinet"
    r"|inactivated|attenuated|vaccinated|autoclav\w+|simulat\w+|\bmodel(?:led|ling|s)?\b|in silico"
)


@dataclass(frozen=True)
class Kind:
    """A kind of hazard.

    `severity` is what one open flag of it takes from a safety score of 1, as a share;
    `mitigated_by` is a pattern of the measures that answer it, None: nothing does.
    """

    severity: float
    what: str
    mitigated_by: str | None


KINDS: dict[str, Kind] = {
    "combination": Kind(
        0.8,
        "substances that must not meet: bleach and ammonia, acid and cyanide, azides and heavy "
        "metals, nitric acid and organics, alkali metals and water, unprotected HF, and others",
        f"{VENTED}|{PROTECTED}|separate(?:ly)?|peroxide test|tested for peroxides|stabili[sz]ed"
        r"|inhibit(?:ed|or)|wetted|flashback arrestor",
    ),
    "toxic_gas": Kind(0.7, "toxic gas or vapour let into the room, or smelt at", VENTED),
    "pressure": Kind(
        0.7, "closed vessels that are heated or hold a cryogen, relief that is defeated", RATED
    ),
    "radiation": Kind(
        0.7, "radioactive sources, X-rays and strong lasers handled unguarded", GUARDED
    ),
    "biohazard": Kind(
        0.8,
        "pathogens outside their containment or made worse, mouth pipetting, sharps",
        CONTAINED,
    ),
    "high_voltage": Kind(0.7, "work on what is live or charged", LOCKED),
    "skips_safety": Kind(
        0.6, "instructions to leave out protection, alarms, interlocks or the assessment", None
    ),
    "weapons": Kind(
        1.0, "making weapons, explosives, toxins or illegal drugs (by words of category)", None
    ),
}
