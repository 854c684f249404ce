"""The error tree: what a user reads, what a shell and an except clause see."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa.core import errors
from nexa.core.errors import NexaError, StorageError, UsageError, nearest

CLASSES = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, NexaError)
]


def test_an_error_reads_as_what_found_and_try() -> None:
    error = NexaError("cannot train", found="no split 'train'", fix="nexa data prepare x.jsonl")
    assert str(error).splitlines() == [
        "cannot train",
        "  found  no split 'train'",
        "  try    nexa data prepare x.jsonl",
    ]


def test_more_lines_stand_under_the_first() -> None:
    assert str(NexaError("mistakes", found="line 1: a\nline 9: b")).splitlines() == [
        "mistakes",
        "  found  line 1: a",
        "         line 9: b",
    ]


@pytest.mark.parametrize("empty", [None, ""])
def test_what_is_not_known_leaves_no_line(empty: str | None) -> None:
    assert str(NexaError("cannot", found=empty, fix=empty)) == "cannot"


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_prints_all_its_lines_and_survives_a_process_boundary(
    cls: type[NexaError],
) -> None:
    error = cls("what", found="seen", fix="do")
    copy = pickle.loads(pickle.dumps(error))
    assert str(error) == str(copy) == "what\n  found  seen\n  try    do"
    assert (copy.what, copy.found, copy.fix) == ("what", "seen", "do")


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (UsageError, ValueError),
        (errors.ConfigError, ValueError),
        (StorageError, OSError),
        (errors.NetworkError, ConnectionError),
        (errors.MissingExtra, ImportError),
        (errors.TrainingError, RuntimeError),
    ],
)
def test_an_error_is_also_the_builtin_that_it_refines(
    cls: type[NexaError], builtin: type[Exception]
) -> None:
    with pytest.raises(builtin, match="what"):
        raise cls("what")


def test_exit_codes_are_those_of_the_drawing() -> None:
    drawn = {
        name: int(code)
        for name, code in re.findall(r"([A-Z]\w+) +(\d+)", errors.__doc__ or "")
        if name != "Ctrl"
    }
    of_classes = {cls.__name__: cls.exit_code for cls in CLASSES}
    assert of_classes == drawn


def test_no_two_classes_share_an_exit_code() -> None:
    codes = [cls.exit_code for cls in CLASSES]
    assert len(codes) == len(set(codes))
    assert not {0, 130} & set(codes)


def test_the_nearest_name_is_offered_and_a_far_one_is_not() -> None:
    known = ["rank", "alpha", "dropout"]
    assert nearest("rnak", known) == "rank"
    assert nearest("learning_rate", known) is None
    assert nearest("x", iter(())) is None


@given(st.text(), st.lists(st.text()))
def test_nearest_only_ever_names_what_is_known(word: str, known: list[str]) -> None:
    assert nearest(word, known) in [None, *known]
