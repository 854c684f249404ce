"""What the hypotheses example promises, checked on the committed files and with Nexa's own code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nexa.core.hazards.flags import red_flags
from nexa.core.overlap import memberships
from nexa.core.records import Artifact, Draft
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.data.merge import MergeSpec, merge
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.rows import Line, Row
from nexa.data.schemas import SCHEMAS
from nexa.data.schemas.types import HYPOTHESIS
from nexa.data.sources import row_of, sources_of
from nexa.eval.agreement import read_labels
from nexa.eval.rubrics.reading import load_rubric
from nexa.eval.safety import marks, safety_of
from nexa.feedback.feedback_generators.pool import SelectSpec, select
from nexa.feedback.weakness_analysis import WeaknessSpec, weakness
from nexa.lm.resolve import resolve
from nexa.lm.scripted_chat import ScriptedChat
from nexa.orchestrate.evaluate import Asked
from nexa.orchestrate.judging import Judged, Judging, judge_answers
from nexa.orchestrate.teaching import Choice
from tests.eval.judging import data_of, nonce_of, verdict
from tests.examples.modules import imported
from tests.support.project import write_project
from tests.support.scripted_endpoint import Script, ScriptedEndpoint

FOLDER = Path(__file__).parents[2] / "examples" / "hypotheses"
FILES = ("train", "eval", "pool")
MODULES = ("answers", "build", "checks", "parts")
SCHEMA = {
    "id": str,
    "context": str,
    "prompt": str,
    "target_answer": dict,
    "domain": str,
    "source": str,
    "quality_score": float,
    "group": str,
}

Told = dict[str, Any]


def read(name: str) -> list[Told]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def files() -> dict[str, list[Told]]:
    return {name: read(name) for name in FILES}


@pytest.fixture(scope="module")
def rows(files: dict[str, list[Told]]) -> list[Told]:
    return [row for name in FILES for row in files[name]]


@pytest.fixture(scope="module")
def answers() -> list[Told]:
    return read("reference_answers")


@pytest.fixture(scope="module")
def labels() -> list[Told]:
    return read("reference_scores")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The example's own modules."""
    with imported(FOLDER, MODULES) as found:
        yield found


def test_the_files_hold_the_rows_that_the_readme_counts(files: dict[str, list[Told]]) -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    for name in (*FILES, "reference_answers", "reference_scores"):
        assert f"| `{name}.jsonl` | {len(read(name))} |" in readme
    assert sum(map(len, files.values())) >= 100


def test_every_row_follows_the_schema_of_a_hypothesis(rows: list[Told]) -> None:
    from jsonschema import Draft202012Validator

    (variant,) = HYPOTHESIS.variants
    validator = Draft202012Validator(variant.json_schema)
    for row in rows:
        assert {key: type(value) for key, value in row.items()} == SCHEMA
        assert list(row["target_answer"]) == ["hypothesis", "methodology", "risks"]
        assert row["source"] == "synthetic"
        validator.validate(row)


def test_the_rows_are_read_as_records(rows: list[Told]) -> None:
    row = row_of(Line("eval.jsonl", 1, "", dict(rows[0])), SCHEMAS["record"])
    assert isinstance(row, Row)
    assert (row.row_id, row.group) == (rows[0]["id"], rows[0]["group"])
    assert json.loads(row.example.answer) == rows[0]["target_answer"]


def test_a_topic_is_in_one_file_and_every_domain_in_all(files: dict[str, list[Told]]) -> None:
    for one, other in combinations(FILES, 2):
        assert not {r["group"] for r in files[one]} & {r["group"] for r in files[other]}
    domains = {name: {row["domain"] for row in files[name]} for name in FILES}
    assert domains["train"] == domains["eval"] == domains["pool"]
    assert len(domains["train"]) == 6


def test_no_two_rows_are_near_copies_by_nexas_own_measure(rows: list[Told]) -> None:
    texts = [
        "\n".join([row["context"], row["prompt"], *row["target_answer"].values()]) for row in rows
    ]
    assert memberships(texts) == [(number,) for number in range(len(rows))]
    assert len({row["id"] for row in rows}) == len(rows)


def test_what_the_rows_propose_raises_no_red_flag(rows: list[Told]) -> None:
    for row in rows:
        assert red_flags(json.dumps(row["target_answer"], ensure_ascii=False)) == (), row["id"]


def test_every_reference_answer_is_to_an_eval_row_and_of_a_known_kind(
    files: dict[str, list[Told]], answers: list[Told], modules: dict[str, ModuleType]
) -> None:
    assert len(answers) >= 40
    assert {answer["id"] for answer in answers} <= {row["id"] for row in files["eval"]}
    domain = {row["id"]: row["domain"] for row in files["eval"]}
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for answer in answers:
        kinds[domain[answer["id"]]][answer["kind"]] += 1
    known = set(modules["answers"].KINDS)
    assert all(set(found) == known for found in kinds.values())
    readme = (FOLDER / "README.md").read_text("utf-8")
    for kind in known:
        assert f"| `{kind}` |" in readme


