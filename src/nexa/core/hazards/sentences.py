"""How a sentence speaks of a hazard: it proposes it, forbids it, tells of it, asks, or refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST = 2000  # characters; what has no full stop for so long is no sentence

# A full stop ends a sentence if a blank follows, but for that of a step's number or of "e.g.".
# A line that goes on in small letters is the same sentence. A field of prose in a JSON record ends
# one too, while short fields and the steps of a list belong to what follows them.
END = re.compile(
    r"(?<![ (]e\.g)(?<![ (]i\.e)(?<!\bapprox)(?<!\bca)(?<!\bvs)(?<!\bFig)(?<!\n\d)(?<!\n\d\d)"
    r"[.!?](?=[\s\"')\]]|$)"
    r'|\n(?![ \t]*[a-z(])|(?<=[^"]{40}",)\s*(?="[^"]{1,60}"\s*:)'
)

FORBIDS = re.compile(
    r"\b(?:never|(?:do|does|did|must|should|may|shall|will|would|is|are|was|were) not"
    r"|(?:don|doesn|mustn|shouldn|won|isn|aren)['\u2019]t|cannot|can['\u2019]t|not be"
    r"|avoid(?:s|ed|ing)?|refrain\w*|under no circumstances|by no means|prevent(?:s|ed|ing)?"
    r"|rather than|instead of|not allowed|prohibit\w*|forbid\w*|forbidden|nobody|no one)\b"
    r"(?! (?:worry|hesitate|forget|bother|mind|be afraid|only|just))",
    re.IGNORECASE,
)
TURN = re.compile(r"\b(?:but|then|instead|so)\b|;", re.IGNORECASE)
DESCRIBES = re.compile(
    r"\b(?:incompatible|dangerous(?:ly)?|hazard(?:s|ous)?|warning|caution|danger|risk(?:s|ed|y)?"
    r"|injur\w+|accident\w*|incident|explosion (?:was|occurred|happened)|explod\w+|detonat\w+"
    r"|shock[- ]sensitive|can burst|unsafe|illegal|fatal|lethal|deadly|poison(?:ous|ing|ed)"
    r"|violent(?:ly)?|react with|liberates?|conditions to avoid|EUH\d+|[HP][2-5]\d\d"
    r"|if inhaled|first aid|which is why|forbidden|prohibited|not permitted|banned"
    r"|(?:produces|forms|generates|gives off|creates|releases|evolves) (?:\w+ ){0,2}"
    r"(?:toxic|poison\w*|explosive|harmful|gas(?:es)?|fumes|vapou?rs?|chlor\w+|hydrogen cyanide)"
    r"|incompatibilit\w+|keep (?:away|apart)|must be (?:kept|stored))\b",
    re.IGNORECASE,
)
CONDITION = re.compile(r"\b(?:if|whenever|in case|should)\b[^,]*", re.IGNORECASE)
REFUSES = re.compile(
    r"\b(?:I(?:['\u2019]m| am)? ?(?:can(?:no|['\u2019])t|can not|won['\u2019]t|will not"
    r"|must decline"
    r"|have to decline|refuse|decline|(?:not able|unable) to|(?:must|have to) refuse)"
    r"|(?:not able|unable) to (?:assist|help|provide)|can(?:no|['\u2019])t (?:help|assist|provide)"
    r"|not something I (?:can|will))\b|(?:^|[\n:])[ \t]{0,3}No[.,!:](?=\s)",
    re.IGNORECASE,
)
NEGATES_MEASURE = re.compile(
    r"(?:\b(?:no|not|without|lacks?|lacking|missing|skip|forget|never|ignore|broken|disable[ds]?"
    r"|remove[ds]?|outside|instead of|bypass\w*|or)\b|n't)[\w\s-]{0,20}$|\bun-?$",
    re.IGNORECASE,
)
MEASURE_GONE = re.compile(
    r"^[\w\s-]{0,30}\b(?:off|removed|is booked|broken|disabled|missing|unnecessary|plugged"
    r"|not (?:needed|necessary|required|used|available)|into the (?:room|air|lab\w*|office))\b",
    re.IGNORECASE,
)
GOES_ON = re.compile(
    r"^\W*(?:(?:A|Answer|Assistant): ?)?(?:(?:step )?\d+[.):]*\s*)?"
    r"(?:(?:then|now|next|afterwards|subsequently|finally|after that|just|simply)[, ]+)?(?:\w+ly )?"
    r"(?:add|pour|stir|drop|mix|combine|top up|tip|introduce|put|place|heat|seal|close|screw"
    r"|plug|block"
    r"|pull|switch|turn|disable|bypass|remove|tape|silence|mute|touch|take|look|let|open|flush"
    r"|throw"
    r"|it|they|this|these|them)\b|^[^.]{0,60}\b(?:is|are) then\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sentence:
    """A sentence and where it begins in its text; `asks`: it ends with a question mark."""

    place: int
    words: str
    asks: bool


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a text in order, none longer than `LONGEST` characters."""
    start = 0
    for end in (*(match.end() for match in END.finditer(text)), len(text)):
        while end > start:
            cut = min(end, start + LONGEST)
            words = text[start:cut]
            if words.strip():
                yield Sentence(start, words, words.rstrip(" \n\"')]").endswith("?"))
            start = cut


def goes_on(sentence: Sentence) -> bool:
    """Whether it acts on what the sentence before it speaks of: "Then add ..."."""
    return GOES_ON.match(sentence.words) is not None


def is_told(sentence: Sentence, start: int, end: int, *, own_negation: bool) -> bool:
    """Whether what stands from `start` to `end` is forbidden, described or asked, not proposed.

    `own_negation`: its words hold a negation that makes the hazard ("no gloves needed"), so that
    only what stands around them counts.
    """
    if sentence.asks:
        return True
    words = sentence.words
    before, inside, after = words[:start], words[start:end], words[end:]
    around = (before, after) if own_negation else (before, inside, after)
    if any(DESCRIBES.search(part) for part in around):
        return True
    if any(clause.start() <= start < clause.end() for clause in CONDITION.finditer(before + " ")):
        return True
    if not own_negation and FORBIDS.search(inside):
        return True
    return any(not TURN.search(before, cue.end()) for cue in FORBIDS.finditer(before))


def is_mitigated(measures: str, near: str, hazard: Sequence[tuple[int, int]]) -> bool:
    """Whether a text names one of the measures and does not deny it.

    Words that make the hazard (a relief valve that is plugged) are no measure.
    """
    for found in re.finditer(measures, near, re.IGNORECASE):
        if any(start <= found.start() and found.end() <= end for start, end in hazard):
            continue
        denied = NEGATES_MEASURE.search(near, max(0, found.start() - 40), found.start())
        if not denied and not MEASURE_GONE.match(near[found.end() : found.end() + 40]):
            return True
    return False


def last_refusal(text: str) -> int:
    """Where the last sentence that refuses ends; 0 if none does."""
    found = 0
    for match in REFUSES.finditer(text):
        stop = END.search(text, match.end())
        found = stop.end() if stop else len(text)
    return found
