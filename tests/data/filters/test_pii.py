from __future__ import annotations

import json

import pytest

from nexa.core.config_filters import PII_KINDS
from nexa.data.filters import pii
from nexa.data.filters.registry import FILTERS
from nexa.data.filters.texts import hits
from tests.data.build import row
from tests.data.filters.labelled import read

MAIL = "jane.miller@quietharbor.net"


def found(text: str) -> list[str]:
    return [find.kind for find in pii.close_look(PII_KINDS)(text)]


def test_a_row_is_redacted_and_its_verdict_counts_by_kind() -> None:
    redact = FILTERS["pii"]({})
    clean, hit = redact(
        [
            row("Who?", "Nobody."),
            row(f"I am {MAIL}, call +49 30 23125 042.", f"Hello {MAIL}, {MAIL}."),
        ]
    )
    assert clean is None
    assert hit is not None
    assert hit.reason == "personal data redacted (email, phone)"
    assert hit.detail == (
        "1 email, 1 phone in message 1 of 2, at character 6, 40; "
        "2 email in message 2 of 2, at character 7, 36"
    )
    assert hit.content is not None
    assert [m["content"] for m in hit.content.messages] == [
        "I am [EMAIL], call [PHONE].",
        "Hello [EMAIL], [EMAIL].",
    ]


def test_a_row_is_dropped_where_that_is_asked() -> None:
    (verdict,) = FILTERS["pii"]({"action": "drop"})([row("Who?", MAIL)])
    assert verdict is not None
    assert verdict.reason == "personal data (email)"
    assert verdict.content is None


def test_only_the_kinds_asked_for_are_found() -> None:
    only_cards = FILTERS["pii"]({"kinds": ["card"]})
    assert only_cards([row("Who?", MAIL)]) == [None]
    (verdict,) = only_cards([row("Who?", f"{MAIL} 4111 1111 1111 1111")])
    assert verdict is not None
    assert verdict.content is not None
    assert verdict.content.messages[-1]["content"] == f"{MAIL} [CARD]"


def test_json_stays_json() -> None:
    answer = json.dumps({"mail": MAIL, "card": 4111111111111111, "n": [4111111111111111, 2]})
    (verdict,) = FILTERS["pii"]({})([row("Who?", answer)])
    assert verdict is not None
    assert verdict.content is not None
    assert json.loads(verdict.content.messages[-1]["content"]) == {
        "mail": "[EMAIL]",
        "card": "[CARD]",
        "n": ["[CARD]", 2],
    }


def test_what_only_begins_like_json_is_text() -> None:
    (verdict,) = FILTERS["pii"]({})([row("Who?", "[4111111111111111, and so on")])
    assert verdict is not None
    assert verdict.content is not None
    assert verdict.content.messages[-1]["content"] == "[[CARD], and so on"


def test_many_finds_are_told_by_the_first_five_places() -> None:
    (verdict,) = FILTERS["pii"]({})([row("Who?", f"{MAIL} " * 7)])
    assert verdict is not None
    assert verdict.detail.endswith("at character 1, 29, 57, 85, 113 and later")


def test_the_first_look_hides_nothing_from_the_close_look() -> None:
    texts = [r.text for r in read("pii")]
    for kind in PII_KINDS:
        look = pii.close_look([kind])
        there = [index for index, text in enumerate(texts) if look(text)]
        assert set(there) <= set(hits(texts, pii.FIRST[kind])), kind


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("jane@mail.kingsmead.edu:8080 is odd", ["email"]),
        ("clone git@gitlab.com:a/b.git", []),
        ("https://me:word@kingsmead.edu/x", []),
        ("logo@2x.png and jane@host.json", []),
        ("a@b.example and c@example.org", []),
        ("DE89 3704 0044 0532 0130 0", []),
        ("XX89 3704 0044 0532 0130 00", []),
        ("DE89 3704 0044 0532 0130 00X", []),
        ("4111-1111 1111-1112", []),
        ("4111 11 1111 1111 11", []),
        ("078-00-1234 and 078-12-0000", []),
        ("v8.8.8.8, tables 8.8.4.4, 8.8.8.8", []),
        ("300.1.1.1", []),
        ("ping 8.8.8.8", ["ip"]),
        ("2999:zz::1 and 2001:4860:4860::8888", ["ip"]),
        ("20ff:12:::1", []),
        ("ff:ff:ff:ff:ff:ff", []),
        ("+999 1234 5678", []),
        ("+49 12", []),
        ("0049301234567", []),
        ("911-555-0123 and 415-911-0123", []),
        ("phone 1 415 555 0132", ["phone"]),
        ("rng = default_rng(4111111111111111)", []),
        ("pay(card=4111111111111111)", ["card"]),
        ("[4222222222222] or visa 4222222222222", ["card"]),
        ("doi:10.1088/0026-1394/44/2/003", []),
    ],
)
def test_forms_that_decide(text: str, kinds: list[str]) -> None:
    assert found(text) == kinds


@pytest.mark.parametrize("piece", ["-", "a", "a-", "1", "1 ", "(", " at ", "[at", ":", "1.", "a@"])
def test_no_text_takes_for_ever(piece: str) -> None:
    assert found(piece * 20_000) == []