def test_the_unsafe_answers_and_no_others_raise_red_flags(answers: list[Told]) -> None:
    found = safety_of([{"id": answer["id"], **marks(answer["text"])} for answer in answers])
    assert found is not None
    assert found.flagged_rows == sorted(a["id"] for a in answers if a["kind"] == "unsafe")
    assert found.safety_score.mean < 1


def test_the_levels_are_a_label_file_of_two_raters(
    files: dict[str, list[Told]], answers: list[Told]
) -> None:
    rubric = load_rubric("research")
    raw = (FOLDER / "reference_scores.jsonl").read_bytes()
    labels = read_labels(raw, rubric, name="reference_scores.jsonl")
    assert len(labels) == 2 * len(answers)
    assert {label.rater for label in labels} == {"strict-rules", "lenient-rules"}
    assert {frozenset(label.levels) for label in labels} == {frozenset(rubric.names)}


def test_the_reference_model_gives_the_reference_answers(
    files: dict[str, list[Told]], answers: list[Told]
) -> None:
    table = json.loads((FOLDER / "reference_model.json").read_text("utf-8"))
    texts = {answer["id"]: answer["text"] for answer in answers}
    asked = {f"{row['context']}\n\n{row['prompt']}": texts[row["id"]] for row in files["eval"]}
    assert table == asked
    assert ScriptedChat.read(FOLDER / "reference_model.json").name.startswith("scripted:")


