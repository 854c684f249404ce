from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nexa.core.config import load_config
from nexa.core.errors import DataError, EvalError, GateError, StorageError
from nexa.core.events import Event, emit, listening, read_events
from nexa.core.interrupts import Interrupted
from nexa.core.manifest import RunManifest, list_manifests
from nexa.core.tiers import Tiers
from nexa.orchestrate.run_state import Run, opened
from tests.support.project import config_of


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    config_of(tmp_path)
    return Tiers.of(tmp_path)


def enter(tiers: Tiers, error: BaseException | None = None, *, close: bool = False) -> Run:
    """Open a run and end it: by an error, by closing it first, or both."""
    path = tiers.root / "config.yaml"
    config = config_of(tiers.root, infra={"cost_per_hour_usd": 2.0})
    with opened(tiers, config, path) as run:
        if close:
            run.ledger.close("done")
        if error is not None:
            raise error
    return run


def only(tiers: Tiers) -> RunManifest:
    [manifest] = list_manifests(tiers.manifests)
    return manifest


def test_a_run_opens_with_what_is_known_before_any_work(tiers: Tiers) -> None:
    with opened(tiers, config_of(tiers.root), tiers.root / "config.yaml") as run:
        assert only(tiers).status == "running"
        assert only(tiers).run_type == "train"
        assert run.scratch.is_dir()
        assert run.scratch.parent == tiers.scratch
        run.ledger.close("done")
    assert not run.scratch.exists()
    log = read_events(tiers.logs / f"{run.run_id}.jsonl")
    assert [(event["kind"], event["run_id"]) for event in log] == [
        ("run.start", run.run_id),
        ("run.end", run.run_id),
    ]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "interrupted by the user"),
        (DataError("row 7 is bad"), "failed", "row 7 is bad"),
        (DataError("row 7 is bad", found="no target"), "failed", "row 7 is bad (no target)"),
        (ZeroDivisionError("by zero"), "failed", "ZeroDivisionError: by zero"),
        (SystemExit(3), "failed", "SystemExit: 3"),
    ],
)
def test_every_end_is_in_the_manifest_and_the_error_goes_on(
    tiers: Tiers, error: BaseException, status: str, reason: str
) -> None:
    with pytest.raises(type(error)):
        enter(tiers, error)
    assert only(tiers).status == status
    assert only(tiers).error == reason
    assert only(tiers).eval_status == "pending"
    log = read_events(tiers.logs / f"{only(tiers).run_id}.jsonl")
    assert log[-1]["status"] == status


def test_an_evaluation_that_failed_is_told_apart(tiers: Tiers) -> None:
    with pytest.raises(EvalError):
        enter(tiers, EvalError("answers to another suite"))
    assert only(tiers).eval_status == "failed"


def test_a_run_that_failed_has_cost_something_too(tiers: Tiers) -> None:
    with pytest.raises(DataError):
        enter(tiers, DataError("bad"))
    cost = only(tiers).cost
    assert cost is not None
    assert (cost.cost_per_hour_usd, cost.usd_per_point) == (2.0, None)


@pytest.mark.parametrize("error", [GateError("refused"), KeyboardInterrupt(), OSError("gone")])
def test_what_fails_after_a_good_end_does_not_undo_it(tiers: Tiers, error: BaseException) -> None:
    with pytest.raises(type(error)):
        enter(tiers, error, close=True)
    assert only(tiers).status == "done"
    assert only(tiers).error is None


def test_gain_is_priced_only_for_the_run_that_trained(tiers: Tiers) -> None:
    config = config_of(tiers.root, infra={"cost_per_hour_usd": 3.6e6})
    with opened(tiers, config, tiers.root / "config.yaml") as run:
        run.meter(0.5)
        bought = run.ledger.manifest.cost
        run.ledger.amend(reused=["checkpoint"])
        run.meter(0.5)
        reused = run.ledger.manifest.cost
        run.ledger.close("done")
    assert bought is not None
    assert bought.usd_per_point == pytest.approx(bought.cost_total_usd / 50, abs=1e-6)
    assert reused is not None
    assert reused.usd_per_point is None
    assert run.ledger.manifest.cost_estimate_usd_total == reused.cost_total_usd > 0


def test_events_reach_the_log_and_whoever_listens_outside(tiers: Tiers) -> None:
    outside: list[Event] = []
    with (
        listening(outside.append),
        opened(tiers, config_of(tiers.root), tiers.root / "config.yaml") as run,
    ):
        emit("note", text="hello")
        run.ledger.close("done")
    assert [event["kind"] for event in outside] == ["run.start", "note", "run.end"]


def test_no_run_begins_without_its_log(tiers: Tiers) -> None:
    tiers.logs.parent.mkdir(parents=True, exist_ok=True)
    tiers.logs.write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="cannot write the run's log"):
        enter(tiers)
    assert list_manifests(tiers.manifests) == []


def test_a_signal_anywhere_in_a_run_is_in_its_manifest_there_and_in_durable_storage(
    tiers: Tiers,
) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with (
            pytest.raises(Interrupted) as caught,
            opened(tiers, config_of(tiers.root), tiers.root / "config.yaml"),
        ):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.exit_code == 143
    assert caught.value.fix == "the same command: what was made is reused"
    assert (only(tiers).status, only(tiers).error) == ("interrupted", "ended by SIGTERM")
    durable = Path(tiers.durable_place(f"manifests/{only(tiers).run_id}.json"))
    assert '"ended by SIGTERM"' in durable.read_text()


def test_what_an_interruption_says_of_itself_is_in_the_manifest(tiers: Tiers) -> None:
    with pytest.raises(Interrupted):
        enter(tiers, Interrupted(found="step 3 is kept"))
    assert only(tiers).error == "interrupted by the user (step 3 is kept)"


def test_the_next_run_closes_a_killed_one_says_so_and_counts_it(tiers: Tiers) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; "
        "from nexa.core.config import load_config; from nexa.core.tiers import Tiers; "
        "from nexa.orchestrate.run_state import opened; path = Path(sys.argv[1]); "
        "run = opened(Tiers.of(path.parent), load_config(path), path); run.__enter__(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tiers.root / "config.yaml"
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    killed = only(tiers)
    assert killed.status == "running"
    with opened(tiers, load_config(path), path) as run:
        run.ledger.close("done")
    [closed, second] = list_manifests(tiers.manifests)
    assert (closed.run_id, closed.status) == (killed.run_id, "interrupted")
    assert second.attempts == 2
    assert list(tiers.scratch.iterdir()) == []
    log = read_events(tiers.logs / f"{second.run_id}.jsonl")
    assert [e["text"] for e in log if e["kind"] == "note"] == [
        f"run {killed.run_id} was killed; its manifest now says so"
    ]
