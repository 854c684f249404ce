"""A run's training once more: equal bytes, or what is not equal and why."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nexa.core import store as core_store
from nexa.core.config import load_config
from nexa.core.errors import (
    ConfigError,
    IntegrityError,
    ModelError,
    StorageError,
    UsageError,
)
from nexa.core.events import Event, listening
from nexa.core.identity import sha256_file
from nexa.core.interrupts import Interrupted
from nexa.core.ledger import write_noted
from nexa.core.manifest import ManifestFile, RunManifest
from nexa.core.tiers import Tiers
from nexa.orchestrate.replay import _trained, outline, recorded, replay
from nexa.orchestrate.replay_compare import loss_distance, losses
from tests.support.project import (
    Finished,
    finish,
    notes,
    train,
    write_config,
)


def forge(project: Finished, **facts: Any) -> None:
    """Change the closed manifest of a run, and the digest that is noted of it."""
    manifest = project.manifest.model_copy(update=facts)
    path = project.tiers.manifests / f"{manifest.run_id}.json"
    write_noted(path, ManifestFile(path, manifest).to_bytes(), closed=manifest.status != "running")


def files(root: Path) -> dict[str, str]:
    """Every file of a project with its digest; the lock files of the store are no content."""
    return {
        str(path.relative_to(root)): sha256_file(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# -- equal ---------------------------------------------------------------------------------------


def test_a_replay_gives_the_same_weights_and_touches_nothing(project: Finished) -> None:
    before, threads = files(project.root), torch.get_num_threads()
    events: list[Event] = []
    with listening(events.append):
        found = replay(project.manifest.run_id, project.root)
    assert found.equal
    assert found.exit_code == 0
    assert found.sha256_now == found.sha256_then
    assert (found.losses.steps, found.losses.largest) == (4, 0.0)
    assert found.differs == found.changed == found.metrics == ()
    assert found.took_s is not None
    assert notes(events) == []
    assert files(project.root) == before
    assert torch.get_num_threads() == threads
    assert json.loads(json.dumps(found.to_json()))["losses"]["steps_now"] == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": None, "training": {"method": "full"}},
        {"training": {"method": "qlora"}},
        {"training": {"method": "dora"}},
        {
            "training": {
                **{"max_steps": 6, "early_stopping": {"patience": 1, "min_delta": 9.0}},
                **{"validation": {"rows": 4, "every": 1}, "checkpoints": {"select": "best"}},
            }
        },
        {
            "scheduler": {"name": "wsd", "warmup_steps": 1},
            "lora": {"dropout": 0.2, "rslora": True, "plus_ratio": 4.0},
            "training": {"micro_tokens": 120},
        },
    ],
    ids=["full", "qlora", "dora", "stopped early", "dropout"],
)
def test_every_method_is_replayed_bit_for_bit(
    tmp_path: Path, tiny_llama: Path, changes: dict[str, Any]
) -> None:
    made = finish(tmp_path / "elements", tiny_llama, **changes)
    found = replay("latest", made.root)
    assert found.equal, found
    assert found.losses.largest == 0.0


def test_a_training_that_its_time_ended_is_replayed_to_the_same_step(
    tmp_path: Path, tiny_llama: Path
) -> None:
    # A budget that the first step is sure to use up.
    made = finish(tmp_path / "elements", tiny_llama, training={"time_budget": 0.0001})
    body = recorded("latest", made.tiers).checkpoint.body
    assert body.steps == 1
    assert "time_budget" in (body.stopped or "")
    found = replay("latest", made.root)
    assert found.equal
    assert found.losses.steps_now == 1


def test_where_memory_was_short_is_done_again_at_the_same_steps(
    tmp_path: Path, tiny_llama: Path
) -> None:
    made = finish(tmp_path / "elements", tiny_llama)
    found = recorded("latest", made.tiers)
    halvings = [{"step": 2, "from": found.resolved["micro_tokens"], "to": 64, "why": "planted"}]
    found = replace(found, resolved=found.resolved | {"halvings": halvings})
    again = _trained(found, made.tiers, made.tiers.new_scratch("replay"))
    assert again["resolved"]["halvings"] == halvings
    then = losses(made.tiers.store.path(found.checkpoint, "losses.jsonl").read_bytes())
    # The same rows a step, in smaller passes: the losses move by rounding alone.
    assert loss_distance(then, losses(again["losses.jsonl"])).largest < 1e-5


def test_a_config_that_has_changed_since_is_taken_from_the_store(project: Finished) -> None:
    write_config(project.root, "another", optimizer={"lr": 1.0})
    assert replay(project.manifest.run_id[:12], project.root).equal


def test_without_the_stores_copy_the_projects_own_config_will_do(project: Finished) -> None:
    wanted = project.manifest.config_sha256 or ""
    project.tiers.store.blob(wanted).unlink()
    assert recorded("latest", project.tiers).config == load_config(project.config)
    # Where the run's process noted it was.
    note = project.root / ".nexa" / "runs" / f"{project.manifest.run_id}.json"
    noted, moved = json.loads(note.read_bytes()), project.root / "moved.yaml"
    project.config.rename(moved)
    note.write_text(json.dumps(noted | {"config": str(moved)}))
    assert recorded("latest", project.tiers).config == load_config(moved)
    note.unlink()
    write_config(project.root, "another")
    with pytest.raises(ConfigError, match="is not here any more") as caught:
        recorded("latest", project.tiers)
    assert wanted[:16] in str(caught.value.found)


def test_a_run_that_reused_its_weights_is_compared_with_the_run_that_made_them(
    project: Finished,
) -> None:
    again = train(project.config)
    assert "checkpoint" in again.reused
    found = recorded(again.run_id, project.tiers)
    assert (found.run.run_id, found.maker.run_id) == (again.run_id, project.manifest.run_id)
    assert outline(again.run_id, project.root)["made by"] == project.manifest.run_id
    older = project.tiers.manifests / "2000-01-01-000000-0000.json"
    older.write_text(again.model_copy(update={"outputs": {}}).model_dump_json(by_alias=True))
    (project.tiers.manifests / f"{project.manifest.run_id}.json").unlink()
    assert recorded(again.run_id, project.tiers).maker.run_id == again.run_id


def test_the_threads_and_the_precision_are_those_of_the_run(
    tmp_path: Path, tiny_llama: Path
) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        made = finish(tmp_path / "elements", tiny_llama)
    finally:
        torch.set_num_threads(threads)
    found = replay("latest", made.root)
    assert found.equal
    assert found.changed == ()


# -- different -----------------------------------------------------------------------------------


def test_another_seed_is_found_out_with_the_distance_of_the_losses(
    tmp_path: Path, tiny_llama: Path
) -> None:
    made = finish(tmp_path / "elements", tiny_llama)
    write_config(made.root, tiny_llama, training={"seed": 1})
    other = train(made.config)
    # The first run's recipe, and the other one's weights.
    forge(made, outputs=made.manifest.outputs | {"checkpoint": other.outputs["checkpoint"]})
    events: list[Event] = []
    with listening(events.append):
        found = replay(made.manifest.run_id, made.root)
    assert not found.equal
    assert found.exit_code == IntegrityError.exit_code == 10
    assert found.sha256_now != found.sha256_then
    assert found.losses.first_step == 1
    assert found.losses.largest > 0
    (told,) = notes(events)
    assert told.endswith("recipe: this version of nexa reads the config.yaml otherwise")


def test_other_libraries_and_processors_are_told_before_the_training(project: Finished) -> None:
    machine = project.manifest.machine | {"cpu": "an abacus"}
    versions = project.manifest.versions | {"torch": "1.0.0"}
    forge(project, machine=machine, versions=versions, inexact=["step 2: torch"])
    events: list[Event] = []
    with listening(events.append):
        found = replay("latest", project.root)
    assert found.equal
    assert [line.partition(":")[0] for line in found.differs] == [
        *("torch", "processor"),
        "the run itself went on inexactly",
    ]
    kinds = [event["kind"] for event in events]
    assert kinds.index("note") < kinds.index("progress.start")
    assert "torch: 1.0.0 then, " in notes(events)[0]
    assert outline("latest", project.root)["differs"] == list(found.differs)


def test_the_metrics_are_held_against_what_other_seeds_make(project: Finished) -> None:
    found = replay("latest", project.root, seeds=2)
    assert found.equal
    assert [metric.metric for metric in found.metrics] == ["first_loss", "final_loss"]
    for metric in found.metrics:
        assert metric.then == metric.now
        assert len(set(metric.other_seeds) - {metric.now}) == 2
        assert metric.within


def test_on_a_gpu_the_metrics_decide(project: Finished) -> None:
    found = recorded("latest", project.tiers)
    assert not found.on_gpu
    assert replace(found, resolved=found.resolved | {"device": "cuda"}).on_gpu


# -- refused -------------------------------------------------------------------------------------


def test_no_such_run(project: Finished) -> None:
    with pytest.raises(UsageError, match="there is no run 1999"):
        replay("1999", project.root)


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"run_type": "eval"}, "trained nothing"),
        ({"outputs": {}, "status": "failed", "error": "disk full"}, "ended before its training"),
        ({"outputs": {}, "status": "running"}, "is under way"),
    ],
)
def test_a_run_without_a_training(project: Finished, facts: dict[str, Any], what: str) -> None:
    forge(project, **facts)
    with pytest.raises(UsageError, match=what):
        replay("latest", project.root)


def test_a_base_model_that_is_gone_or_another(tmp_path: Path, tiny_llama: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_llama, model)
    made = finish(tmp_path / "elements", model)
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    with pytest.raises(ModelError, match="is not the model"):
        replay("latest", made.root)
    shutil.rmtree(model)
    with pytest.raises(ModelError):
        replay("latest", made.root)


def test_rows_that_are_gone_or_changed(project: Finished) -> None:
    store = project.tiers.store
    dataset = store.by_digest(project.manifest.outputs["dataset"])
    blob = store.path(dataset, "train.parquet")
    blob.chmod(0o644)
    blob.write_bytes(b"other rows")
    with pytest.raises(IntegrityError, match=r"the dataset of run .* is not what it was") as caught:
        replay("latest", project.root)
    assert "train.parquet" in str(caught.value.found)
    blob.unlink()
    with pytest.raises(IntegrityError, match="is not what it was"):
        replay("latest", project.root)
    (store.root / "records" / "dataset" / f"{dataset.digest}.json").unlink()
    with pytest.raises(IntegrityError, match="is not in the store any more"):
        replay("latest", project.root)


def test_a_changed_byte_in_the_recorded_sha256_is_found(project: Finished) -> None:
    store = project.tiers.store
    digest = project.manifest.outputs["checkpoint"]
    path = store.root / "records" / "checkpoint" / f"{digest}.json"
    told = store.by_digest(digest).body.weights_sha256
    path.write_text(path.read_text().replace(told, f"{told[:-1]}{'0' if told[-1] != '0' else '1'}"))
    with pytest.raises(IntegrityError, match="was changed after it was sealed"):
        replay("latest", project.root)


def test_a_full_disk_is_told_before_the_training(
    project: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_store, "SPARE_BYTES", 1 << 60)
    with pytest.raises(StorageError, match="not enough disk space"):
        replay("latest", project.root)
    assert list(project.tiers.scratch.glob("replay-*")) == []


@pytest.mark.parametrize("at", [None, 2])
def test_a_signal_ends_it_and_nothing_stays(project: Finished, at: int | None) -> None:
    def sink(event: Event) -> None:
        told = event["kind"] == "note" and at is None
        if told or (event["kind"] == "progress" and event["done"] == at):
            os.kill(os.getpid(), signal.SIGINT)

    forge(project, inexact=["step 2: torch"])
    before = files(project.root)
    with pytest.raises(Interrupted) as caught, listening(sink):
        replay("latest", project.root)
    assert caught.value.fix == f"nexa replay {project.manifest.run_id}   begins anew"
    assert caught.value.found == (
        "step 2 of 4 was done; a replay keeps nothing" if at else "nothing is kept"
    )
    assert files(project.root) == before


# -- the outline ---------------------------------------------------------------------------------


def test_the_outline_says_what_would_be_done_and_how_long_it_took(project: Finished) -> None:
    before = files(project.root)
    told = outline("latest", project.root)
    assert told["run"] == told["made by"] == project.manifest.run_id
    assert told["model"] == "tiny-llama (folder)"
    assert (told["method"], told["steps"], told["precision"]) == ("lora", 4, "float32")
    assert told["took"] >= 0
    assert told["differs"] == []
    assert files(project.root) == before


def test_a_log_that_is_gone_or_torn_says_nothing_of_the_time(project: Finished) -> None:
    log = project.tiers.logs / f"{project.manifest.run_id}.jsonl"
    kept = [line for line in log.read_text().splitlines() if '"step.end"' not in line]
    log.write_text("\n".join(kept))
    assert outline("latest", project.root)["took"] is None
    log.unlink()
    assert recorded("latest", Tiers.of(project.root)).took_s is None


def test_the_manifest_is_a_real_one(project: Finished) -> None:
    assert isinstance(recorded("latest", project.tiers).run, RunManifest)
