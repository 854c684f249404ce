from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nexa.core.errors import ConfigError, TrainingError, UsageError
from nexa.core.events import Event, listening
from nexa.core.manifest import ManifestFile, RunManifest, list_manifests
from nexa.core.tiers import Tiers
from nexa.orchestrate import liveness
from nexa.orchestrate.resume import resume
from nexa.orchestrate.run import prepare_only
from nexa.train.checkpoint import newest_valid, save
from tests.support.project import Finished, finish, kinds, train, write_config, write_project


def stop_after(step: int, config: Path) -> str:
    """`nexa train`, dropped after a step; returns the run's id."""

    def sink(event: Event) -> None:
        if event["kind"] == "progress" and event["task"] == "training" and event["done"] == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(sink):
        train(config)
    return list_manifests(config.parent / "runs" / "manifests")[-1].run_id


@pytest.fixture
def config(tmp_path: Path, tiny_llama: Path) -> Path:
    return write_project(tmp_path / "elements", tiny_llama, training={"checkpoints": {"every": 1}})


def test_a_stopped_training_goes_on_and_ends_as_an_unbroken_one(
    config: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    stopped = stop_after(3, config)
    events: list[Event] = []
    with listening(events.append):
        done = resume(None, config.parent, check=False)
    [told] = [event for event in events if event["kind"] == "train.resumed"]
    assert (told["step"], told["total"]) == (2, 4)
    assert (done.status, done.attempts) == ("done", 2)
    assert done.run_id != stopped
    unbroken = finish(tmp_path / "other" / "elements", tiny_llama)
    assert done.outputs["checkpoint"] == unbroken.manifest.outputs["checkpoint"]
    durable = Path(Tiers.of(config.parent).durable_place(f"manifests/{stopped}.json"))
    assert '"interrupted"' in durable.read_text()


def test_training_again_goes_on_too_from_whatever_folder(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(2, config)
    monkeypatch.chdir(tmp_path)
    events: list[Event] = []
    with listening(events.append):
        train(Path("elements/config.yaml"))
    assert "train.resumed" in kinds(events)


def test_a_second_place_gives_a_fresh_machine_its_checkpoint(
    config: Path, tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXA_DURABLE", str(tmp_path / "durable"))
    stop_after(3, config)
    fresh = write_project(
        tmp_path / "fresh" / "elements", tiny_llama, training={"checkpoints": {"every": 1}}
    )
    events: list[Event] = []
    with listening(events.append):
        train(fresh)
    assert [event["step"] for event in events if event["kind"] == "train.resumed"] == [2]
    assert not (tmp_path / "durable" / "run_state").exists() or not any(
        path.is_file() for path in (tmp_path / "durable" / "run_state").rglob("*")
    )


def test_a_run_is_named_by_its_beginning(config: Path) -> None:
    stopped = stop_after(2, config)
    assert resume(stopped[:-1], config.parent, check=False).status == "done"


def test_a_changed_config_is_another_training(config: Path, tiny_llama: Path) -> None:
    stopped = stop_after(2, config)
    write_config(config.parent, tiny_llama, training={"seed": 5})
    with pytest.raises(ConfigError, match=f"has changed since run {stopped}"):
        resume(None, config.parent, check=False)
    config.unlink()
    with pytest.raises(ConfigError, match="is gone"):
        resume(None, config.parent, check=False)


def test_what_would_end_otherwise_stops_unless_allowed_and_is_in_the_manifest(
    config: Path,
) -> None:
    stop_after(3, config)
    [folder] = (config.parent / ".nexa" / "scratch" / "checkpoints").glob("*/")
    state = newest_valid(folder)
    assert state is not None
    save(folder, replace(state, facts={**state.facts, "torch": "1.0"}))
    with pytest.raises(TrainingError, match="same weights"):
        train(config)
    done = resume(None, config.parent, allow_inexact=True, check=False)
    [change] = done.inexact
    assert change.startswith("step 2: torch: 1.0 then, ")
    checkpoint = Tiers.of(config.parent).store.by_digest(done.outputs["checkpoint"])
    assert change in checkpoint.body.engine


def test_what_has_ended_well_has_nothing_to_go_on_with(finished: Finished) -> None:
    with pytest.raises(UsageError, match="nothing to go on with"):
        resume(None, finished.root)
    with pytest.raises(UsageError, match="has ended well"):
        resume(finished.manifest.run_id, finished.root)


def test_a_run_that_trained_nothing_is_refused(config: Path) -> None:
    prepare_only(config)
    with pytest.raises(UsageError, match="trained nothing"):
        resume("latest", config.parent)
    with pytest.raises(UsageError, match="nothing to go on with"):
        resume(None, config.parent, check=False)


def test_a_run_under_way_is_left_alone_and_a_broken_manifest_passed_over(config: Path) -> None:
    stopped = stop_after(2, config)
    tiers = Tiers.of(config.parent)
    path = tiers.manifests / f"{stopped}.json"
    path.write_text(path.read_text().replace('"interrupted"', '"running"'))
    (tiers.manifests / "9999-broken.json").write_text("no manifest")
    with pytest.raises(UsageError, match=f"run {stopped} is under way\n"):
        resume(None, config.parent, check=False)  # its process is this one
    (tiers.root / ".nexa" / "runs" / f"{stopped}.json").unlink()
    with pytest.raises(UsageError, match="on another machine"):
        resume(None, config.parent, check=False)
    assert liveness.read_note(tiers, stopped) is None
    path.write_text(path.read_text().replace('"running"', '"failed"'))
    assert resume(None, config.parent, check=False).status == "done"  # config.yaml of this folder


def test_a_round_of_improvement_goes_on_by_its_own_command(config: Path) -> None:
    tiers = Tiers.of(config.parent)
    run = RunManifest(run_id="2025-10-28-141200-ab12", run_type="improve", status="interrupted")
    ManifestFile.open(tiers.manifests, run)
    with pytest.raises(UsageError, match="is a round of improvement") as refused:
        resume(run.run_id, config.parent)
    assert refused.value.fix == "the same nexa improve command: what was made is reused"
