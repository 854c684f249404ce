"""What must hold of the example's files; `build.py` refuses to write files that break it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from nexa.core.hazards.flags import red_flags, unphysical
from nexa.core.overlap import example, leaks, memberships

FILES = ("train", "eval", "pool")
ROWS = {"train": 48, "eval": 48, "pool": 24}
KEYS = (
    *("id", "context", "prompt", "target_answer", "domain", "source", "quality_score", "group"),
)
ANSWER_KEYS = ("hypothesis", "methodology", "risks")
CRITERIA = 5
FEWEST_ANSWERS = 40
LEVELS = range(1, 6)
MOST_COMMON_WORDS = 12
"""No training or pool row shares a longer run of words with an eval row."""

Row = Mapping[str, object]


class BrokenExample(ValueError):
    """A property of the example's files does not hold."""


def check_rows(files: Mapping[str, Sequence[Row]]) -> None:
    """Check the rows of all files together.

    Raises:
        BrokenExample: names the first property that fails, with the row.
    """
    for name in FILES:
        _require(len(files[name]) == ROWS[name], f"{name}: {len(files[name])} rows")
        for row in files[name]:
            _check_row(row)
    rows = [row for name in FILES for row in files[name]]
    _require(len({row["id"] for row in rows}) == len(rows), "an id comes twice")
    _check_groups(files)
    _check_copies(files)


def check_answers(rows: Sequence[Row], answers: Sequence[Row], labels: Sequence[Row]) -> None:
    """Check the reference answers and their levels against the eval rows.

    Raises:
        BrokenExample: names the first property that fails.
    """
    ids = {row["id"] for row in rows}
    _require(len(answers) >= FEWEST_ANSWERS, f"{len(answers)} answers")
    _require({answer["id"] for answer in answers} <= ids, "an answer to no eval row")
    for answer in answers:
        flagged = bool(red_flags(str(answer["text"])))
        unsafe = answer["kind"] == "unsafe"
        _require(flagged == unsafe, f"{answer['id']}: {answer['kind']}, red flags: {flagged}")
    graded = Counter(label["id"] for label in labels)
    _require(set(graded) == {answer["id"] for answer in answers}, "answers without levels")
    _require(set(graded.values()) == {2}, "not two raters an answer")
    for label in labels:
        levels = [value for value in label.values() if isinstance(value, int)]
        fits = len(levels) == CRITERIA and all(level in LEVELS for level in levels)
        _require(fits, f"{label['id']}: levels {levels}")


def _check_row(row: Row) -> None:
    place = str(row.get("id"))
    _require(tuple(row) == KEYS, f"{place}: keys {tuple(row)}")
    answer = _answer(row)
    _require(tuple(answer) == ANSWER_KEYS, f"{place}: the answer has the keys {tuple(answer)}")
    _require(all(answer.values()), f"{place}: an empty part")
    for text in (str(row["context"]), *answer.values()):
        _require(not red_flags(text), f"{place}: a red flag in {text!r}")
        _require(not unphysical(text), f"{place}: an unphysical quantity in {text!r}")


def _check_groups(files: Mapping[str, Sequence[Row]]) -> None:
    """A topic is in one file and one domain; every domain is in every file."""
    groups = {name: {row["group"] for row in files[name]} for name in FILES}
    for one, other in (("train", "eval"), ("train", "pool"), ("eval", "pool")):
        _require(not groups[one] & groups[other], f"{one} and {other} share topics")
    domains = [{row["domain"] for row in files[name]} for name in FILES]
    _require(all(found == domains[0] for found in domains), "a domain is missing in a file")


def _check_copies(files: Mapping[str, Sequence[Row]]) -> None:
    """No two rows are near-copies, and none gives an eval row away, as Nexa itself compares."""
    rows = [row for name in FILES for row in files[name]]
    texts = [_text(row) for row in rows]
    for number, heads in enumerate(memberships(texts)):
        named = f"{rows[number]['id']} is alike to {rows[heads[0]]['id']}"
        _require(heads == (number,), named)
    held_out = files["eval"]
    others = [row for name in ("train", "pool") for row in files[name]]
    found = leaks([_example(row) for row in others], [_example(row) for row in held_out])
    for hit in found:
        raise BrokenExample(f"{others[hit.train_index]['id']} gives away {hit.eval_index}")
    runs = set().union(*(_runs(row) for row in held_out))
    for row in others:
        common = _runs(row) & runs
        _require(not common, f"{row['id']} shares words with an eval row: {sorted(common)[:1]}")


def _runs(row: Row) -> set[str]:
    words = re.sub(r"[^a-z0-9]+", " ", _text(row).lower()).split()
    length = MOST_COMMON_WORDS + 1
    return {" ".join(words[i : i + length]) for i in range(len(words) - length + 1)}


def _text(row: Row) -> str:
    return "\n".join([str(row["context"]), str(row["prompt"]), *_answer(row).values()])


def _example(row: Row):  # type: ignore[no-untyped-def]
    asked = f"{row['context']}\n\n{row['prompt']}"
    said = "\n".join(_answer(row).values())
    return example([{"role": "user", "content": asked}, {"role": "assistant", "content": said}])


def _answer(row: Row) -> Mapping[str, str]:
    answer = row["target_answer"]
    if not isinstance(answer, Mapping):
        raise BrokenExample(f"{row.get('id')}: the answer is no object")
    return answer


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise BrokenExample(message)
