"""The leaderboard of real runs: a training, evaluations of other models, an API, two projects."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa.core.errors import EvalError, IntegrityError, UsageError
from nexa.core.identity import sha256_bytes
from nexa.core.scoring import read_rows
from nexa.core.tiers import Tiers
from nexa.eval.rubrics.reading import DEFAULT, FOLDER
from nexa.lm.client import Price
from nexa.orchestrate.evaluate import Asked, Terms, evaluate_models
from nexa.orchestrate.judging import Judging, judge_answers
from nexa.orchestrate.leaderboards import Found, Wanted, leaderboard, write_page
from nexa.orchestrate.teaching import Choice
from nexa.ui.leaderboard import FIRST_VERSION_FIELDS, Entry, append, read, to_parquet
from nexa.ui.leaderboard_rank import rank
from tests.support.judge import judge
from tests.support.project import Finished, finish, rows, train, write_config, write_rows
from tests.support.scripted_endpoint import Fault, Script, ScriptedEndpoint
from tests.support.teacher import answered
from tests.support.tiny import write_tiny_model

PRICE = Price(1.0, 2.0, source="a test")


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(Script(function=answered)) as served:
        yield served


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another tiny model, of the same kind."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "stranger", seed=7)


def terms(endpoint: ScriptedEndpoint, **changes: Any) -> Terms:
    return Terms(**{"base_url": endpoint.url, "price": PRICE, **changes})


def only(found: Found) -> list[Entry]:
    [view] = found.views
    return [placed.entry for placed in view.board.ranked]


def board_of(project: Finished) -> Path:
    [path] = Path(project.tiers.durable_place("evals/reports")).glob("*.parquet")
    return path


# -- what runs enter -----------------------------------------------------------------------------


def test_a_training_enters_base_and_tuned_with_all_that_was_measured(project: Finished) -> None:
    entries = only(leaderboard(Wanted(), project.root))

    assert {entry.role for entry in entries} == {"base", "tuned"}
    for entry in entries:
        assert entry.latency_s_p50 is not None
        assert entry.latency_s_p95 is not None
        assert entry.latency_s_p50 <= entry.latency_s_p95
        assert (entry.safety_score, entry.red_flag_count, entry.missing) == (1.0, 0, 0)
        assert entry.cost_usd_per_1000_prompts is None
        assert "infra.cost_per_hour_usd" in str(entry.cost_source)
    tuned = next(entry for entry in entries if entry.role == "tuned")
    assert (tuned.contaminated_rows, tuned.verdict) == (0, project.manifest.verdict)
    assert tuned.run_id == project.manifest.run_id


def test_a_machine_with_a_price_is_metered(tmp_path: Path, tiny_llama: Path) -> None:
    made = finish(tmp_path, tiny_llama, infra={"cost_per_hour_usd": 36.0})

    entries = only(leaderboard(Wanted(), made.root))

    assert all((entry.cost_usd_per_1000_prompts or 0) > 0 for entry in entries)
    assert {entry.cost_source for entry in entries} == {"config.yaml, infra.cost_per_hour_usd"}
    [view] = leaderboard(Wanted(), made.root).views
    assert view.fronts[0].unknown == ()


def test_teacher_and_baselines_stand_beside_the_tuned_model_with_their_cost(
    project: Finished, endpoint: ScriptedEndpoint, other_model: Path
) -> None:
    asked = Asked(suite="elements")
    local = ["checkpoint/tiny-llama-elements", str(other_model)]
    evaluate_models([*local, "wise@" + endpoint.url], asked, project.root, terms=Terms(price=PRICE))

    found = leaderboard(Wanted(), project.root)

    entries = {entry.role: entry for entry in only(found)}
    assert set(entries) == {"tuned", "base", "teacher", "baseline"}
    assert only(found)[0] == entries["teacher"]
    assert entries["teacher"].mean == 1.0
    assert entries["teacher"].cost_source == "a test"
    assert (entries["teacher"].cost_usd_per_1000_prompts or 0) > 0
    assert entries["tuned"].verdict == project.manifest.verdict  # its training run's
    assert entries["baseline"].contaminated_rows is None
    [view] = found.views
    cost, latency = view.fronts
    assert [entry.role for entry in cost.best] == ["teacher"]
    assert len(cost.unknown) == 3
    assert latency.unknown == ()


def test_an_api_without_a_price_costs_nobody_knows_what(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    asked = Asked(suite="elements")
    evaluate_models(["wise@" + endpoint.url], asked, project.root)

    [view] = leaderboard(Wanted(), project.root).views
    [teacher] = [entry for entry in view.board.entries if entry.role == "teacher"]
    assert teacher.cost_usd_per_1000_prompts is None
    assert "--price" in str(teacher.cost_source)
    assert teacher in view.fronts[0].unknown


def test_answers_that_never_came_are_missing_and_have_bounds(project: Finished) -> None:
    refused = [Fault("status", when="zinc", status=400)]
    with ScriptedEndpoint(Script(function=answered, faults=refused)) as endpoint:
        evaluate_models(["wise@" + endpoint.url], Asked(suite="elements"), project.root)

    [view] = leaderboard(Wanted(samples=8), project.root).views
    [teacher] = [entry for entry in view.board.entries if entry.role == "teacher"]
    assert teacher.missing == 1
    assert teacher.mean == 1.0
    assert (teacher.bound_low, teacher.bound_high) == (0.875, 1.0)
    blank = [s for s in view.samples[teacher.key] if s.answer is None]
    assert len(blank) == 1
    assert blank[0].score is None


def test_a_model_that_saw_rows_of_another_suite_is_found_out(project: Finished) -> None:
    seen = [*rows(range(4)), *rows(range(300, 304))]
    write_rows(project.root / "leaky.jsonl", seen)
    asked = Asked(data=project.root / "leaky.jsonl", max_new_tokens=8)
    evaluate_models(["checkpoint/tiny-llama-elements"], asked, project.root)

    [view] = leaderboard(Wanted(suite="leaky"), project.root).views

    assert view.board.ranked == ()
    [entry] = view.board.apart
    assert entry.role == "tuned"
    assert entry.contaminated_rows == 4
    assert len(entry.contaminated_ids or ()) == 4
    assert entry.clean_mean is not None
    assert entry.contaminated_mean is not None
    assert view.fronts[0].best == view.fronts[0].unknown == ()


def test_the_base_and_the_teacher_of_a_student_are_known_as_such(
    project: Finished, tiny_llama: Path, other_model: Path
) -> None:
    newest = max(project.tiers.manifests.glob("*.json"))
    taught = json.loads(newest.read_text()) | {"run_id": "2020-01-01-000000-aaaa"}
    text = json.dumps(taught | {"teacher_model": "stranger"})
    (project.tiers.manifests / "2020-01-01-000000-aaaa.json").write_text(text)
    (project.tiers.manifests / "2020-01-02-000000-aaaa.json").write_text("broken")
    write_rows(project.root / "more.jsonl", rows(range(200, 204)))
    asked = Asked(data=project.root / "more.jsonl", max_new_tokens=8)

    evaluate_models([str(tiny_llama), str(other_model)], asked, project.root)

    entries = only(leaderboard(Wanted(suite="more@v1"), project.root))
    assert {entry.model: entry.role for entry in entries} == {
        "tiny-llama": "base",
        "stranger": "teacher",
    }


# -- which boards --------------------------------------------------------------------------------


def test_two_seals_are_two_boards_and_the_note_says_in_what_they_differ(
    project: Finished, tiny_llama: Path
) -> None:
    asked = Asked(suite="elements", engine="transformers")
    evaluate_models([str(tiny_llama)], asked, project.root)

    found = leaderboard(Wanted(), project.root)

    assert len(found.views) == 2
    [note] = found.notes
    assert note.startswith("elements@v1 has 2 boards by exact, one a seal: ")
    assert "decoding, engine (" in note
    one = found.views[0].board.seal
    assert len(leaderboard(Wanted(seal=one[:12]), project.root).views) == 1
    assert len(leaderboard(Wanted(every_metric=True, seal=one), project.root).views) > 2


def test_a_model_scored_in_another_way_is_not_compared_and_the_part_is_named(
    project: Finished, other_model: Path
) -> None:
    asked = Asked(suite="elements", engine="transformers")
    evaluate_models([str(other_model)], asked, project.root)
    trained = read(board_of(project))[0]
    seal = next(e.seal for e in read(board_of(project)) if e.role == "tuned")

    with pytest.raises(EvalError, match="stranger was not scored as") as refused:
        leaderboard(Wanted(seal=seal, against="stranger"), project.root)
    assert "decoding, engine" in str(refused.value.found)
    assert trained.suite == "elements@v1"


def test_each_model_minus_one_of_them_on_the_same_rows(project: Finished) -> None:
    [view] = leaderboard(Wanted(against="tiny-llama"), project.root).views

    [minus] = view.against.values()
    assert view.against_model == "tiny-llama"
    assert minus.low <= minus.mean <= minus.high
    assert minus.n == 8


def test_boards_by_another_metric_or_by_each(project: Finished) -> None:
    [view] = leaderboard(Wanted(metric="valid_json"), project.root).views
    assert view.board.metric == "valid_json"

    every = leaderboard(Wanted(every_metric=True), project.root)
    named = [view.board.metric for view in every.views]
    assert len(named) == len(set(named)) > 2
    assert named[0] == "exact"


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        (Wanted(suite="element"), "no board has --suite element"),
        (Wanted(metric="exakt"), "--metric exact"),
        (Wanted(seal="zz"), "no board has --seal zz"),
        (Wanted(against="tiny-lama"), "--against tiny-llama"),
        (Wanted(("no-such-place",)), "there is no folder and no file no-such-place"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest(
    project: Finished, wanted: Wanted, complaint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        leaderboard(wanted, project.root)
    assert complaint in str(refused.value)


def test_a_metric_that_this_suite_has_not_is_said(project: Finished, other_model: Path) -> None:
    stranger = replace(read(board_of(project))[0], suite="zoo@v1", metric="f7", scores_digest=None)
    append(board_of(project), [stranger])

    with pytest.raises(UsageError, match="no score on elements is of f7"):
        leaderboard(Wanted(suite="elements", metric="f7"), project.root)


def test_where_nothing_was_scored_the_commands_that_score_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nexa train, nexa eval or nexa judge"):
        leaderboard(Wanted(), tmp_path)


# -- judges --------------------------------------------------------------------------------------


@pytest.fixture
def judges() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(Script(function=judge)) as served:
        yield served


def judged(
    project: Finished, judges: ScriptedEndpoint, rubric: str | Path, labels: Path | None = None
) -> None:
    """Base and tuned of the training, graded by a scripted judge."""
    choice = Choice("wise", base_url=judges.url, price=PRICE)
    how = Judging(rubric=str(rubric), labels=labels)
    judge_answers(project.manifest.run_id, how, choice, Asked(), project.root)


def test_one_changed_comma_of_a_rubric_makes_another_board_and_is_named(
    project: Finished, judges: ScriptedEndpoint, tmp_path: Path
) -> None:
    text = (FOLDER / f"{DEFAULT}.yaml").read_text()
    assert text.count("at first reading, without guessing?") == 1
    other = tmp_path / "research.yaml"
    other.write_text(text.replace("at first reading, without", "at first reading without"))

    judged(project, judges, DEFAULT)
    [first] = leaderboard(Wanted(metric="overall"), project.root).views
    judged(project, judges, other)
    found = leaderboard(Wanted(metric="overall"), project.root)

    assert len(found.views) == 2
    assert {view.board.metric for view in leaderboard(Wanted(), project.root).views} == {
        "exact",
        "overall",
    }
    [note] = found.notes
    differ = note.rpartition(": ")[2]
    assert differ.startswith("rubric (research ")
    assert ";" not in differ  # nothing else differs
    with pytest.raises(EvalError, match=r"cannot be ranked together\n  found .* rubric \("):
        rank(
            [view.board.entries[0] for view in found.views],
            {view.board.seal: view.parts for view in found.views},
        )
    for entry in first.board.entries:
        assert entry.judge_model_id == "wise"
        assert len(entry.rubric_sha256 or "") == len(entry.judge_prompt_hash or "") == 64
        assert entry.human_agreement is None
    tuned = next(entry for entry in first.board.entries if entry.role == "tuned")
    assert tuned.verdict in ("improved", "no evidence", "worse")
    assert (tuned.base_model, tuned.contaminated_rows) == ("tiny-llama", 0)


def test_agreement_with_people_stands_beside_a_judged_score(
    project: Finished, judges: ScriptedEndpoint, tmp_path: Path
) -> None:
    store, made = project.tiers.store, project.manifest.outputs
    graded = {}
    for side in ("base", "tuned"):
        path = store.path(store.by_digest(made[f"{side}_answers"]), "answers.jsonl")
        for i, row in enumerate(read_rows(path.read_bytes())):
            answer = sha256_bytes(row["text"].encode())
            label = {"id": row["id"], "answer_sha256": answer, "clarity": 1 + i % 5}
            graded[row["id"], answer] = label

    labels = write_rows(tmp_path / "labels.jsonl", list(graded.values()))
    judged(project, judges, DEFAULT, labels)

    [view] = leaderboard(Wanted(metric="clarity"), project.root).views
    for entry in view.board.entries:
        assert entry.human_agreement is not None
        assert str(entry.human_agreement_of).startswith("Krippendorff's alpha, 8 rows")


# -- several places ------------------------------------------------------------------------------


def test_boards_of_two_projects_are_put_together(
    project: Finished, tmp_path: Path, tiny_llama: Path
) -> None:
    copy = project.copy(tmp_path / "second")
    train(write_config(copy.root, tiny_llama, training={"seed": 3}))

    found = leaderboard(Wanted((str(project.root), str(copy.root))), tmp_path)

    [view] = found.views
    assert len(view.board.entries) == 3
    assert all(p.tied_by in ("", "paired difference") for p in view.board.ranked)
    assert sorted(e.role for e in view.board.entries) == ["base", "tuned", "tuned"]
    again = leaderboard(Wanted((str(copy.root), str(project.root))), tmp_path)
    assert len(again.views[0].board.entries) == 3


def test_a_file_a_durable_folder_and_an_address_are_places_too(
    project: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = board_of(project)
    monkeypatch.chdir(tmp_path)
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    shutil.copy(path, alone)
    tiers = replace(Tiers.of(tmp_path), durable="memory://nexa-test-boards")
    tiers.write(path.read_bytes(), f"evals/reports/{path.name}")

    places = (str(path), project.tiers.durable, str(alone), "memory://nexa-test-boards")
    for place in places:
        [view] = leaderboard(Wanted((place,)), tmp_path).views
        assert len(view.board.entries) == 2
        assert view.parts == {}  # no records here
        assert {p.tied_by for p in view.board.ranked} == {"", "overlap of intervals"}
        assert view.samples == view.domains == {}
    merged = leaderboard(Wanted(places), tmp_path)
    assert len(only(merged)) == 2


def test_boards_of_the_first_version_are_read_their_suites_by_project(
    project: Finished, tmp_path: Path
) -> None:
    names = [field.name for field in fields(Entry)[:FIRST_VERSION_FIELDS]]
    old = [
        {name: value for name, value in asdict(entry).items() if name in names}
        for entry in read(board_of(project))
    ]
    old.append(old[0] | {"suite": "zoo@v1", "model": "nobody-knows"})
    kinds = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
    columns = [(f.name, kinds.get(str(f.type), pa.string())) for f in fields(Entry)]
    buffer = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(old, schema=pa.schema(columns[:FIRST_VERSION_FIELDS])), buffer
    )
    board_of(project).write_bytes(buffer.getvalue())
    lone = tmp_path / "lone.parquet"
    lone.write_bytes(buffer.getvalue())

    view, zoo = leaderboard(Wanted(), project.root).views
    assert view.board.prompts_sha256 is not None
    assert zoo.board.prompts_sha256 is None
    found = leaderboard(Wanted((str(project.root), str(lone))), project.root)
    assert [view.board.suite for view in found.views] == [
        "elements@v1",
        f"elements@v1 in {lone}",
        f"zoo@v1 in {project.root}",
        f"zoo@v1 in {lone}",
    ]


def test_two_boards_without_records_say_that_nobody_can_tell_the_difference(
    project: Finished, tmp_path: Path
) -> None:
    board = tmp_path / "board.parquet"
    entry = replace(read(board_of(project))[0], scores_digest="../../etc", metric="exact")
    other = replace(entry, seal="0" * 64)
    board.write_bytes(to_parquet([replace(entry, primary=True), replace(other, primary=True)]))

    found = leaderboard(Wanted((str(board),)), tmp_path)

    assert len(found.views) == 2
    assert "the records that would say in what are not here" in found.notes[0]


def test_a_row_that_says_what_its_record_does_not_is_refused(project: Finished) -> None:
    path = board_of(project)
    entries = read(path)
    better = replace(entries[0], mean=entries[0].mean + 0.01, high=1.0)
    append(path, [better])
    with pytest.raises(IntegrityError, match="is not what scores/"):
        leaderboard(Wanted(), project.root)

    append(path, [replace(entries[0], metric="made_up"), entries[0]])
    with pytest.raises(IntegrityError, match="none in the record"):
        leaderboard(Wanted(), project.root)


def test_a_row_that_names_a_record_of_another_kind_is_refused(project: Finished) -> None:
    suite = project.tiers.store.get("suite", "elements")
    path = board_of(project)
    append(path, [replace(read(path)[0], scores_digest=suite.digest)])

    with pytest.raises(IntegrityError, match="suite/elements@v1 is no scores"):
        leaderboard(Wanted(), project.root)


# -- the page ------------------------------------------------------------------------------------


def test_the_page_has_answers_of_each_model_domains_and_the_seal_s_parts(
    project: Finished, tmp_path: Path
) -> None:
    found = leaderboard(Wanted(samples=2, seed=1), project.root)

    write_page(tmp_path / "board.html", found)

    html = (tmp_path / "board.html").read_text()
    [view] = found.views
    assert [len(samples) for samples in view.samples.values()] == [2, 2]
    assert "json_record" in html
    assert "gases" in html
    assert html.count('class="sample"') == 4
    again = leaderboard(Wanted(samples=2, seed=1), project.root)
    write_page(tmp_path / "again.html", again)
    assert (tmp_path / "again.html").read_bytes() == html.encode()
