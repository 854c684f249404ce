"""Words of laboratories, as patterns: what hazards are made of, and what is done with it."""

from __future__ import annotations

BLEACH = r"\bbleach\b|hypochlorite|\bNaOCl\b|\bNaClO\b"
ACID = (
    r"\b(?:hydrochloric|sulfuric|sulphuric|nitric|acetic|citric|phosphoric|muriatic) acid\b"
    r"|\b(?:dilute|strong|concentrated|waste|mineral) acids?\b|\bacid\b|\bHCl\b|\bH2SO4\b|\bHNO3\b"
    r"|vinegar|descaler|lemon juice|\bacidif\w+"
)
MIX = (
    r"\b(?:mix(?:e[sd]|ing)?|add(?:s|ed|ing)?|pour(?:s|ed|ing)?|combin(?:es?|ed|ing)|blend(?:ed"
    r"|ing)?"
    r"|stir(?:s|red|ring)?|acidif\w+|quench\w*|dissolv\w+|goes into|go into|into the same|top up"
    r"|drop(?:s|ped|ping)?|tip(?:s|ped|ping)?|treat(?:ed)? with|react(?:ed)? with|reflux\w*"
    r"|flush(?:ed|ing)?|dump(?:ed|ing)?|toss(?:ed)?|throw\w*|chuck\w*|run over|put|place[ds]?"
    r"|together"
    r"|grind\w*"
    r"|splash|neutrali[sz]ed? with|plus|adjust\w*|dispose of|immerse[ds]?|submerge[ds]?|empt(?:y"
    r"|ied))\b"
)
SOLVENT = (
    r"\b(?:acetone|ethanol|methanol|isopropanol|IPA|2-propanol|alcohols?|toluene|hexanes?|glycerol"
    r"|diethyl ether|organic (?:solvents?|residues?|waste|washings?)|solvent waste)\b"
)
CHLORINATED = (
    r"dichloromethane|\bDCM\b|methylene chloride|chloroform|chlorinated solvent|halogenated solvent"
    r"|dichloroethane|carbon tetrachloride|CH2Cl2|CHCl3"
)
FORMER = (
    r"\b(?:diethyl|diisopropyl|ethyl) ether\b|\bethers?\b|\bTHF\b|tetrahydrofuran|dioxane"
    r"|\bglyme\b|diglyme"
)
WATERS = (
    r"\bwater\b|\bsink\b|\bdrain\b|\btap\b|\bbath(?:tub)?\b|\bpool\b|\bpond\b|\blake\b|\briver\b"
    r"|\btoilet\b|aquarium"
)
HEATED = (
    r"\b(?:heat(?:ed|s|ing)?|boil(?:ed|s|ing)?|reflux\w*|hot ?plate|microwav\w+|oven|digest\w*)\b"
)
# 120 °C and more, or boiling: what brings a closed vessel to many times its pressure.
HOT = (
    r"\b(?:1[2-9]\d|[2-9]\d\d|\d{4}) ?(?:°|deg(?:rees)?) ?C\b|\bboil\w*|microwav\w+|full power"
    r"|\bbunsen\b|open flame|in (?:the|a) fire\b|blow ?torch|until it bursts"
    r"|_(?:deg)?C\"\s*:\s*(?:1[2-9]\d|[2-9]\d\d)"
)
CLOSED = (
    r"\b(?:seal(?:ed|s)?|closed|stoppered|capped|airtight|stopper|brim|tightly|closing|close off"
    r"|cap on|screwed (?:down|shut|on))\b"
)
VESSEL = (
    r"\b(?:flasks?|jars?|vials?|ampou?les?|tubes?|vessels?|bottles?|containers?|Erlenmeyer"
    r"|drums?|cans?"
    r"|canisters?|kegs?|barrels?|pots?)\b"
)
PATHOGEN = (
    r"anthracis|\banthrax\b|tuberculosis|\bEbola\b|\bMarburg virus|smallpox|variola"
    r"|Yersinia pestis|\bNipah\b|SARS-CoV-?\d?|Francisella|Brucella|avian (?:influenza|flu)"
    r"|\bH5N1\b|\bMRSA\b|salmonella|legionella|listeria|\bhepatitis\b|\bdengue\b|\bpolio\w*"
    r"|pathogenic|clinical isolates?|O157"
    r"|\brabies\b|\bpathogens?\b|\bcholera\b|\binfluenza\b|\bvirus(?:es)?\b|\bHIV\b"
)
PPE = (
    r"\b(?:PPE|gloves|goggles|eye protection|safety glasses|face shield|mask|protection"
    r"|respirator|lab coat"
    r"|protective \w+|fume hood|fume cupboard|hood|cupboard|ventilation"
    r"|personal protective equipment"
    r"|hearing protection|dosimeter)"
)
_SENSED = "(?:gas|hydrogen|oxygen|O2|fire|smoke|CO|CO2|leak|radiation|methane|level)"
DEVICE = (
    r"interlocks?|\balarms?\b|warning lights?|(?:machine|saw|blade|belt|splash) guards?"
    r"|\bguard of the"
    rf"|{_SENSED} detectors?\b|{_SENSED} monitors?\b|{_SENSED} sensors?\b|light[- ]curtain"
    rf"|emergency[- ]stop|\be-stop\b"
    r"|safety (?:switch|guard|shield|valve|device|relay|circuit|feature|sensor|system|cover)"
    r"|over-?temperature|cut-?out\b|door switch|flame arrestor|ground fault"
    r"|residual[- ]current|pressure limit"
)
DEFEAT = (
    r"\b(?:bypass(?:ed|ing)?|disabl(?:e[ds]?|ing)|defeat(?:ed|ing)?|overrid(?:e|den|ing)"
    r"|switch(?:ed|ing|es)? (?:\w+ ){0,4}off|turn(?:ed|ing|s)? (?:\w+ ){0,4}off|shorted"
    r"|short out|bridg(?:e[d]?|ing)|jumper|silence[d]?"
    r"|mut(?:e|ed)|unplug(?:ged)?|tape[d]?|pull(?:ed)?|remov(?:e[d]?|ing)|disconnect(?:ed)?"
    r"|deactivat(?:e[d]?|ing)|cover(?:ed)?|jam(?:med)?|wedge[d]?|block(?:ed)?|circumvent(?:ed)?)\b"
)
MAKE = (
    r"\b(?:make|making|build|building (?:an?|the|my|your|our)|synthesi[sz]e|synthesi[sz]ing"
    r"|synthesis|produce|producing"
    r"|production|prepare|preparing|extract|extracting|purify|purifying|assemble|assembling"
    r"|develop|developing|manufacture[d]?|manufacturing|cook|cooking|construct|constructing"
    r"|recipe|obtain|weaponi[sz]e|weaponi[sz]ing|route to|design|designing|brew|formulate"
    r"|instructions for|(?:can|could|may|will) be (?:made|built|prepared|produced|assembled"
    r"|synthesi[sz]ed))\b"
)
WEAPON = (
    r"nerve (?:agent|gas)|\bsarin\b|\bsoman\b|\btabun\b|novichok|\bVX\b|mustard (?:gas|agent)"
    r"|\blewisite\b|chemical weapons?|biological weapons?|bio-?weapons?|blister agent"
    r"|home-?made (?:explosives?|bombs?)|improvised explosive|\bIEDs?\b|(?:pipe|nail|petrol|car)"
    r" bombs?\b|dirty bomb|\bexplosive (?:device|charge)s?|\bexplosives?\b|\bTATP\b|\bHMTD\b"
    r"|\bRDX\b"
    r"|\bPETN\b|nitroglycerin\w*|\bricin\b|\babrin\b|nuclear weapons?|molotov"
    r"|methamphetamine|crystal meth|\bmeth\b|\bfentanyl\b|\bheroin\b|\bMDMA\b|\bbombs?\b"
)
PEACEFUL = (
    r"detect|sensor|sensing|bomb calorimet|treaty|convention|history|\b1[89]\d\d\b|medical"
    r"|treatment|antidote|deminerali|decontaminat|forensic|trace|overdose|destruction of|destroy"
    r"|\bban(?:s|ned)?\b|\blaws?\b|illegal|disarm|simulant|airport|defus|quarry|mining|naloxone"
    r"|useful (?:for|in)|(?:is|are|was|were) used (?:in|for|to|as)|industr|compan(?:y|ies)|factory"
    r"|addict|abuse|\btalk\b|lecture|essay|prevent|policy|awareness|arrest|convict|\bcourt\b"
)
