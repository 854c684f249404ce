"""Personal data by its form: addresses and numbers that belong to a person, an account, a device.

A number counts only where its form, its check digits (IBAN: ISO 7064 mod 97-10; cards: Luhn's),
its ranges (phones: ITU-T E.164 and the North American plan; IP: public addresses alone; social
security: numbers that are issued) or a word beside it say what it is: versions, measurements and
identifiers of things stay. Names and street addresses are not looked for: no form tells them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from nexa.core.config_filters import PiiKind, PiiSection
from nexa.data.filters.pii_numbers import BANK_LENGTHS, is_card, is_iban, is_phone, is_us_phone
from nexa.data.filters.texts import CloseLook, Find, Search, apart

WHAT = "personal data"

# RE2, over whole batches: whatever the close look finds is hit by its kind's pattern.
FIRST: Mapping[PiiKind, str] = {
    "email": r"@|[\[({<]\s*(?i:at|ät)\s*[\])}>]|(?i:\sdot\s)",
    "phone": r"[0-9](?:[^0-9A-Za-z\n]{0,3}[0-9]){6}",
    "iban": r"\b[A-Za-z]{2}[0-9]{2}[ -]?[A-Za-z0-9]{4}",
    "card": r"[0-9](?:[ -]?[0-9]){12}",
    "ip": r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[23][0-9A-Fa-f]{3}:",
    "mac": r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.",
    "ssn": r"[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}",
    "passport": r"(?i)passe?port|reisepass|pasaporte|passaporto|paspoort",
}

# RFC 2606 and 6761: names that are nobody's.
RESERVED = re.compile(
    r"(?:^|\.)(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost|local)$"
)
FILES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "py", "json", "md"})
TOP = (
    r"(?:com|org|net|edu|gov|io|dev|ai|co|de|at|ch|uk|fr|es|it|nl|be|pt|pl|se|no|dk|fi|eu|us|ca"
    r"|au|jp|cn|in|br|ru)"
)
EMAIL = re.compile(
    r"(?<![\w.%+'/-])[\w.%+'-]*[\w%+-]@((?:[\w-]+\.)+([A-Za-z]{2,24}))(?![\w@-])(?!:[~/\w])"
)
IN_ADDRESS = re.compile(r"://[^\s/]*$")
_AT = r"\s*[\[({<]\s*(?:at|ät|@)\s*[\])}>]\s*"
_DOT = r"\s*[\[({<]\s*(?:dot|punkt|point|\.)\s*[\])}>]\s*"
SPELT = re.compile(
    rf"(?<![\w.+-])[\w.+-]{{1,64}}(?:{_AT}[\w-]+(?:(?:{_DOT}|\.)[\w-]+)*(?:{_DOT}|\.)[a-z]{{2,}}"
    rf"|\s+at\s+[\w-]+(?:\s+dot\s+[\w-]+)*\s+dot\s+{TOP})\b",
    re.IGNORECASE,
)

_GAP = r"[ .()/\u00a0\u2011\u2013-]{0,3}"
WORLD_PHONE = re.compile(
    rf"(?<![\w+.])(?<![0-9][ -])(?:\+|(?<!/)00)[1-9](?:{_GAP}[0-9]){{6,14}}(?![0-9]|[.,][0-9])"
)
US_PHONE = re.compile(
    r"(?<![\w.+/-])(?:1[ .-])?(?:\(([2-9][0-9]{2})\)[ ]?([2-9][0-9]{2})[ .-][0-9]{4}"
    r"|([2-9][0-9]{2})([.-])([2-9][0-9]{2})\4[0-9]{4})(?![\w]|[.,-][0-9])"
)
PHONE_WORD = re.compile(
    r"\b(?:tele?(?:ph|f)one?|tel|phone|mobile|mobil|cell(?:ular)?|fax|whatsapp|sms|handy"
    r"|ruf(?:nummer)?|durchwahl|t[ée]l[ée]phone?|tel[ée]fono?|m[óo]vil|celular|portable|call|ring|dial)\b"
    rf"[ a-z]{{0,14}}[^0-9A-Za-z\n]{{0,6}}(\+?[0-9(](?:{_GAP}[0-9]){{6,14}})(?!\w|[.,-][0-9])",
    re.IGNORECASE,
)
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?=[ -]?[A-Za-z0-9])")
CARD = re.compile(r"(?<![\w.,+-])[0-9](?:[ -]?[0-9]){12,18}(?![\w]|[.,-][0-9])")
CARD_WORD = re.compile(r"card|visa|maestro|amex|pan\b|karte|carte|tarjeta", re.IGNORECASE)
CALL = re.compile(r"(?:seed|rng|\w\()\W*$")  # `default_rng(...)`: an integer of code
IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])")
IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?![\w:])")
NOT_IP = re.compile(
    r"(?:\bv|\bver|\bversions?|\brelease|\bfirmware|\bbuild|\brev|\bassembly|\bupgrade to"
    r"|\bsections?|\btables?|\bchapters?|§|\boid|\bEC|[=<>~^]=|[A-Za-z]/|[A-Za-z][@-])\s*$",
    re.IGNORECASE,
)
NET_WORD = re.compile(
    r"\b(?:ip|ips|ipv4|address|addr|adresse|host|client|peer|server|from|von|login|logged|signed|via"
    r"|visitor|user|remote|connect\w*|verbindung|blocked|banned|ssh|ping)\b[^.\n]{0,24}$",
    re.IGNORECASE,
)
MAC = re.compile(
    r"(?<![\w:-])(?:[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}|"
    r"(?=[0-9.]{0,13}[A-Fa-f])[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4})(?![\w]|[:.-][0-9A-Fa-f])"
)
SSN = re.compile(r"(?<![\w.-])([0-9]{3})([- ]?)([0-9]{2})\2([0-9]{4})(?![\w]|[.,-][0-9])")
SSN_WORD = re.compile(r"\b(?:ssn|social.security)\b[^0-9\n]{0,20}$", re.IGNORECASE)
PASSPORT = re.compile(
    r"(?:passe?port|reisepass|pasaporte|passaporto|paspoort)(?:nummer)?[\"']?"
    r"(?:[\s:=#\"'.°-]|\b(?:no|num|number|num[ée]ro|nr|nummer|is|id|n)\b){1,12}"
    r"((?=(?:[A-Z]*[0-9]){2})[A-Z0-9]{7,9})\b"
)


def make(options: PiiSection) -> Search:
    """The filter."""
    return Search(
        first="|".join(FIRST[kind] for kind in options.kinds),
        close=close_look(options.kinds),
        what=WHAT,
        action=options.action,
        placeholder=lambda kind: f"[{kind.upper()}]",
    )


def close_look(kinds: Sequence[PiiKind]) -> CloseLook:
    """What finds personal data of some kinds in one text; where two claim a place, the surer."""
    looks = [look for kind, look in LOOKS.items() if kind in kinds]
    return lambda text: apart(find for look in looks for find in look(text))


def _emails(text: str) -> Iterator[Find]:
    for match in EMAIL.finditer(text):
        domain, top = match[1].lower(), match[2].lower()
        # `git@host` is everybody's; `https://user:word@host` is an address of another kind.
        told = match[0].startswith("git@") or IN_ADDRESS.search(text[: match.start()][-80:])
        if not told and top not in FILES and not RESERVED.search(domain):
            yield Find(match.start(), match.end(), "email")
    for match in SPELT.finditer(text):
        yield Find(match.start(), match.end(), "email")


def _ibans(text: str) -> Iterator[Find]:
    for match in IBAN.finditer(text):
        wanted = BANK_LENGTHS.get(match[0][:2].upper())
        end = _end_of(text, match.start(), wanted or 0)
        if end and is_iban(text[match.start() : end]):
            yield Find(match.start(), end, "iban")


def _end_of(text: str, start: int, wanted: int) -> int | None:
    """Where so many letters and digits end, with at most one blank or dash between two."""
    found = re.compile(rf"(?:[A-Za-z0-9][ -]?){{{max(wanted - 1, 0)}}}[A-Za-z0-9]").match(
        text, start
    )
    if not wanted or found is None or text[found.end() : found.end() + 1].isalnum():
        return None
    return found.end()


def _cards(text: str) -> Iterator[Find]:
    for match in CARD.finditer(text):
        if is_card(match[0]) and not _is_integer(text, match):
            yield Find(match.start(), match.end(), "card")


def _is_integer(text: str, match: re.Match[str]) -> bool:
    """Whether the digits stand in one piece and nothing says that they are not just a number."""
    before = text[: match.start()][-30:]
    usual = len(match[0]) in (15, 16) and not CALL.search(before)
    return match[0].isdecimal() and not usual and not CARD_WORD.search(before)


def _ssns(text: str) -> Iterator[Find]:
    for match in SSN.finditer(text):
        area, mark, group, serial = match.groups()
        issued = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
        beside = SSN_WORD.search(text[: match.start()][-40:])
        if issued and (mark == "-" or beside):
            yield Find(match.start(), match.end(), "ssn")


def _passports(text: str) -> Iterator[Find]:
    for match in PASSPORT.finditer(text):
        yield Find(match.start(1), match.end(1), "passport")


def _ips(text: str) -> Iterator[Find]:
    for match in IPV4.finditer(text):
        before = text[: match.start()][-40:]
        if _public(match[0]) and not NOT_IP.search(before):
            large = sum(int(octet) >= 64 for octet in match[0].split("."))
            if large >= 2 or NET_WORD.search(before):
                yield Find(match.start(), match.end(), "ip")
    for match in IPV6.finditer(text):
        if _public(match[0]):
            yield Find(match.start(), match.end(), "ip")


def _public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _macs(text: str) -> Iterator[Find]:
    for match in MAC.finditer(text):
        if len(set(match[0]) - set(":-.")) > 1:
            yield Find(match.start(), match.end(), "mac")


def _phones(text: str) -> Iterator[Find]:
    for match in WORLD_PHONE.finditer(text):
        if is_phone(match[0]):
            yield Find(match.start(), match.end(), "phone")
    for match in US_PHONE.finditer(text):
        if is_us_phone(match[0]):
            yield Find(match.start(), match.end(), "phone")
    for match in PHONE_WORD.finditer(text):
        yield Find(match.start(1), match.end(1), "phone")


# The surest first: what one has claimed, no later one gets.
LOOKS: Mapping[PiiKind, Callable[[str], Iterator[Find]]] = {
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "mac": _macs,
    "ip": _ips,
    "passport": _passports,
    "ssn": _ssns,
    "phone": _phones,
}
