"""Which numbers can be a card's, an account's or a phone's: lengths, ranges and check digits."""

from __future__ import annotations

import re

# Letters and digits of an IBAN by country, as its registry (SWIFT, ISO 13616) lists them.
BANK_LENGTHS = {
    **{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22},
    **{"BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28},
    **{"EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23},
    **{"GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26},
    **{"IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20},
    **{"LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30},
    **{"NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22},
    **{"SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23},
    **{"TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20},
}
# The first digits of cards and how many digits such a card has (ISO/IEC 7812, the issuers' ranges).
CARDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}"
    r"|62\d{14,17}"
)
CARD_GROUPS = ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3))
# Calling codes of E.164: of one digit, of two, and the zones in which codes have three.
CALLING = re.compile(
    r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|2[1-689]\d|3[578]\d|42\d|5[09]\d|6[7-9]\d|8[0578]\d|9[67]\d|99[2-8])"
)
NATIONAL_DIGITS = range(7, 13)
US_NUMBER = re.compile(r"1?[2-9](?!11)\d\d[2-9](?!11)\d{6}")


def is_iban(text: str) -> bool:
    """Whether a number of the right length has the right check digits (ISO 7064, mod 97-10)."""
    number = re.sub("[ -]", "", text).upper()
    return int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1


def is_card(text: str) -> bool:
    """Whether an issuer gives such numbers, its check digit fits, and so do the groups."""
    number = re.sub(r"\D", "", text)
    groups = tuple(map(len, re.split(r"\D", text)))
    return (
        (len(groups) == 1 or groups in CARD_GROUPS)
        and CARDS.fullmatch(number) is not None
        and _luhn(number)
    )


def is_phone(text: str) -> bool:
    """Whether a number with its country is one that E.164 allows; `(0)` is not dialled."""
    digits = re.sub(r"\D", "", text.replace("(0)", ""))
    number = digits.removeprefix("00") if not text.startswith("+") else digits
    country = CALLING.match(number)
    if country is None or (not text.startswith("+") and digits == text):
        return False
    if country[0] == "1":
        return US_NUMBER.fullmatch(number) is not None
    return len(number) - country.end() in NATIONAL_DIGITS


def is_us_phone(text: str) -> bool:
    """Whether the North American numbering plan allows it: no area or exchange such as 911."""
    return US_NUMBER.fullmatch(re.sub(r"\D", "", text)) is not None


def _luhn(number: str) -> bool:
    """Luhn's check: every second digit from the right doubled, the digits' sum a multiple of 10."""
    digits = [int(digit) for digit in reversed(number)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
