from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ruamel.yaml import YAML
from transformers import AutoModelForCausalLM

from nexa.core.errors import AccessError, GateError, ModelError, TrainingError
from nexa.core.events import Event, listening, read_events
from nexa.core.identity import sha256_bytes
from nexa.core.manifest import RunManifest, list_manifests, read_manifest
from nexa.core.tiers import Tiers
from nexa.orchestrate import run
from nexa.orchestrate.run import prepare_only
from nexa.publish.verify import verify_folder
from tests.support.project import (
    Finished,
    finish,
    kinds,
    notes,
    rows,
    train,
    versions,
    write_config,
    write_project,
    write_rows,
)

ROLES = {
    *("eval_dataset", "suite", "dataset", "base_answers", "checkpoint", "export"),
    *("tuned_answers", "base_scores", "tuned_scores", "report"),
}


def adapter_sha(manifest: RunManifest, root: Path) -> str:
    return str(Tiers.of(root).store.by_digest(manifest.outputs["checkpoint"]).body.weights_sha256)


def train_told(config: Path) -> tuple[RunManifest, list[Event]]:
    events: list[Event] = []
    with listening(events.append):
        return train(config), events


# -- a first run ---------------------------------------------------------------------------------


def test_a_run_makes_every_record_and_says_what_it_did(finished: Finished) -> None:
    manifest = finished.manifest
    assert manifest.status == "done"
    assert manifest.eval_status == "done"
    assert set(manifest.outputs) == ROLES
    assert manifest.reused == []
    assert manifest.dataset_id == "elements@v1"
    assert manifest.dataset_hash == manifest.outputs["dataset"]
    assert manifest.student_model == "tiny-llama"
    checkpoint = finished.tiers.store.by_digest(manifest.outputs["checkpoint"]).body
    assert manifest.tokens_trained == checkpoint.tokens_trained > 0
    assert manifest.label_tokens == checkpoint.label_tokens > 0
    assert manifest.mask_sha256 == checkpoint.mask_sha256
    report = finished.tiers.store.by_digest(manifest.outputs["report"]).body
    assert manifest.verdict == report.verdict
    means = {name: i.mean for name, i in report.tuned.items()}
    assert manifest.eval_summary == {**means, "safety_score": 1.0, "red_flag_count": 0}
    assert manifest.inputs == {"model": checkpoint.base.digest}
    assert manifest.config_sha256 == sha256_bytes(finished.config.read_bytes())


def test_training_comes_first_and_all_is_told_in_order(finished: Finished) -> None:
    made = [event["step"] for event in finished.events if event["kind"] == "step.end"]
    assert made == [
        *("prepare", "freeze", "prepare", "finetune", "generate", "merge", "generate"),
        *("score", "score", "analyze"),
    ]
    told = kinds(finished.events)
    assert told[0] == "run.start"
    assert told[-1] == "run.end"
    assert told.index("train.epoch") < told.index("weights.parity") < told.index("eval.verdict")


def test_the_memory_that_was_taken_stands_beside_what_was_told(finished: Finished) -> None:
    assert finished.manifest.memory.keys() == {"peak"}  # nothing was checked before
    assert any("of memory at its peak" in note for note in notes(finished.events))

    def memory(**changes: Any) -> dict[str, int]:
        ledger = SimpleNamespace(manifest=finished.manifest.model_copy(update=changes))
        facts = {"estimated_memory_bytes": 1_000_000_000, "peak_bytes": 2_000_000_000, "other": "x"}
        return run._memory(cast(run.Run, SimpleNamespace(ledger=ledger)), facts)

    events: list[Event] = []
    with listening(events.append):
        told = memory()
    assert told.keys() == {"estimated", "rehearsed", "peak"}
    assert "(by the check: estimated 1.0 GB, rehearsed 2.0 GB)" in notes(events)[0]
    assert memory(reused=["checkpoint"]) == {"estimated": 10**9, "rehearsed": 2 * 10**9}


def test_the_manifest_is_the_same_in_the_ledger_and_in_durable_storage(finished: Finished) -> None:
    run_id = finished.manifest.run_id
    ledger = (finished.tiers.manifests / f"{run_id}.json").read_bytes()
    durable = Path(finished.tiers.durable_place(f"manifests/{run_id}.json")).read_bytes()
    assert durable == ledger
    assert json.loads(ledger) == finished.manifest.model_dump(mode="json", by_alias=True)


