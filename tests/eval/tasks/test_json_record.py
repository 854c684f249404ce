from __future__ import annotations

import json
import random
from typing import Any

import pytest

from nexa.eval.tasks import json_record
from nexa.eval.tasks.json_record import JSON_RECORD, UNREADABLE, equal, fields, grader, read

TARGET = {"name": "iron", "z": 26, "density": 7.87, "found": None, "crystal": {"lattice": "BCC"}}
TARGETS = [
    json.dumps(TARGET),
    json.dumps({**TARGET, "found": 1811, "crystal": {"lattice": None}}),
]


def grade(answer: str, target: Any = None) -> dict[str, float]:
    marked = grader(TARGETS)(answer, json.dumps(TARGET if target is None else target))
    return {**marked.scores, **marked.detail}


def test_the_record_itself_is_right_in_any_order_and_notation() -> None:
    answer = (
        '{"z": 26.0, "crystal": {"lattice": "BCC"},\n "name": "\\u0069ron", '
        '"found": null, "density": 787e-2}'
    )
    marked = grade(answer)
    assert all(marked[metric.name] == 1 for metric in json_record.METRICS)
    assert (marked["fields"], marked["missing"], marked["wrong"], marked["extra"]) == (5, 0, 0, 0)


def test_missing_wrong_and_extra_fields_are_told_apart() -> None:
    answer = {"name": "iron", "z": "26", "density": 7.87, "crystal": {"shape": "cube"}}
    marked = grade(json.dumps(answer))
    assert (marked["missing"], marked["wrong"], marked["extra"]) == (2, 1, 1)
    assert marked["field_accuracy"] == pytest.approx(2 / 5)
    precision, recall = 2 / 4, 2 / 5
    assert marked["field_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert (marked["exact"], marked["valid_json"], marked["schema"]) == (0, 1, 0)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "iron",
        'Here it is: {"name": "iron"}',
        '```json\n{"name": "iron"}\n```',
        '{"name": "iron"',
        '{"name": NaN}',
        '{"name": "iron", "name": "iron"}',
        "[" * 100_000,
        "1" * 5000,
    ],
)
def test_what_is_not_one_json_value_is_unparsable_and_scores_zero(answer: str) -> None:
    assert read(answer) is UNREADABLE
    marked = grade(answer)
    assert all(marked[metric.name] == 0 for metric in json_record.METRICS)
    assert (marked["unparsable"], marked["missing"], marked["wrong"]) == (1, 5, 0)


@pytest.mark.parametrize("answer", ["[1]", "null", '"iron"', "7"])
def test_json_that_is_no_object_is_valid_and_has_no_field(answer: str) -> None:
    marked = grade(answer)
    assert (marked["valid_json"], marked["unparsable"]) == (1, 0)
    assert (marked["exact"], marked["schema"], marked["field_f1"]) == (0, 0, 0)


def test_the_schema_takes_every_type_that_some_target_has() -> None:
    other = {**TARGET, "found": 1700, "crystal": {"lattice": None}}
    assert grade(json.dumps(other))["schema"] == 1
    assert grade(json.dumps({**TARGET, "found": "1700"}))["schema"] == 0
    assert grade(json.dumps({**TARGET, "z": True}))["schema"] == 0
    assert grade(json.dumps({**TARGET, "more": 1}))["schema"] == 0
    assert grade(json.dumps({**TARGET, "crystal": "BCC"}))["schema"] == 0


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, True),
        (1, "1", False),
        (1, True, False),
        (0, False, False),
        (None, False, False),
        ([1, [2]], [1.0, [2]], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"b": 1}, False),
        ([True], [1], False),
    ],
)
def test_values_are_compared_with_their_types(a: Any, b: Any, same: bool) -> None:
    assert equal(a, b) is same
    assert equal(b, a) is same


def test_fields_are_json_pointers() -> None:
    value = {"a/b": {"~": 1}, "a": {"b": {}}, "": {"": [1, {"x": 2}]}}
    assert fields(value) == {"/a~1b/~0": 1, "/a/b": {}, "//": [1, {"x": 2}]}
    assert fields({}) == {}


def test_empty_records_are_right_only_if_empty() -> None:
    marked = grader(["{}"])
    assert marked("{}", "{}").scores == dict.fromkeys(JSON_RECORD.versions, 1.0)
    some = marked('{"a": 1}', "{}").scores
    assert (some["exact"], some["field_accuracy"], some["field_f1"]) == (0, 0, 0)


def test_the_task_fits_only_objects() -> None:
    assert JSON_RECORD.fits(TARGETS)
    assert not JSON_RECORD.fits([*TARGETS, "[1]"])
    assert not JSON_RECORD.fits([*TARGETS, "iron"])
    assert not JSON_RECORD.fits([])


def flat(value: dict[str, Any], at: tuple[str, ...] = ()) -> set[tuple[Any, ...]]:
    """The second formula: fields as (path, type, canonical text), compared as sets."""
    pairs: set[tuple[Any, ...]] = set()
    for name, item in value.items():
        if isinstance(item, dict) and item:
            pairs |= flat(item, (*at, name))
        else:
            number = isinstance(item, int | float) and not isinstance(item, bool)
            kind = "number" if number else type(item).__name__
            pairs.add(((*at, name), kind, repr(float(item)) if number else json.dumps(item)))
    return pairs


def test_field_scores_are_those_of_sets() -> None:
    dice = random.Random(0)
    values: list[Any] = [1, 1.0, "1", True, None, "x", {}, {"k": 2}, {"k": "2", "l": 1}]
    for _ in range(300):
        target, answer = (
            {name: dice.choice(values) for name in "abcd" if dice.random() < 0.7} for _ in range(2)
        )
        marked = grade(json.dumps(answer), target)
        wanted, given = flat(target), flat(answer)
        right = len(wanted & given)
        accuracy = right / len(wanted) if wanted else float(not given)
        assert marked["field_accuracy"] == pytest.approx(accuracy)
        total = len(wanted) + len(given)
        assert marked["field_f1"] == pytest.approx(2 * right / total if total else 1)
        assert marked["exact"] == (wanted == given)
        paths = {pair[0] for pair in wanted}, {pair[0] for pair in given}
        assert marked["missing"] == len(paths[0] - paths[1])
        assert marked["extra"] == len(paths[1] - paths[0])
        assert marked["wrong"] == len(paths[0] & paths[1]) - right
