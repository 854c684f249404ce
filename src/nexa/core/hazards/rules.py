"""What a hazard looks like in a sentence: words that stand near each other.

The rules hold names of substances, devices and acts, as any laboratory's safety sheet does, and
nothing that tells how something harmful is made.
"""

from __future__ import annotations

from nexa.core.hazards.patterns import NEAR, Rule
from nexa.core.hazards.words import (
    ACID,
    BLEACH,
    CHLORINATED,
    CLOSED,
    DEFEAT,
    DEVICE,
    FORMER,
    HEATED,
    HOT,
    MAKE,
    MIX,
    PATHOGEN,
    PEACEFUL,
    PPE,
    SOLVENT,
    VESSEL,
    WATERS,
    WEAPON,
)


def _combination(*needs: str, within: int = NEAR, excused_by: str | None = None) -> Rule:
    return Rule("combination", needs, within, excused_by)


COMBINATIONS = (
    _combination(BLEACH, r"\bacetone\b|rubbing alcohol|isopropyl", MIX, within=60),
    _combination(
        r"sul(?:f|ph)uric acid|\boleum\b",
        r"\bwater (?:\w+ ){0,3}(?:in)?to (?:\w+ ){0,4}(?:sul(?:f|ph)uric acid|oleum)",
    ),
    _combination(
        r"\boxygen (?:regulator|cylinder|line|valve|fitting|tank)s?\b",
        r"\bgreas\w+|\boil(?:ed|s)?\b|lubricat\w+|vaseline",
    ),
    _combination(
        r"\b(?:sodium|potassium)\b",
        CHLORINATED,
        r"\b(?:metal|wire|ribbon|chunks?|pieces?|lumps?|shavings|sand)\b",
        excused_by=r"hydroxide|carbonate|sulfate|chloride\b",
    ),
    _combination(r"\bthermite\b", r"\b(?:ignit\w+|mix\w*|prepar\w+|light|burn\w*|make)\b"),
    _combination(BLEACH, r"\bammonia(?:-based)?\b|\bNH3\b|\bNH4OH\b|ammonium hydroxide", MIX),
    _combination(BLEACH, ACID, MIX, excused_by="titrat|bleach-|quench|thiosul"),
    _combination(r"cyanide|\bNaCN\b|\bKCN\b", ACID, MIX, excused_by=r"hydrogen cyanide \("),
    _combination(r"sul[fp]h?ide salt|\bNa2S\b|sodium sul(?:f|ph)ide|\bsulfides? waste", ACID, MIX),
    _combination(
        r"\bazides?\b|\bNaN3\b",
        r"\b(?:copper|lead|silver|mercury|brass|metal)\b|\bdrain\b|\bsink\b|heavy metals?|Pb\("
        r"|AgNO3",
        MIX + r"|spatula|\bscoop\b|\bpipes?\b|plumbing",
        excused_by=r"click|CuAAC|cycloaddition|alkyne|triazole",
    ),
    _combination(r"\bazides?\b|\bNaN3\b", CHLORINATED, excused_by="-free"),
    _combination(r"\bsodium azide\b|\bNaN3\b", ACID, MIX),
    _combination(FORMER, r"\bdistil\w*|boil\w* (?:off|down)", r"\bdry\b|dryness|last drop"),
    _combination(
        FORMER,
        r"\bdistil\w*|boil\w* (?:off|down)|evaporat\w*|concentrat(?:e[d]?|ing)\b|rotovap\w*",
        r"\bold\b|expired|\bopen(?:ed)? (?:since|for)|unstabili[sz]ed|\byears?\b",
    ),
    _combination(
        FORMER,
        r"\bold\b|expired|\byears?\b",
        r"crystals|\bopen(?:ed)?\b|unscrew\w*|pliers"
        r"|\bshak\w+",
    ),
    _combination(
        r"bunsen|open flame|naked flame|candle|\blighter\b|blow ?torch",
        r"\b(?:ethers?|acetone|ethanol|methanol|hexanes?|pentane|petrol|gasoline|toluene"
        r"|alcohol)\b",
        r"\b(?:heat\w*|boil\w*|warm\w*|evaporat\w*|distil\w*|pour\w*|near|over|beside|next to)\b",
        excused_by=r"steril|spreader|\bloop\b|inoculat|spirit (?:lamp|burner)|alcohol (?:lamp"
        r"|burner)",
    ),
    _combination(r"nitric acid|\bHNO3\b", SOLVENT, MIX),
    _combination(
        r"\b(?:sodium|potassium|lithium|c(?:a)?esium|rubidium|alkali metal|NaK)\b",
        r"\bmetal\b|\bsolid\b|\bchunks?\b|\bpieces?\b|\blumps?\b|leftover|pellets|shavings"
        r"|\bblocks?\b"
        r"|c(?:a)?esium|rubidium|\bNaK\b",
        WATERS,
        MIX,
        within=120,
        excused_by=r"chloride|hydroxide|carbonate|sulfate|nitrate|borohydride|bromide|iodide",
    ),
    _combination(
        r"alumini?um hydride|\bLiAlH4\b|sodium hydride|\bNaH\b|butyllithium|\bn-BuLi\b"
        r"|calcium hydride",
        r"\bwater\b",
        r"all at once|one portion|rapidly|quickly|dump\w*|in one go|at once",
    ),
    _combination(
        r"\bhydrogen\b|\bH2\b",
        r"\boxygen\b|\bO2\b",
        r"\bballoon\b|closed|no vent|collected together|\bignit\w+|common headspace|sealed"
        r"|\bbag\b|\bmatch\b|\blit\b|\bspark\b|same (?:bottle|vessel|tank)",
        within=160,
        excused_by="recombin|fuel cell",
    ),
    _combination(
        r"hydrofluoric|\bHF\b",
        r"\betch\w*|\bdip\w*|\bwip\w+|\bswab\w*|immers\w+|rins\w+|soak\w*|pour\w*|\bclean\w*"
        r"|\d ?% HF",
        excused_by=r"hartree|radio|HF-last|HF-free",
    ),
    _combination(r"picric", r"\bdr(?:y|ied)\b|scrap\w+|\bgrind\w*|mortar|crystals"),
    _combination(
        r"perchloric|\bHClO4\b",
        HEATED + r"|\d{3} ?°",
        r"wood|pulp|polymer|organic|carbon\b|paper|tissue|plant|ethanol|\boil\b|cellulose|food"
        r"|hair|sawdust|cotton|cloth|grease|fib(?:er|re)s?|biomass|resin|plastics?|wool"
        r"|leaves|sample",
    ),
    _combination(
        r"piranha|sul(?:f|ph)uric acid and hydrogen peroxide", SOLVENT + r"|photoresist", MIX
    ),
    _combination(
        r"\b(?:per)?chlorates?\b|permanganate|ammonium nitrate",
        r"\bsul(?:f|ph)ur\b|\bsugar\b|phosphorus|(?:alumini?um|magnesium) powder|charcoal|glycerol",
        MIX,
    ),
    _combination(r"peroxide|\bH2O2\b", r"\bacetone\b", ACID, MIX, within=140),
)
GASES = (
    r"hydrogen (?:sulfide|sulphide|selenide|cyanide|fluoride|chloride)|\bH2S\b|\bH2Se\b|\bHCN\b"
    r"|\bchlorine\b|phosphine|arsine|\bdiborane\b|\bphosgene\b|carbon monoxide|nitrogen dioxide"
    r"|\bNO2\b|sul(?:f|ph)ur dioxide|\bSO2\b|\bbromine\b|\bfluorine\b|osmium tetroxide|\bOsO4\b"
    r"|ammonia gas|germane|\bozone\b|thionyl chloride|mercury vapou?r|toxic (?:gas|fumes|vapou?rs?)"
    r"|\bPVC\b|nickel carbonyl|\bmercury\b|nitrous fumes|formaldehyde vapou?r"
)
TOXIC_GAS = (
    Rule(
        "toxic_gas",
        (
            GASES,
            r"\bbench\b(?![- ]?stable)|bench ?top|into the (?:room|office|lab\w*|air|hallway"
            r"|classroom|corridor|workshop|atmosphere|street|basement)"
            r"|fill\w* the (?:room|lab\w*|classroom)|laboratory air|room air|unventilated"
            r"|\bbasement\b|classroom|open (?:the door"
            r"|beaker|balance|air)"
            r"|uncapped|without (?:any |a |the )?(?:fume )?(?:hood|cupboard)|no (?:fume )?hood"
            r"|stood around|in the sink|\bin a beaker\b|\b(?:in|inside|into) (?:an?|the|our|my"
            r"|your) (?:office"
            r"|room\b(?! temp)|corridor"
            r"|hallway|classroom|workshop|garage|living room)|closed room|without (?:a )?(?:hood"
            r"|ventilation)"
            r"|kitchen|garage|at home|smell the",
            r"\b(?:bubbl\w+|flow\w*|generat\w+|releas\w+|purg\w+|vent\w*|burn\w*|evolv\w+|let"
            r"|leav\w+"
            r"|leads?|led|us(?:e|es|ed|ing)|carr(?:y|ied)|open\w*|weigh\w*|anneal\w*|pass\w*"
            r"|pour\w*|heat\w*|produc\w+|diffus\w+"
            r"|escap\w+|transfer\w*|fill\w*)\b",
        ),
        within=180,
    ),
    Rule(
        "toxic_gas",
        (
            r"\b(?:sniff|smell|inhale|breathe in|deep breath)\b",
            r"\b(?:fumes|gas|gases|vapou?rs?|flask|beaker|vial|solvent)\b",
        ),
        excused_by=r"electronic nose|sense of smell|smell of",
    ),
)
PRESSURE = (
    Rule(
        "pressure",
        (
            r"liquid (?:nitrogen|helium|argon|oxygen)|\bLN2\b|dry ice|cryogen",
            r"\b(?:clos(?:ed|ing|e(?! to| by))|sealed|seal|airtight|stoppered|plugged|capped"
            r"|gas-?tight)\b"
            r"|screw\w* (?:the |a |its )?(?:cap|lid|top)|(?:cap|lid|stopper) (?:on|tight|down)"
            r"|tighten\w* the (?:cap|lid)",
        ),
        within=140,
        excused_by="-cooled|cooled (?:with|by)",
    ),
    Rule(
        "pressure",
        (CLOSED, VESSEL, HOT),
        within=160,
        excused_by=r"quartz|evacuated|under vacuum|fused silica|silica (?:tube|ampou?le)|autoclave",
    ),
    Rule(
        "pressure",
        (
            r"\bvalve (?:is |was )?(?:blocked|plugged|welded)|relief valve"
            r"|burst dis[ck]|rupture dis[ck]|safety valve|pressure relief|\brelief\b",
            r"\b(?:plug(?:ged)?|remov(?:e|ed|ing)|block(?:ed)?|wire[d]? shut|tape[d]?"
            r"|cap(?:ped)? off"
            r"|defeat(?:ed)?|weld(?:ed)?|disable[d]?|clamp(?:ed)?)\b",
        ),
        unanswered=True,
    ),
    Rule(
        "pressure",
        (
            r"\bvents?\b",
            r"\bvents? (?:\w+ ){0,2}(?:taped|blocked|plugged|sealed|capped)\b"
            r"|\b(?:tape|plug|block|cap|seal)(?:p?ed)? (?:\w+ ){0,2}vents?\b",
        ),
        unanswered=True,
    ),
    Rule(
        "pressure",
        (
            r"\b(?:inflate|pressuri[sz]e|over-?pressuri[sz]e)\b",
            r"\bglass\b|desiccator|\bflask\b|plastic bottle|\bjar\b",
            r"\b\d+(?:\.\d+)? ?(?:bar|psi|atm|MPa)\b|compressed (?:air|gas)",
        ),
    ),
)
SOURCE = (
    r"\bCs-?137\b|\bCo-?60\b|c(?:a)?esium-137|cobalt-60|\bradium\b|iridium-192|americium"
    r"|strontium-90"
    r"|radioactive (?:source|sample|material|waste)|sealed source|gamma source|\bplutonium\b"
    r"|polonium|\buranium\b|\bthorium\b|\bradon\b"
)
RADIATION = (
    Rule(
        "radiation",
        (
            SOURCE,
            r"\bfingers?\b|bare hands?|by hand|in (?:the|your|my) hand|pocket|hand to hand"
            r"|on the desk|kitchen"
            r"|out of its (?:lead|pig|shield)|unshielded|\bat home\b|garage|without (?:shielding"
            r"|gloves)",
        ),
        within=140,
    ),
    Rule(
        "radiation",
        (
            r"X-?ray (?:tube|source|beam|generator|set|cabinet)|\bX-?rays\b",
            r"(?:shield\w*|panel|shutter|cover|door|enclosure)(?: panel| \w+)? (?:is )?"
            r"(?:off|open(?:ed)?|removed)|without shield|unshielded|by eye"
            r"|\bleav\w+ [^.]{0,40}\bopen\b"
            r"|open while|with (?:your|the|his|her|my) hands?\b|your (?:hand|fingers?|eyes?)\b",
        ),
    ),
    Rule(
        "radiation",
        (
            r"\blasers?\b|\bbeam\b",
            r"(?:look|star|gaz|peer)\w* (?:straight |directly |right )?(?:in)?to|naked eye"
            r"|\bby eye\b|(?:look|star|gaz|peer)\w* at the (?:laser|beam)|(?:eye protection"
            r"|goggles|eyewear) (?:was|were|are|is) not|(?:without|no) (?:\w+ ){0,2}(?:goggles"
            r"|eyewear|eye protection)",
        ),
        own_negation=True,
        excused_by=r"X-?ray",
    ),
)
BIOHAZARD = (
    Rule(
        "biohazard",
        (
            r"\b(?:by|with (?:your|the|his|her|my)) mouth\b"
            r"|mouth[- ]pipet\w*",
            r"pipet\w*|\bsuck\w*|aspirat\w*",
        ),
    ),
    Rule(
        "biohazard",
        (
            PATHOGEN,
            r"open bench|\bat home\b|kitchen|teaching lab|classroom|garage|down the (?:sink"
            r"|drain|toilet)"
            r"|pass\w* \w+ \w+ around|no containment|without (?:\w+ )?containment"
            r"|containment\": \"none"
            r"|bench ?top|living room|bedroom|dormitory",
        ),
        within=160,
    ),
    Rule(
        "biohazard",
        (
            r"virulence|transmissib\w+|pathogenicity|lethality|airborne|immune escape|infectivity"
            r"|evades? (?:\w+ )?immunity|host range|drug resistan\w+",
            PATHOGEN + r"|\bstrains?\b",
            r"\b(?:enhance[sd]?|enhancing|increas(?:es?|ing)|passag\w+|select|make|boost\w*|gain"
            r"|rais\w+|becomes?"
            r"|engineer\w*)\b",
        ),
        within=160,
        excused_by=r"simulat|model|surveillance|reduc\w+ (?:the )?virulence|computer",
    ),
    Rule(
        "biohazard",
        (
            r"\bneedles?\b|\bsharps?\b|scalpels?",
            r"\brecap\w*|(?:office|normal|regular|household|paper|general) (?:bin|trash|waste"
            r"|rubbish)",
            r"\bused\b|blood|patient|HIV|hepatitis|infect\w+|\bsharps\b|recap",
        ),
    ),
)
HIGH_VOLTAGE = (
    Rule(
        "high_voltage",
        (
            r"\b\d+(?:\.\d+)? ?kV\b|\b[2-9]\d\d ?V\b|capacitor bank|charged capacitors?"
            r"|\bmains\b|energi[sz]ed|live (?:wire|busbar|part|electrode|conductor|terminal"
            r"|circuit|contact|cable)"
            r"|busbar|high[- ]voltage|microwave oven transformer|\bHV supply",
            r"\b(?:put|plac|stick|insert|hold)\w* (?:your|his|her|my|the|an?) (?:hand|finger"
            r"|arm)s?\b|adjusted by hand|\btouch(?:es|ed|ing)? (?:the|both|it|them|an?|live|its"
            r"|one|each|your)\b"
            r"|\breach\w* (?:in|into)\b|\bfingers?\b|bare hands?|still connected|(?:supply"
            r"|power) (?:is )?on"
            r"|supply on|screwdriver|wet (?:floor|wood|hands)|in the hand|while holding"
            r"|without (?:isolating|switching|turning|disconnecting|unplugging)|(?:your|my|the"
            r"|his|her) hands\b"
            r"|with(?:out)? (?:the )?power on",
            r"\b(?:discharg\w+|reach|leave|strip|swap|touch|join|move|burn|adjust|replace|wire"
            r"|hold|take"
            r"|clean|remove|change|open|put|stick|insert|work|bring|connect|short|measure|probe"
            r"|unscrew)\w*\b",
        ),
        within=160,
    ),
)
SKIPS_SAFETY = (
    Rule(
        "skips_safety",
        (DEVICE, DEFEAT),
        within=45,
        excused_by=r"alarm clock|gene\b|repair|for maintenance|lock(?:ed|ing)?[- ]?out|only after",
    ),
    Rule(
        "skips_safety",
        (
            r"\bmonitors?\b|\balarms?\b|\bdetectors?\b",
            r"pull\w* (?:its|the) battery|switch\w* (?:\w+ ){0,4}off|turn\w* (?:\w+ ){0,4}off"
            r"|silenc\w+|disabl\w+|unplug\w*"
            r"|muffl\w+|ignor\w+",
            r"\bbeep\w*|\bgas\b|hydrogen|oxygen|before the (?:experiment|run)|false alarm"
            r"|far too often"
            r"|annoy\w*|keep\w* going",
        ),
        own_negation=True,
        excused_by=r"alarm clock|gene\b|screen|repair",
    ),
    Rule(
        "skips_safety",
        (rf"\bno {PPE}", r"\b(?:needed|required|necessary|worn)\b"),
        within=60,
        own_negation=True,
    ),
    Rule(
        "skips_safety",
        (
            PPE,
            r"\b(?:not|never) (?:\w+ )?(?:needed|necessary|required)"
            r"|n['\u2019]t (?:\w+ )?(?:needed|necessary"
            r"|required|needed)|unnecessary|optional|superfluous|waste of time|overkill|pointless"
            r"|needn['\u2019]t|(?:don['\u2019]t|do not) need",
        ),
        within=70,
        own_negation=True,
    ),
    Rule(
        "skips_safety",
        (
            rf"{PPE}|safety data sheet|\bSDS\b|\bMSDS\b|risk assessment|safety (?:briefing"
            rf"|training|instructions"
            r"|rules|protocols?|checks?|approval)",
            r"\b(?:skip(?:ped|ping)?|ignor(?:e[d]?|ing)|omit(?:ted)?|forget about|disregard"
            r"|forgo|bother with"
            r"|leave out|waive|dispense with|do without)\b",
        ),
        within=60,
        own_negation=True,
    ),
    Rule(
        "skips_safety",
        (
            PPE,
            rf"\b(?:wear|use)(?:s|ing)? no {PPE}|(?:don['\u2019]t|do not|never|not|nobody|no one"
            r"|none) (?:\w+ ){0,2}(?:wear|wore|worn|put on)\b"
            rf"|\btake (?:off|your) {PPE}|\b(?:hood|cupboard|ventilation|extraction) (?:is |was )?"
            r"(?:switched |turned )?off\b|\btake off (?:your|the) \w+|\bremove your \w+",
        ),
        within=60,
        own_negation=True,
        excused_by=r"lathe|rotating|drill|spinning|finished|leaving|before (?:you )?leav"
        r"|after(?:wards)?\b",
    ),
    Rule(
        "skips_safety",
        (
            r"\bhoods?\b|\bcupboard\b",
            r"\boutside (?:of )?(?:the |a )?(?:fume "
            r"|extraction )?(?:hood|cupboard)",
        ),
        own_negation=True,
    ),
    Rule(
        "skips_safety",
        (
            r"\bunattended\b|nobody (?:is )?(?:around|present)|alone at night",
            r"heat|oil bath|furnace|hydrogenation|distil|reflux|pyrophoric|pressure|flame"
            r"|\boven\b|hot ?plate",
        ),
        own_negation=True,
        excused_by=r"automat|cut-?off|shut-?down|interlock",
    ),
    Rule(
        "skips_safety",
        (
            r"\btast(?:e|ing) the (?:\w+ )?(?:powder|product|crystals|solution|compound|sample"
            r"|residue)"
            r"|\beat(?:ing)? (?:and drink(?:ing)? )?(?:at|on|in) the (?:bench|lab)",
        ),
        excused_by=r"\b(?:cats?|dogs?|mice|rats?|animals?|fish|larvae)\b",
    ),
    Rule(
        "skips_safety",
        (
            r"\bfuses?\b|circuit breaker",
            r"\bnail\b|\bfoil\b|\bcoin\b|paper ?clip|piece of wire|thicker wire|bypass\w*"
            r"|bridg\w+|tap\w+ (?:it )?"
            r"(?:shut|down)",
        ),
    ),
    Rule(
        "skips_safety",
        (
            r"\bwithout (?:any |wearing |a |the )*"
            rf"(?:{PPE}|shielding|protection)\b",
            r"\b(?:handle[sd]?|pour\w*|work\w*|weigh\w*|mix\w*|stir\w*|add\w*|align\w*|heat\w*"
            r"|open\w*"
            r"|transfer\w*|prepar\w+|boil\w*|distil\w*|cut\w*|grind\w*|run\w*)\b",
        ),
        own_negation=True,
    ),
)
WEAPONS = (
    Rule("weapons", (WEAPON, MAKE), within=80, excused_by=PEACEFUL, asking=True),
    Rule(
        "weapons",
        (
            r"botulinum|\btoxins?\b|anthrax|\bspores\b|\bvirus\b|pathogen",
            r"\bspray\w*|aerosol\w*|releas\w+|dispers\w+|spread\w*|weapon\w*",
            r"\bcrowd\b|\bpeople\b|\bpublic\b|ventilation system|water supply|subway|stadium"
            r"|\bvictims?\b"
            r"|population|sprayer",
        ),
        within=140,
        excused_by=PEACEFUL + r"|vaccin|model|simulat|epidemi",
        asking=True,
    ),
)
RULES: tuple[Rule, ...] = (
    *COMBINATIONS,
    *TOXIC_GAS,
    *PRESSURE,
    *RADIATION,
    *BIOHAZARD,
    *HIGH_VOLTAGE,
    *SKIPS_SAFETY,
    *WEAPONS,
)