def with_room(model: Path, folder: Path) -> Path:
    """The tiny model with positions for rows of many tokens; its tokenizer has few words."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    return folder


def judged_by_a_script(
    answers: list[Told], modules: dict[str, ModuleType], folder: Path, model: Path
) -> Judged:
    """The reference answers, graded by a judge that says what the lenient rules say."""
    write_project(folder, model)
    made = modules["answers"]
    kinds = {answer["text"]: made.KINDS[answer["kind"]] for answer in answers}

    def lenient(messages: list[dict[str, str]]) -> str:
        told = messages[-1]["content"]
        kind = next(kind for text, kind in kinds.items() if data_of(told)["answer"] == text)
        return verdict(nonce_of(told), dict(zip(made.CRITERIA, kind.lenient, strict=True)))

    with ScriptedEndpoint(Script(function=lenient)) as served:
        return judge_answers(
            f"scripted:{FOLDER / 'reference_model.json'}",
            Judging(labels=FOLDER / "reference_scores.jsonl"),
            Choice(name="judge", base_url=served.url),
            Asked(data=FOLDER / "eval.jsonl"),
            folder,
        )


def test_answers_are_graded_and_set_beside_the_levels_as_the_readme_says(
    answers: list[Told], modules: dict[str, ModuleType], tmp_path: Path, tiny_llama: Path
) -> None:
    model = with_room(tiny_llama, tmp_path / "model")

    (graded,) = judged_by_a_script(answers, modules, tmp_path, model).graded

    assert graded.agreement is not None
    body = graded.agreement.body
    assert (body.labelled, body.raters) == (48, ["lenient-rules", "strict-rules"])
    assert {found.spearman.value for found in body.criteria.values()} != {None}
    safety = graded.scores.body.safety
    assert safety is not None
    assert safety.flagged_rows == sorted(a["id"] for a in answers if a["kind"] == "unsafe")


def test_weak_judgements_lead_to_rows_of_the_pool_and_a_new_version(
    answers: list[Told], modules: dict[str, ModuleType], tmp_path: Path, tiny_llama: Path
) -> None:
    folder = with_room(tiny_llama, tmp_path / "model")
    (graded,) = judged_by_a_script(answers, modules, tmp_path, folder).graded
    store, model = Tiers.of(tmp_path).store, resolve(str(folder))
    suite = store.by_digest(graded.scores.body.suite_digest)
    asked = WeaknessSpec("weak", ("risk_awareness < 4.5",), by=("length", "cluster"))
    judged = {"scores": graded.scores, "judgements": graded.judgements}
    weak = seal(store, weakness(asked, suite=suite, **judged, store=store), suite=suite)

    def prepared(name: str) -> Artifact[Any]:
        spec = PrepareSpec(
            f"hypotheses-{name}", sources_of(FOLDER / f"{name}.jsonl"), model, only_split="train"
        )
        return seal(store, prepare(spec, suite=suite, store=store), suite=suite)

    before, pool = prepared("train"), prepared("pool")
    found = select(SelectSpec("rows", rows=8), weakness=weak, pool=pool, store=store)
    candidates = seal(store, found, pool=pool)
    after = merge(MergeSpec(model), dataset=before, candidates=candidates, suite=suite, store=store)

    assert [one.by for one in weak.body.slices if one.weak]
    assert before.body.splits["train"].rows == 48
    assert after.body.splits["train"].rows == 56


def seal(store: Store, draft: Draft[Any], **inputs: Artifact[Any]) -> Artifact[Any]:
    digests = {role: artifact.digest for role, artifact in inputs.items()}
    step = {"name": "test", "version": 1}
    return store.seal(draft, step=step, fingerprint=draft.name, inputs=digests)


def test_each_line_of_levels_says_where_it_comes_from(labels: list[Told]) -> None:
    assert {line["origin"] for line in labels} == {
        "by construction, not by a person: see the README"
    }


def test_the_levels_use_the_whole_scale_and_the_raters_differ(labels: list[Told]) -> None:
    by_rater: dict[str, list[Told]] = defaultdict(list)
    for line in labels:
        by_rater[line["rater"]].append(line)
    strict, lenient = by_rater["strict-rules"], by_rater["lenient-rules"]
    for criterion in (
        *("falsifiability", "clarity", "experimental_design", "risk_awareness"),
        "safety_compliance",
    ):
        given = {line[criterion] for line in labels}
        assert {1, 5} <= given <= set(range(1, 6))
        pairs = [(a[criterion], b[criterion]) for a, b in zip(strict, lenient, strict=True)]
        assert all(low <= high for low, high in pairs)
        assert any(low < high for low, high in pairs)


def test_the_files_are_what_the_build_makes() -> None:
    run = subprocess.run(
        [sys.executable, "-B", str(FOLDER / "build.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("as built") == 6


def test_all_of_it_is_small_enough_for_git() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.*")) < 400_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group": "from eval"}, "train and eval share topics"),
        ({"id": "from row 2"}, "an id comes twice"),
        ({"target_answer": "a sentence"}, "the answer is no object"),
        ({"target_answer": {"hypothesis": "x"}}, "the answer has the keys"),
        (
            {"target_answer": {"hypothesis": "x", "methodology": "", "risks": "y"}},
            "an empty part",
        ),
        ({"context": "Mix bleach with ammonia."}, "a red flag"),
        ({"context": "It ran at -400 °C."}, "an unphysical quantity"),
        ({"context": "from row 2", "target_answer": "from row 2"}, "is alike to"),
        ({"domain": "poetry"}, "a domain is missing"),
        ({"extra": 1}, "keys"),
    ],
)
def test_the_builds_own_checks_refuse_a_broken_row(
    modules: dict[str, ModuleType], files: dict[str, list[Told]], change: Told, message: str
) -> None:
    broken = deepcopy(files)
    row, second = broken["train"][0], broken["train"][1]
    for key, value in change.items():
        if value == "from row 2":
            row[key] = second[key]
        else:
            row[key] = broken["eval"][0]["group"] if value == "from eval" else value
    with pytest.raises(modules["checks"].BrokenExample, match=message):
        modules["checks"].check_rows(broken)


def test_the_builds_own_checks_refuse_rows_that_give_an_eval_row_away(
    modules: dict[str, ModuleType], files: dict[str, list[Told]]
) -> None:
    checks = modules["checks"]
    broken = deepcopy(files)
    held = broken["eval"][0]
    broken["train"][0]["context"] = f"{broken['train'][0]['context']} {held['context']}"
    with pytest.raises(checks.BrokenExample, match=r"shares words with an eval row|gives away"):
        checks.check_rows(broken)
    broken["train"][0]["context"] = held["context"]
    broken["train"][0]["prompt"] = held["prompt"]
    with pytest.raises(checks.BrokenExample, match=r"gives away|is alike to"):
        checks.check_rows(broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda answers, labels: answers.clear(), "0 answers"),
        (lambda answers, labels: answers[0].update(id="nowhere"), "an answer to no eval row"),
        (lambda answers, labels: answers[0].update(text="Mix bleach with ammonia."), "red flags"),
        (lambda answers, labels: labels.pop(), "not two raters"),
        (lambda answers, labels: labels[0].update(clarity=9), "levels"),
        (lambda answers, labels: labels.__delitem__(slice(0, 2)), "answers without levels"),
    ],
)
def test_the_builds_own_checks_refuse_broken_answers_and_levels(
    modules: dict[str, ModuleType],
    files: dict[str, list[Told]],
    answers: list[Told],
    labels: list[Told],
    change: Any,
    message: str,
) -> None:
    answers, labels = deepcopy(answers), deepcopy(labels)
    safe = [answer for answer in answers if answer["kind"] != "unsafe"]
    answers[0], answers[answers.index(safe[0])] = safe[0], answers[0]
    change(answers, labels)
    with pytest.raises(modules["checks"].BrokenExample, match=message):
        modules["checks"].check_answers(files["eval"], answers, labels)


def test_the_build_says_what_is_wrong(
    modules: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = modules["build"]
    with pytest.raises(modules["checks"].BrokenExample, match=r"is not what build\.py makes"):
        build.compare(tmp_path / "train.jsonl", "x")
    with pytest.raises(modules["checks"].BrokenExample, match="has 1 topics"):
        build.split(modules["parts"].Domain("small", (modules["build"].MATERIALS.topics[0],)))
    assert build.main(["--check"]) == 0
    assert "train.jsonl: as built" in capsys.readouterr().out
