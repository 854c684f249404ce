from __future__ import annotations

import pytest

from nexa.data.filters.registry import FILTERS
from nexa.data.filters.secrets import FIRST, find_secrets
from nexa.data.filters.texts import hits
from tests.data.build import row
from tests.data.filters.labelled import read

# In pieces, so that no scanner of this repository takes them for real ones.
RANDOM = "q8ZrT2vLx9" + "Kp4WmY7sNd" + "B1cHf6JgAe" + "U3oR"
GITHUB = "gh" + "p_" + RANDOM + "xY"
HUB = "h" + "f_" + RANDOM


def kinds(text: str) -> list[str]:
    return [find.kind for find in find_secrets(text)]


def test_a_row_is_redacted_and_its_verdict_names_kinds_and_places_only() -> None:
    clean, hit = FILTERS["secrets"]({})(
        [row("Why?", "A token is a word."), row(f"export HF_TOKEN={HUB}", f"Use {GITHUB}!")]
    )
    assert clean is None
    assert hit is not None
    assert hit.reason == "secret redacted (GitHub token, Hugging Face token)"
    assert hit.detail == (
        "1 Hugging Face token in message 1 of 2, at character 17; "
        "1 GitHub token in message 2 of 2, at character 5"
    )
    assert hit.content is not None
    assert [m["content"] for m in hit.content.messages] == [
        "export HF_TOKEN=[SECRET]",
        "Use [SECRET]!",
    ]


def test_a_row_is_dropped_where_that_is_asked() -> None:
    (hit,) = FILTERS["secrets"]({"action": "drop"})([row("Why?", GITHUB)])
    assert hit is not None
    assert (hit.reason, hit.content) == ("secret (GitHub token)", None)


def test_the_first_look_hides_nothing_from_the_close_look() -> None:
    texts = [r.text for r in read("secrets")]
    there = [index for index, text in enumerate(texts) if find_secrets(text)]
    assert set(there) <= set(hits(texts, FIRST))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"prefix{GITHUB}", []),
        ("gh" + "p_" + "x" * 36, []),
        (f"password: {RANDOM[:12]}", ["password"]),
        (f'"api_key": "{RANDOM}"', ["key"]),
        (f"api_key = '{RANDOM[:14]}'", []),
        (f"Authorization: Bearer {RANDOM}", ["key"]),
        ("Authorization: Bearer of-bad-tidings-2024-05", []),
        (f"ftp://me:{RANDOM[:9]}@host", ["password"]),
        ("ftp://me:password@host", []),
        (f'publicKeyToken="{RANDOM[:16]}"', []),
        (f"pass: {RANDOM[:12]}", ["password"]),
        ("we pass stop/step and `dtype=2`", []),
        (f"mysql -u root -p{RANDOM[:9]} runs", ["password"]),
        ("mysql -u root -pdatabase runs", []),
        ("-----BEGIN " + "PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----", ["private key"]),
    ],
)
def test_forms_that_decide(text: str, found: list[str]) -> None:
    assert kinds(text) == found


@pytest.mark.parametrize(
    "piece",
    ["a", "a-", "eyJ", "key ", "token=", "://", "://a:", "curl ", "-----BEGIN ", "A3T", "basic "],
)
def test_no_text_takes_for_ever(piece: str) -> None:
    assert kinds(piece * 10_000) == []
