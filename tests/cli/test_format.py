from __future__ import annotations

import json

import pytest

from nexa.cli import format
from nexa.cli.format import clean, to_json
from nexa.core.records import Interval


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\x07", "a\\rb\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202e", "abc\\u202e"),
        ("two\nlines\tand a tab, in: über 名", "two\nlines\tand a tab, in: über 名"),
        ("token hf_" + "x" * 30, "token [redacted]"),
    ],
)
def test_data_cannot_steer_the_terminal(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_json_reads_back_and_holds_no_control_character() -> None:
    value = {"a": "\x1b[2J\x9b\u202e", "b": [1, None, "ü"]}
    text = to_json(value)
    assert json.loads(text) == value
    assert "ü" in text
    assert not any(mark in text for mark in ("\x1b", "\x9b", "\u202e"))


@pytest.mark.parametrize(
    ("size_bytes", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (1.2e9, "1.2 GB"),
        (3.4e12, "3.4 TB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_sizes_are_decimal(size_bytes: float, told: str) -> None:
    assert format.size(size_bytes) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"),
        (9.9, "9.9 s"),
        (43.2, "43 s"),
        (59.7, "1 min 00 s"),
        (208, "3 min 28 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, told: str) -> None:
    assert format.duration(seconds) == told


def test_a_score_is_told_with_its_interval() -> None:
    score = Interval(mean=0.812, low=0.72, high=0.894, n=64, groups=25)
    assert format.interval(score) == "0.81 [0.72, 0.89]"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1234, "1,234"),
        (0.21349, "0.2135"),
        (12345.6, "12,346"),
        (3.0, "3"),
        (1e20, "100,000,000,000,000,000,000"),
    ],
)
def test_numbers_have_four_digits_at_most(value: float, told: str) -> None:
    assert format.number(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(2e-4, "2e-4"), (0.0015, "1.5e-3"), (1e-3, "1e-3"), (0.0, "0"), (1, "1e0")]
)
def test_learning_rates_are_written_as_in_configurations(value: float, told: str) -> None:
    assert format.rate(value) == told