def test_the_log_has_every_event_of_the_run(finished: Finished) -> None:
    logged = read_events(finished.tiers.logs / f"{finished.manifest.run_id}.jsonl")
    assert kinds(logged) == kinds(finished.events)
    assert logged[-1]["status"] == "done"


def test_the_dataset_is_registered_and_committed(finished: Finished) -> None:
    registry = YAML(typ="safe").load(finished.root / "dataset_registry.yaml")
    assert registry["elements"]["v1"]["digest"] == finished.manifest.dataset_hash
    place = Path(finished.tiers.durable_place("datasets/elements/v1"))
    assert {"train.parquet", "COMMITTED.json"} <= {path.name for path in place.iterdir()}


def test_the_cost_is_metered_at_the_named_price(tmp_path: Path, tiny_llama: Path) -> None:
    run = finish(tmp_path, tiny_llama, infra={"cost_per_hour_usd": 360.0})
    cost = run.manifest.cost
    assert cost is not None
    assert cost.price_source == "config.yaml, infra.cost_per_hour_usd"
    assert cost.cost_total_usd == run.manifest.cost_estimate_usd_total > 0
    assert cost.tokens == run.manifest.tokens_trained


def test_work_under_way_is_in_scratch_and_gone_afterwards(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "fast-disk"
    monkeypatch.setenv("NEXA_SCRATCH", str(scratch))
    seen: list[str] = []

    def look(event: Event) -> None:
        if event["kind"] == "train.epoch":
            seen.extend(path.parent.name for path in scratch.glob("*/nexa-train-*"))

    config = write_project(tmp_path / "project", tiny_llama)
    with listening(look):
        manifest = train(config)
    assert [name.startswith(manifest.run_id) for name in seen] == [True]
    assert list(scratch.iterdir()) == []


# -- a second run --------------------------------------------------------------------------------


def test_a_second_run_reuses_everything_says_so_and_makes_no_new_version(
    project: Finished,
) -> None:
    before = versions(project.tiers)
    again, events = train_told(project.config)
    assert again.outputs == project.manifest.outputs
    assert set(again.reused) == ROLES
    assert again.run_id != project.manifest.run_id
    assert versions(project.tiers) == before
    assert {e["label"] for e in events if e["kind"] == "step.reused"} >= {
        "checkpoint/tiny-llama-elements@v1",
        "report/tiny-llama-elements@v1",
    }
    assert "step.start" not in kinds(events)
    assert "progress.start" not in kinds(events)


def test_a_reused_adapter_was_not_bought_by_the_second_run(project: Finished) -> None:
    cost = train(project.config).cost
    assert cost is not None
    assert cost.usd_per_point is None


def test_another_seed_trains_again_on_the_same_data_against_the_same_base(
    project: Finished, tiny_llama: Path
) -> None:
    first = project.manifest
    config = write_config(project.root, tiny_llama, training={"seed": 7})
    second = train(config)
    assert set(second.reused) == {
        *("eval_dataset", "suite", "dataset", "base_answers", "base_scores")
    }
    assert second.outputs["checkpoint"] != first.outputs["checkpoint"]
    assert second.seed == 7
    assert versions(project.tiers)["checkpoint/tiny-llama-elements"] == ["v1", "v2"]
    assert adapter_sha(second, project.root) != adapter_sha(first, project.root)


def test_the_same_seed_in_another_project_gives_the_same_adapter(
    finished: Finished, tmp_path: Path, tiny_llama: Path
) -> None:
    other = finish(tmp_path / "elements", tiny_llama)
    assert other.manifest.reused == []
    assert adapter_sha(other.manifest, other.root) == adapter_sha(finished.manifest, finished.root)
    # The same recipe, wherever it was run: only what was measured with a clock may differ.
    for role in ("suite", "dataset", "checkpoint", "export"):
        assert other.manifest.outputs[role] == finished.manifest.outputs[role]


def test_a_model_that_was_moved_is_the_same_model(
    project: Finished, tiny_llama: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "renamed"
    moved.symlink_to(tiny_llama)
    config = write_config(project.root, moved, publish={"repo": "you/moved", "hub": "local"})
    again = train(config)
    assert set(again.reused) == ROLES
    assert again.student_model == "tiny-llama"  # as the records that are reused call it
    verify_folder(Path(again.publications[0]))


# -- without held-out rows of one's own ----------------------------------------------------------


def test_without_an_eval_path_a_share_of_the_rows_is_held_out(
    tmp_path: Path, tiny_llama: Path
) -> None:
    data = {"eval_path": None, "eval_fraction": 0.25}
    run = finish(tmp_path / "elements", tiny_llama, data=data)
    store, outputs = run.tiers.store, run.manifest.outputs
    assert "eval_dataset" not in outputs
    splits = store.by_digest(outputs["dataset"]).body.splits
    assert splits["train"].rows + splits["eval"].rows == 40
    suite = store.by_digest(outputs["suite"])
    assert suite.inputs == {"dataset": outputs["dataset"]}
    assert suite.body.rows == min(8, splits["eval"].rows)
    assert run.manifest.verdict != "contaminated"


# -- all weights ---------------------------------------------------------------------------------


def test_all_weights_are_trained_delivered_and_published(tmp_path: Path, tiny_llama: Path) -> None:
    run = finish(
        tmp_path / "elements",
        tiny_llama,
        lora=None,
        training={"method": "full"},
        optimizer={"lr": 1e-3},
        publish={"repo": "you/full", "hub": "local"},
    )
    assert run.manifest.best_checkpoint == "model.safetensors"
    output = run.root / "output"
    card = json.loads((output / "final_model.json").read_text())
    assert card["method"] == "full"
    assert card["rank"] is None
    assert not (output / "adapter").exists()
    assert "model.safetensors" in card["files"]
    published = Path(run.manifest.publications[0])
    verify_folder(published)
    assert not (published / "adapter").exists()
    tuned = AutoModelForCausalLM.from_pretrained(published)
    base = AutoModelForCausalLM.from_pretrained(tiny_llama)
    assert not tuned.model.norm.weight.equal(base.model.norm.weight)


# -- ends that are not good ----------------------------------------------------------------------


def interrupt_at(kind: str) -> Any:
    def sink(event: Event) -> None:
        if event["kind"] == kind and event.get("task", "training") == "training":
            raise KeyboardInterrupt

    return sink


def test_an_interrupted_run_says_so_and_a_rerun_completes(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_project(tmp_path, tiny_llama)
    with pytest.raises(KeyboardInterrupt), listening(interrupt_at("progress")):
        train(config)
    [stopped] = list_manifests(tmp_path / "runs" / "manifests")
    assert stopped.status == "interrupted"
    assert stopped.error == "interrupted by the user"
    assert "dataset" in stopped.outputs
    assert "checkpoint" not in stopped.outputs
    assert not (tmp_path / "output").exists()
    assert stopped.cost is not None
    log = read_events(tmp_path / "runs" / "logs" / f"{stopped.run_id}.jsonl")
    assert (log[-1]["kind"], log[-1]["status"]) == ("run.end", "interrupted")
    again = train(config)
    assert again.status == "done"
    assert set(again.reused) == {"eval_dataset", "suite", "dataset"}


def test_a_run_that_is_stopped_while_it_writes_its_output_can_be_run_again(
    project: Finished, tiny_llama: Path
) -> None:
    config = write_config(project.root, tiny_llama, training={"output_dir": "./fresh"})
    with pytest.raises(KeyboardInterrupt), listening(interrupt_at("saved")):
        train(config)
    assert train(config).status == "done"
    names = [path.name for path in (project.root / "fresh").iterdir()]
    assert [name for name in names if name.startswith(".")] == []


def test_a_guard_fails_the_run_with_its_reason(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_project(tmp_path, tiny_llama, optimizer={"name": "sgd", "lr": 1e-30})
    with pytest.raises(TrainingError, match="training changed nothing"):
        train(config)
    [failed] = list_manifests(tmp_path / "runs" / "manifests")
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.startswith("training changed nothing")
    assert failed.eval_status == "pending"
    assert not (tmp_path / "output").exists()


def test_a_model_that_cannot_be_found_fails_the_run_by_name(tmp_path: Path) -> None:
    config = write_project(tmp_path, "./no-such-model")
    with pytest.raises(ModelError, match="no-such-model"):
        train(config)
    [failed] = list_manifests(tmp_path / "runs" / "manifests")
    assert failed.status == "failed"
    assert "no-such-model" in (failed.error or "")


# -- publishing as config.yaml asks --------------------------------------------------------------


def test_a_publish_section_publishes_when_the_run_has_ended(
    project: Finished, tiny_llama: Path
) -> None:
    wanted = {"repo": "you/elements", "hub": "./hub"}
    manifest, events = train_told(write_config(project.root, tiny_llama, publish=wanted))
    folder = project.root / "hub" / "you" / "elements"
    assert manifest.publications == [str(folder)]
    assert verify_folder(folder)
    ledger = read_manifest(project.tiers.manifests / f"{manifest.run_id}.json")
    assert ledger.publications == [str(folder)]
    log = read_events(project.tiers.logs / f"{manifest.run_id}.jsonl")
    assert kinds(log).index("published") < kinds(log).index("run.end")
    assert kinds(events) == kinds(log)


def test_a_hub_without_a_token_is_refused_before_anything_is_made(
    tmp_path: Path, tiny_llama: Path
) -> None:
    config = write_project(tmp_path, tiny_llama, publish={"repo": "you/elements"})
    with pytest.raises(AccessError, match="there is no Hub token"):
        train(config)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("config.yaml", "eval.jsonl", "train.jsonl")
    ]


def test_a_refused_publication_leaves_a_run_that_ended_well(
    tmp_path: Path, tiny_llama: Path
) -> None:
    config = write_project(
        tmp_path,
        tiny_llama,
        optimizer={"lr": 0.02},
        training={"max_steps": 10},
        eval={"forgetting_limit_nats": 1e-6},
        publish={"repo": "you/elements", "hub": "local"},
    )
    with pytest.raises(GateError, match="forgot"):
        train(config)
    [manifest] = list_manifests(tmp_path / "runs" / "manifests")
    assert manifest.status == "done"
    assert manifest.publications == []
    assert (tmp_path / "output" / "final_model.json").exists()


# -- data alone ----------------------------------------------------------------------------------


def test_data_alone_is_a_run_of_its_own_and_training_reuses_it(
    tmp_path: Path, tiny_llama: Path
) -> None:
    config = write_project(tmp_path / "elements", tiny_llama)
    dataset = prepare_only(config)
    assert dataset.label == "dataset/elements@v1"
    [manifest] = list_manifests(tmp_path / "elements" / "runs" / "manifests")
    assert manifest.run_type == "data_gen"
    assert (manifest.status, manifest.eval_status) == ("done", "skipped")
    assert manifest.dataset_hash == dataset.digest
    assert manifest.cost is not None
    assert set(train(config).reused) == {"eval_dataset", "suite", "dataset"}


def test_rows_that_give_a_held_out_row_away_are_not_trained_on(
    tmp_path: Path, tiny_llama: Path
) -> None:
    config = write_project(tmp_path, tiny_llama)
    write_rows(tmp_path / "train.jsonl", [*rows(range(40)), *rows(range(100, 103))])
    dataset = prepare_only(config)
    assert dataset.body.rows_read == 43
    assert dataset.body.splits["train"].rows == 40


def test_a_folder_of_data_is_trained_on_without_its_held_out_files(
    tmp_path: Path, tiny_llama: Path
) -> None:
    write_rows(tmp_path / "data" / "one.jsonl", rows(range(20)))
    write_rows(tmp_path / "data" / "two.jsonl", rows(range(20, 40)))
    write_rows(tmp_path / "data" / "eval.jsonl", rows(range(100, 110)))
    data = {"train_path": "./data", "eval_path": "./data/eval.jsonl"}
    config = write_config(tmp_path, tiny_llama, data=data)
    events: list[Event] = []
    with listening(events.append):
        dataset = prepare_only(config)
    assert set(dataset.body.sources) == {"one.jsonl", "two.jsonl"}
    assert "./data: not trained on, held out or kept back: eval.jsonl" in notes(events)
