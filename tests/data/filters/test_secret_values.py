from __future__ import annotations

import pytest

from nexa.data.filters.secret_values import looks_like_a_key, looks_like_a_password

DRAWN = "q8ZrT2vLx9" + "Kp4WmY7sNd"
HEX = "9f86d081884c7d65" + "9a2feaa0c55ad015"


@pytest.mark.parametrize("value", [DRAWN, HEX, "Zm9v" + "YmFyYmF6cXV4MTIz" + "/w=="])
def test_what_was_drawn_at_random_is_a_key(value: str) -> None:
    assert looks_like_a_key(value)


@pytest.mark.parametrize(
    "value",
    [
        DRAWN[:15],
        "abcdefghijklmnopqrstuvwx",
        "ABCDEFGHIJ0123456789",
        "user:profile:42:settings",
        "1111111111111111111a",
        "123e4567-e89b-12d3-a456-426614174000",
        "sha256:" + HEX,
        "BSYNRYMUTXBXSQ-UHFFFAOYSA-N",
        "ACGTTGCAAGCTTGGCACTGG",
        "MVLSPADKTNVKAAWGKVGAH",
        "2024-03-18T09:15:22.123456Z"[:10] + "-11-12-13",
        "https://host/path/4f2a8c",
        "YOUR_API_KEY_GOES_HERE_1",
        "os.environ4.get_token_now",
        "${VAULT_SECRET_2024_PROD}",
        "{{ db_password_1234567 }}",
        "xxxxxxxxxxxxxxxxxxx1",
        "get_token(config4321)",
        "config[4321][1234][99]",
        "--token-file-2024-05",
    ],
)
def test_what_has_another_meaning_is_none(value: str) -> None:
    assert not looks_like_a_key(value)


@pytest.mark.parametrize(
    ("value", "made_up"),
    [
        ("Tr0ub4dor&3", True),
        ("correct-horse7", True),
        ("p4ss", False),
        ("password", False),
        ("something", False),
        ("Something", False),
        ("12345678", False),
        ("your-password-1", False),
        ("input()", False),
        ("<password1>", False),
        ("********", False),
    ],
)
def test_passwords_mix_kinds_of_characters(value: str, made_up: bool) -> None:
    assert looks_like_a_password(value) is made_up
