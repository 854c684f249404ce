from __future__ import annotations

import pytest

from nexa.data.filters.pii_numbers import BANK_LENGTHS, is_card, is_iban, is_phone, is_us_phone


@pytest.mark.parametrize(
    ("number", "right"),
    [
        ("GB82 WEST 1234 5698 7654 32", True),
        ("gb82west12345698765432", True),
        ("GB83 WEST 1234 5698 7654 32", False),
        ("BE71 0961 2345 6769", True),
    ],
)
def test_ibans_by_their_check_digits(number: str, right: bool) -> None:
    assert is_iban(number) is right


def test_the_lengths_of_known_examples() -> None:
    # From ISO 13616's registry: one of the shortest, one of the longest, two in between.
    for example in ("NO9386011117947", "MT84MALT011000012345MTLCAST001S", "FI2112345600000785"):
        assert BANK_LENGTHS[example[:2]] == len(example)
        assert is_iban(example)


@pytest.mark.parametrize(
    ("number", "right"),
    [
        ("4111111111111111", True),
        ("4111-1111-1111-1111", True),
        ("378282246310005", True),
        ("3782 822463 10005", True),
        ("30569309025904", True),
        ("6011111111111117", True),
        ("3530111333300000", True),
        ("2223003122003222", True),
        ("4111111111111112", False),
        ("9111111111111111", False),
        ("41 11111111111111", False),
    ],
)
def test_cards_by_range_check_digit_and_groups(number: str, right: bool) -> None:
    assert is_card(number) is right


@pytest.mark.parametrize(
    ("number", "right"),
    [
        ("+44 20 7946 0958", True),
        ("+1 415 555 0132", True),
        ("+1 115 555 0132", False),
        ("+49 (0)30 23125 042", True),
        ("0049 30 23125 042", True),
        ("004930231250", False),
        ("+44 20", False),
        ("+999 555 1234", False),
    ],
)
def test_phones_by_the_plan_of_their_country(number: str, right: bool) -> None:
    assert is_phone(number) is right


def test_american_phones_have_areas_and_exchanges() -> None:
    assert is_us_phone("1-800-555-0199")
    assert not is_us_phone("415-155-0132")
