from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nexa.core.errors import EvalError, UsageError
from nexa.core.identity import fingerprint
from nexa.eval.suite import FreezeSpec
from nexa.eval.tasks.definition import Definition, built, named_task, read_definition
from nexa.eval.tasks.kinds import KINDS
from nexa.eval.tasks.task import Likelihoods

NUMERIC = """\
kind: numeric
about: melting points
unit: K
tolerance: {relative: 0.01}
answer:
  take: regex
  pattern: 'answer: (.*)'
"""
MINIMAL = {
    "text": "",
    "json_record": "",
    "json_schema": "schema: {type: object}",
    "choices": "",
    "classification": "",
    "ranking": "",
    "perplexity": "",
    "numeric": "",
    "code": "",
}
PYTHON = """\
from dataclasses import dataclass
from nexa.eval.tasks.task import Grade, Metric, Task

@dataclass
class Rule:
    word: str

def grade(answer, target):
    return Grade({"said": float(Rule(target).word in answer)})

TASK = Task("says", "", (Metric("said", 1, ""),), "said", "p/1", bool, lambda targets: grade)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described_in_a_line(kind: str) -> None:
    content = read_definition(f"kind: {kind}\n{MINIMAL[kind]}\n")
    task = built("mine", content)
    assert (task.name, task.primary in task.versions) == ("mine", True)
    # What is left out is frozen with its value: a later default changes nothing.
    assert read_definition(f"kind: {kind}\n{MINIMAL[kind]}\n# as before\n") == content


def test_a_file_of_yaml_is_a_task(tmp_path: Path) -> None:
    (tmp_path / "melting.yaml").write_text(NUMERIC)
    defined = named_task("melting.yaml", tmp_path)
    assert isinstance(defined, Definition)
    assert defined.name == "melting"
    task = built(defined.name, defined.content)
    grade = task.grader(["1811"])
    assert grade("Roughly 3.\nanswer: 1815 K", "1811").scores["correct"] == 1
    assert task.about == "melting points"


def test_what_is_said_and_the_files_bytes_make_the_digest(tmp_path: Path) -> None:
    digests = set()
    for text in (NUMERIC, NUMERIC + "# a comment\n", NUMERIC.replace("0.01", "0.02")):
        (tmp_path / "t.yml").write_text(text)
        defined = named_task("t.yml", tmp_path)
        assert isinstance(defined, Definition)
        digests.add(defined.sha256)
        spec = FreezeSpec(name="x", task=defined)
        digests.add(fingerprint("freeze", 1, spec, {}))
    assert len(digests) == 6


def test_a_name_in_the_file_is_the_tasks_name(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("name: points\n" + NUMERIC)
    defined = named_task("t.yaml", tmp_path)
    assert isinstance(defined, Definition)
    assert defined.name == "points"
    assert "name" not in defined.content


def test_other_names_are_those_of_the_table(tmp_path: Path) -> None:
    assert named_task("json_record", tmp_path) == "json_record"
    assert named_task("auto", tmp_path) == "auto"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (NUMERIC + "tolerence: 3\n", "line 8: tolerence is not a key: did you mean 'tolerance'?"),
        (NUMERIC + "schema: {}\n", "line 8: schema is not a key: known: name, kind"),
        (
            NUMERIC.replace("relative", "relativ"),
            "line 4: tolerance.relativ is not a key: did you mean 'relative'?",
        ),
        (NUMERIC.replace("0.01", "-1"), "line 4: tolerance.relative: should be greater"),
        (NUMERIC.replace("(.*)", "(.*"), "line 7: answer.pattern: is no regular expression"),
        (NUMERIC.replace("regex", "letter"), "line 5: answer: take: regex and a pattern"),
        ("kind: text\nanswer: {take: json_pointer}\n", "take: json_pointer and a pointer belong"),
        ("kind: text\nanswer: {take: json_pointer, pointer: a}\n", "a JSON Pointer begins with /"),
        ("kind: json_schema\n", "line 1: schema is missing"),
        ("kind: classification\nby: likelihood\n", "by: likelihood needs labels"),
        ("kind: choices\nchoices: [one]\n", "line 2: choices"),
        ("kind: text\nname: a b\n", "line 2: name"),
        ("kind: text\n1: 2\nnormalise: [stripp]\n", "2 mistakes"),
        ("kind: text\nnull: 2\n", "None is not a key"),
    ],
)
def test_mistakes_are_told_with_their_lines(text: str, told: str) -> None:
    with pytest.raises(EvalError) as refused:
        read_definition(text, "t.yaml")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: numerik\n", "kind: numeric"),
        ("- 1\n", "does not say which kind"),
        ("", "does not say which kind"),
        ("kind: [\n", "is not YAML"),
        ("kind: text\nkind: text\n", "is not YAML"),
        ("\x00", "is not YAML"),
    ],
)
def test_what_describes_no_task_is_refused(text: str, told: str) -> None:
    with pytest.raises(EvalError) as refused:
        read_definition(text, "t.yaml")
    assert told in str(refused.value)


def test_a_description_that_makes_no_task_is_refused_when_it_is_read() -> None:
    with pytest.raises(EvalError, match="no unit that pint knows"):
        read_definition("kind: numeric\nunit: blorp\n")


def test_a_python_file_is_run_only_with_its_object_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PYTHON)
    with pytest.raises(UsageError, match=r"mine\.py:TASK"):
        named_task("mine.py", tmp_path)
    defined = named_task("mine.py:TASK", tmp_path)
    assert isinstance(defined, Definition)
    (tmp_path / "mine.py").unlink()
    task = built(defined.name, defined.content)
    assert task.name == defined.name == "says"
    assert task.grader([])("iron", "iron").scores == {"said": 1}
    for name in [name for name in sys.modules if name.startswith("nexa_task_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("TASK = 1 +", "SyntaxError"),
        ("import nexa.nowhere", "ModuleNotFoundError"),
        ("TASK = 1", "no task named TASK"),
        ("", "no task named TASK"),
    ],
)
def test_python_without_a_task_is_refused(tmp_path: Path, source: str, told: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(EvalError) as refused:
        named_task("mine.py:TASK", tmp_path)
    assert told in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the task nowhere\.yaml"):
        named_task("nowhere.yaml", tmp_path)
    (tmp_path / "odd.yaml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot read"):
        named_task("odd.yaml", tmp_path)


def test_options_reach_the_task() -> None:
    content = read_definition(
        "kind: text\nanswer: {take: json_pointer, pointer: /a}\nnormalise: [casefold]\n"
        "primary: exact_match\n"
    )
    task = built("t", content)
    assert task.primary == "exact_match"
    grade = task.grader([])
    assert grade('{"a": "IRON"}', "iron").scores["exact_match"] == 1
    lost = grade("iron", "iron")
    assert lost.scores == {"token_f1": 0, "exact_match": 0}
    assert lost.detail == {"empty": 1, "unreadable": 1}

    whole = "kind: text\nanswer: {take: regex, pattern: '[a-z]+'}\n"
    assert built("t", read_definition(whole)).grader([])("7 iron", "iron").scores["token_f1"] == 1

    content = read_definition("kind: choices\nchoices: [a, b]\nthrough: plain\nseparator: ' - '\n")
    task = built("c", content)
    assert (task.through, task.separator) == ("plain", " - ")
    assert task.grader([])(Likelihoods((-1.0, -2.0), (1, 1), (1, 1)), "a").scores["acc"] == 1
    assert "k=3" in built("r", read_definition("kind: ranking\nk: 3\n")).parser
    by_answer = built("r", read_definition("kind: ranking\nby: answer\n"))
    assert not by_answer.by_likelihood
    assert "wall_s=2" in built("p", read_definition("kind: code\nwall_s: 2.0\n")).parser


def test_every_description_in_the_document_is_one() -> None:
    text = (Path(__file__).parents[3] / "docs" / "EVAL_TASKS.md").read_text(encoding="utf-8")
    described = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    kinds = {read_definition(said)["kind"] for said in described}
    assert kinds == set(KINDS) - {"json_record"}
