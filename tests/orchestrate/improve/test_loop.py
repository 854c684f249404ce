"""Round after round on the tiny model: what is kept, what is rolled back, and when it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa.core.errors import BudgetSpent, ConfigError, LeakError, TrainingError, UsageError
from nexa.core.events import Event, listening
from nexa.core.lineage import verify as verify_chain
from nexa.core.lineage import walk
from nexa.core.manifest import ManifestFile, RunManifest
from nexa.core.scoring import read_rows
from nexa.core.store import write_atomic
from nexa.data import registry
from nexa.lm.client import Price
from nexa.orchestrate.improve.asked import Options
from nexa.orchestrate.improve.book import held
from nexa.orchestrate.improve.feedback import feedback
from nexa.orchestrate.improve.loop import BUDGET, IN_VAIN, NOTHING_WEAK, ROUNDS_DONE
from nexa.orchestrate.improve.preview import preview_improvement
from nexa.orchestrate.models import run_of
from nexa.orchestrate.replay import replay
from nexa.orchestrate.resume import resume
from nexa.orchestrate.sealed_data import current
from nexa.orchestrate.verifying.verify import verify
from tests.orchestrate.improve.conftest import Done, Project
from tests.support.improving import ANSWERS, WEAK, rows, teach, write_improvable
from tests.support.project import notes, train, write_rows
from tests.support.scripted_endpoint import Script, ScriptedEndpoint


def entries(project: Project) -> dict[str, Any]:
    [versions] = registry.read(project.root / "dataset_registry.yaml").values()
    return versions


def boards(project: Project) -> set[str]:
    """Who is on the leaderboards."""
    folder = project.root / ".nexa" / "durable" / "evals" / "reports"
    tables = [pq.read_table(path).to_pylist() for path in folder.glob("leaderboard_*.parquet")]
    return {row["run_id"] for table in tables for row in table}


def output_run(project: Project) -> str:
    told: dict[str, str] = json.loads((project.root / "output" / "final_model.json").read_text())
    return told["run_id"]


# -- a round that helps --------------------------------------------------------------------------


def test_the_weak_domain_rises_and_the_others_stay(improved: Done) -> None:
    [first] = improved.told.rounds
    assert (first.accepted, first.dataset_before, first.dataset_after) == (
        *(True, "dataset/words@v1", "dataset/words@v2"),
    )
    weak, *others = first.slices
    assert (weak.name, weak.weak, weak.before) == (f"domain={WEAK}", True, 0.0)
    assert weak.low > 0
    assert weak.after is not None
    assert weak.after > 0.6
    assert [one.weak for one in others] == [False, False, False]
    assert "all=rows" in {one.name for one in others}
    assert first.added == 40


def test_it_ends_where_nothing_is_weak_any_more(improved: Done) -> None:
    assert (improved.told.ended, improved.told.accepted) == (NOTHING_WEAK, 1)
    assert improved.told.exit_code == 0
    assert not improved.told.weak


def test_as_many_rows_at_random_bring_less(improved: Done) -> None:
    [first] = improved.told.rounds
    assert first.beside[0].name == f"domain={WEAK}"
    assert first.beside[0].low > 0
    assert first.control[0].difference < first.slices[0].difference
    assert entries(improved.project)["v3"]["state"] == "control"


def test_the_output_and_the_board_hold_the_accepted_model(improved: Done) -> None:
    own, first, last = improved.project.runs()
    assert [own.run_type, first.run_type, last.run_type] == ["train", "improve", "improve"]
    assert improved.told.run_id == first.run_id == output_run(improved.project)
    assert boards(improved.project) == {own.run_id, first.run_id}
    assert run_of("latest", improved.project.tiers) == first.run_id


def test_the_lineage_leads_from_the_run_over_v2_to_v1(improved: Done) -> None:
    store = improved.project.tiers.store
    _, first, _ = improved.project.runs()
    report = store.by_digest(first.outputs["report"])
    labels = [node.label for node in walk(report, store)]
    v2, v1 = labels.index("dataset/words@v2"), labels.index("dataset/words@v1")
    assert v2 < v1
    assert any(label.startswith("weakness/") for label in labels[v2:])
    assert verify_chain(report, store) == []
    assert verify_chain(store.by_digest(first.outputs["decision"]), store) == []
    assert first.inputs["before"] == improved.project.runs()[0].outputs["export"]


def test_the_registry_says_which_version_stands(improved: Done) -> None:
    versions = entries(improved.project)
    assert versions["v1"].get("state") is None
    assert (versions["v2"]["state"], versions["v2"]["parent"]) == ("accepted", "words@v1")
    assert versions["v2"]["reason"].startswith("kept: ")
    assert current("words", improved.project.tiers).version == "v2"


def test_the_two_suites_share_no_row_and_candidates_are_clean_of_both(improved: Done) -> None:
    store = improved.project.tiers.store
    outputs = improved.project.runs()[1].outputs
    parts = [store.by_digest(outputs[role]) for role in ("analysis_suite", "suite")]
    ids = [
        {row["id"] for row in read_rows(store.path(part, "prompts.jsonl").read_bytes())}
        for part in parts
    ]
    assert ids[0].isdisjoint(ids[1])
    assert [part.body.part for part in parts] == ["analysis", "acceptance"]
    whole = store.by_digest(outputs["held_out"])
    assert whole.body.rows == len(ids[0]) + len(ids[1])
    assert store.by_digest(outputs["dataset"]).inputs["suite"] == whole.digest


def test_a_round_s_run_verifies_and_can_be_replayed(improved: Done, tmp_path: Path) -> None:
    run_id = improved.told.run_id
    assert verify(run_id, improved.project.root).subject == f"run {run_id}"
    assert verify(None, improved.project.root)
    copied = improved.project.copy(tmp_path / "words")
    assert replay(run_id, copied.root).equal


def test_the_same_command_once_more_looks_again_and_trains_nothing(
    improved: Done, tmp_path: Path
) -> None:
    project = improved.project.copy(tmp_path / "words")
    told = project.improve(rounds=2, control=True)
    assert (told.rounds, told.ended, told.run_id) == ([], NOTHING_WEAK, improved.told.run_id)
    assert told.dataset == "dataset/words@v2"
    assert "weakness" in project.runs()[-1].reused


# -- rounds that do not help ---------------------------------------------------------------------


def test_a_poisoned_pool_is_rolled_back(trained: Project) -> None:
    wrong = {**ANSWERS, WEAK: "heavy"}
    write_rows(trained.root / "pool.jsonl", rows(WEAK, range(200, 240), wrong))
    before = output_run(trained), boards(trained)
    told = trained.improve(rounds=2)
    [first] = told.rounds
    assert not first.accepted
    assert "no evidence that a weak slice rises" in first.reason
    assert (told.exit_code, told.dataset) == (0, "dataset/words@v1")
    assert (output_run(trained), boards(trained)) == before
    entry = entries(trained)["v2"]
    assert (entry["state"], entry["reason"]) == ("rolled back", first.reason)
    assert current("words", trained.tiers).version == "v1"
    assert run_of("latest", trained.tiers) == before[0]
    assert trained.runs()[1].verdict == "rolled back: no evidence"


def test_a_generator_that_echoes_held_out_rows_is_caught(trained: Project) -> None:
    write_rows(trained.root / "pool.jsonl", rows(WEAK, range(100, 130)))
    told = trained.improve(rounds=1)
    [first] = told.rounds
    assert not first.accepted
    assert "echoed 30 evaluation rows" in first.reason
    assert first.dataset_after is None
    assert told.ended == ROUNDS_DONE
    assert "v2" not in entries(trained)


def test_an_echo_among_good_rows_is_not_accepted_either(trained: Project) -> None:
    mixed = [*rows(WEAK, range(100, 110)), *rows(WEAK, range(200, 240))]
    write_rows(trained.root / "pool.jsonl", mixed)
    [first] = trained.improve(rounds=1, rows=50).rounds
    assert not first.accepted
    assert "echoed 10 evaluation rows" in first.reason
    assert first.added == 40
    assert first.slices[0].low > 0


def test_a_pool_without_rows_for_it_ends_the_pass(trained: Project) -> None:
    write_rows(trained.root / "pool.jsonl", rows("metals", range(200, 210)))
    told = trained.improve(rounds=2)
    assert told.rounds == []
    assert told.ended.startswith("there are no candidates: ")
    assert (told.weak, told.exit_code) == (True, 0)


def test_a_training_that_a_guard_stops_is_rolled_back_and_others_are_tried(
    trained: Project,
) -> None:
    def guard(event: Event) -> None:
        if event["kind"] == "step.start" and event["step"] == "finetune":
            raise TrainingError("the loss is not a number")

    with listening(guard):
        told = trained.improve(rounds=3, rows=8)
    assert [one.accepted for one in told.rounds] == [False, False]
    assert told.ended == IN_VAIN
    assert "the loss is not a number" in told.rounds[0].reason
    assert told.rounds[0].slices == ()
    states = [entry.get("state") for entry in entries(trained).values()]
    assert states == [None, "rolled back", "rolled back"]
    store = trained.tiers.store
    tried = [store.by_digest(run.outputs["candidates"]) for run in trained.runs()[1:]]
    contents = [set(store.path(one, "lineage.jsonl").read_text().splitlines()) for one in tried]
    assert contents[0].isdisjoint(contents[1])
    assert [run.status for run in trained.runs()] == ["done", "failed", "failed"]


def test_new_rows_that_the_training_never_comes_to_are_no_round(
    tmp_path: Path, tiny_llama: Path
) -> None:
    changes = {"max_steps": 1, "checkpoints": {"every": 1}}
    write_improvable(tmp_path, tiny_llama, training=changes, data={"batch_size": 1})
    told = Project(tmp_path).improve(rounds=1, rows=1)
    if told.rounds:  # the one row was the first of all: then there is a round
        assert not told.rounds[0].accepted
    else:
        assert "made the same model" in told.ended
        [entry] = [e for e in entries(Project(tmp_path)).values() if e.get("state")]
        assert entry["state"] == "rolled back"


def few(folder: Path, model: Path, **changes: Any) -> Project:
    """A project whose model learns next to nothing: two steps."""
    folder.mkdir()
    write_improvable(folder, model, **{"training": {"max_steps": 2}, **changes})
    return Project(folder)


def test_a_control_that_would_be_the_same_rows_is_none(tmp_path: Path, tiny_llama: Path) -> None:
    project = few(tmp_path / "words", tiny_llama)
    write_rows(project.root / "pool.jsonl", rows(WEAK, range(200, 230)))
    events: list[Event] = []
    with listening(events.append):
        told = project.improve(rounds=1, control=True)
    assert told.rounds[0].control == ()
    assert "there is no control: rows at random give no other dataset" in notes(events)


def test_a_teacher_writes_rows_within_the_budget(tmp_path: Path, tiny_llama: Path) -> None:
    project = few(tmp_path / "words", tiny_llama)
    known = project.root / "train.jsonl"
    pool = project.root / "pool.jsonl"
    write_rows(pool, rows(WEAK, range(3)))
    known.write_text(known.read_text() + pool.read_text())
    events: list[Event] = []
    with ScriptedEndpoint(Script(function=teach)) as served, listening(events.append):
        asked = {
            **{"generator": "teacher", "teacher": "wise", "base_url": served.url},
            **{"price": Price(1.0, 2.0, source="a test"), "rows": 16, "rounds": 1},
        }
        poor = project.improve(**asked, budget_usd=1e-5)
        assert (poor.ended, poor.rounds, served.billed) == (BUDGET, [], [])
        assert "what wise may answer" in poor.detail
        told = project.improve(**asked, budget_usd=5.0, control=True)
        project.improve(**asked)
    [first] = told.rounds
    assert first.added == 16
    assert 0 < told.spent_usd < 5
    assert first.spent_usd == pytest.approx(told.spent_usd)
    # All of the pool is trained on already: there is nothing to draw a control from.
    assert any(text.startswith("there is no control: ") for text in notes(events))


def test_a_teacher_that_has_nothing_to_begin_from_ends_the_pass(trained: Project) -> None:
    asked = Options(generator="teacher", teacher="wise", base_url="http://127.0.0.1:9/v1")
    told = trained.improve(**vars(asked))
    assert "no training row of a weak slice" in told.ended
    planned = preview_improvement(trained.config, asked)
    assert planned["teacher"].startswith("wise has nothing to be asked: ")


def test_a_teacher_that_writes_no_row_ends_the_pass(tmp_path: Path, tiny_llama: Path) -> None:
    project = few(tmp_path / "words", tiny_llama)
    refusing = ScriptedEndpoint(Script(answers=[{"answer": "I would rather not."}]))
    with refusing as served:
        told = project.improve(generator="teacher", teacher="wise", base_url=served.url)
    assert told.ended.startswith("there are no candidates: wise gave no row")


def test_a_run_that_was_killed_is_closed_first(tmp_path: Path, tiny_llama: Path) -> None:
    project = few(tmp_path / "words", tiny_llama)
    run_id = "2026-01-01-000000-dead"
    ManifestFile.open(project.tiers.manifests, RunManifest(run_id=run_id, run_type="improve"))
    note = {"pid": 1, "boot_id": "another", "started": 0.0, "config": "config.yaml"}
    write_atomic(project.root / ".nexa" / "runs" / f"{run_id}.json", json.dumps(note).encode())
    events: list[Event] = []
    with listening(events.append):
        project.improve(rounds=1, rules=("exact_match < 0.001",))
    assert f"run {run_id} was killed; its manifest now says so" in notes(events)
    assert project.runs()[0].status == "interrupted"


@pytest.mark.parametrize("eval_path", [None, "./eval.jsonl"])
def test_rows_that_are_held_out_of_the_training_file_judge_as_well(
    tmp_path: Path, tiny_llama: Path, eval_path: str | None
) -> None:
    data = {"eval_path": eval_path, **({} if eval_path else {"eval_fraction": 0.4})}
    project = few(tmp_path / "words", tiny_llama, data=data, eval={"rows": 20})
    given = [r for name in ANSWERS for r in rows(name, range(30))]
    write_rows(project.root / "train.jsonl", given)
    own = project.improve(rounds=1, rules=("exact_match < 0.001",))
    assert own.ended == NOTHING_WEAK
    again = project.improve(rounds=1, rules=("exact_match < 0.001",))
    assert again.run_id == own.run_id
    told = project.improve(rounds=1)
    assert [one.accepted for one in told.rounds] == [False]


def test_a_sealed_dataset_can_be_improved_as_well(tmp_path: Path, tiny_llama: Path) -> None:
    project = few(tmp_path / "words", tiny_llama)
    train(project.config)
    feedback("latest", Options(rows=5), project.root)
    text = project.config.read_text().replace("./train.jsonl", "dataset/words")
    project.config.write_text(text)
    first = project.improve(rounds=1, rules=("exact_match < 0.001",))
    assert first.dataset == "dataset/words@v2"
    second = project.improve(rounds=1)
    assert second.rounds[0].dataset_before == "dataset/words@v2"
    assert [run.run_type for run in project.runs()].count("train") == 2


# -- money ---------------------------------------------------------------------------------------


def priced(project: Project, per_hour: float) -> None:
    text = project.config.read_text()
    project.config.write_text(f"{text}infra:\n  cost_per_hour_usd: {per_hour}\n")


def test_a_round_that_would_not_fit_is_not_begun(trained: Project) -> None:
    priced(trained, 3600.0)  # a dollar a second
    told = trained.improve(rounds=1, budget_usd=100_000.0)
    spent = told.spent_usd
    assert told.accepted == 1
    assert spent > 1
    write_rows(trained.root / "pool.jsonl", rows("metals", range(300, 310)))
    runs = len(trained.runs())
    less = trained.improve(rounds=1, rules=("exact_match < 0.99",), budget_usd=1e-3)
    assert (less.ended, less.rounds, less.exit_code) == (BUDGET, [], BudgetSpent.exit_code)
    assert len(trained.runs()) == runs
    with pytest.raises(BudgetSpent, match="does not reach for the model"):
        trained.improve(rounds=1, rules=("exact_match < 0.98",), budget_usd=-1.0)


def test_a_budget_that_ends_within_a_round_keeps_the_pass_open(trained: Project) -> None:
    priced(trained, 3600.0)  # a dollar a second
    own = train(trained.config)
    log = trained.tiers.logs / f"{own.run_id}.jsonl"
    ended = log.read_text().splitlines()
    log.write_text(f"{ended[0]}\n")  # the first model took no time: a round is thought to fit
    told = trained.improve(rounds=1, budget_usd=1e-6)
    assert (told.ended, told.rounds) == (BUDGET, [])
    assert "does not reach for more answers" in told.detail
    assert trained.runs()[-1].status == "failed"
    again = trained.improve(rounds=1, budget_usd=1e9)
    assert again.accepted == 1
    [kept] = (trained.root / "runs" / "improve").glob("*.json")
    [one] = json.loads(kept.read_text())["passes"]
    assert one["ended"].startswith(ROUNDS_DONE)


# -- what is refused -----------------------------------------------------------------------------


def test_two_processes_do_not_improve_one_project(trained: Project) -> None:
    with held(trained.tiers), pytest.raises(UsageError, match="by another process"):
        trained.improve()


def test_a_round_cannot_be_resumed_as_a_training(improved: Done) -> None:
    with pytest.raises(UsageError, match="trained nothing"):
        resume(improved.told.run_id, improved.project.root)


def test_without_a_pool_it_says_what_else_there_is(trained: Project) -> None:
    (trained.root / "pool.jsonl").unlink()
    with pytest.raises(ConfigError, match="no pool of labelled rows") as refused:
        trained.improve()
    assert "--generator teacher" in (refused.value.fix or "")
    assert len(trained.runs()) == 1


def test_held_out_rows_that_training_rows_give_away_are_no_judges(
    tmp_path: Path, tiny_llama: Path
) -> None:
    config = write_improvable(tmp_path, tiny_llama, eval={"rows": 9}, training={"max_steps": 2})
    given_away = rows("metals", range(100, 130))
    train_rows = [*given_away, *rows("metals", range(40)), *rows("salts", range(40))]
    write_rows(tmp_path / "train.jsonl", train_rows)
    with pytest.raises(LeakError, match="held-out rows are given away") as refused:
        Project(tmp_path).improve()
    assert refused.value.fix is not None
    assert refused.value.fix.startswith("eval.rows: 90")
    assert config.exists()


def test_other_training_rows_begin_anew(improved: Done, tmp_path: Path) -> None:
    project = improved.project.copy(tmp_path / "words")
    known = [name for name in ANSWERS if name != WEAK]
    write_rows(project.root / "train.jsonl", [r for name in known for r in rows(name, range(42))])
    events: list[Event] = []
    with listening(events.append):
        told = project.improve(rounds=1)
    assert "the rows of config.yaml have changed: rounds begin anew" in notes(events)
    assert told.accepted == 1
    assert told.rounds[0].number == 1
