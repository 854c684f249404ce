"""One row from its bytes, or why it is none; nothing is raised."""

from __future__ import annotations

from typing import Any

import pytest

from nexa.core.values import MAX_DEPTH, is_too_deep, parse


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b'{"a": 1e999}', "1e999 is more than a number can hold"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "in each other more than 64 deep"),
        (
            b'{"a":\n\n 1,}',
            "broken JSON: Expecting property name enclosed in double quotes at line 9",
        ),
        (b"{} {}", "broken JSON: Extra data at column 4"),
        (b" " * (9 << 20), "longer than 8 MB"),
    ],
)
def test_what_is_no_row_says_why(raw: bytes, problem: str) -> None:
    data, why = parse(raw, line=7)
    assert data is None
    assert problem in why


def test_many_brackets_are_not_many_levels() -> None:
    raw = b'{"a": [' + b"[], " * 200 + b"1.5]}"
    assert parse(raw) == ({"a": [[]] * 200 + [1.5]}, "")


def test_depth_is_that_of_lists_and_objects() -> None:
    value: Any = 1
    for level in range(MAX_DEPTH + 3):
        assert is_too_deep(value) == (level > MAX_DEPTH)
        value = {"a": value} if level % 2 else [value, 2]
