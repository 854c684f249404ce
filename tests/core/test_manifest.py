"""The run manifest: opened before the work, amended, closed exactly once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nexa.core.errors import IntegrityError, UsageError
from nexa.core.manifest import (
    Cost,
    ManifestClosed,
    ManifestFile,
    RunManifest,
    find_manifest,
    list_manifests,
    read_manifest,
)

RUN_ID = "2025-10-28-141200-ab12"
# NexaCompute's specification, section 10, in its order.
SPECIFIED = [
    "run_id", "run_type", "dataset_id", "dataset_hash", "teacher_model", "student_model",
    "gpu_type", "provider", "tailscale_ip", "hostname", "wandb_run_id", "tokens_trained",
    "cost_estimate_usd_total", "checkpoint_dir_durable", "best_checkpoint", "eval_status",
    "eval_report", "eval_summary",
]  # fmt: skip
COST = Cost(
    start_time="2025-10-28T14:12:00+00:00",
    end_time="2025-10-28T15:12:00+00:00",
    gpu_type=None,
    provider="local",
    cost_per_hour_usd=0.0,
    price_source="none given",
    cost_total_usd=0.0,
    tokens=75_000,
    usd_per_point=None,
)


def opened(folder: Path, run_id: str = RUN_ID, **fields: Any) -> ManifestFile:
    return ManifestFile.open(folder, RunManifest(run_id=run_id, run_type="train", **fields))


def test_the_file_is_there_before_the_work_and_says_running(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "runs" / "manifests", seed=3)
    assert ledger.path.name == f"{RUN_ID}.json"
    data = json.loads(ledger.path.read_bytes())
    assert (data["status"], data["seed"], data["schema"]) == ("running", 3, "nexa.manifest/1")


def test_the_specifications_fields_come_first_by_their_names(tmp_path: Path) -> None:
    data = json.loads(opened(tmp_path).path.read_bytes())
    assert list(data)[: len(SPECIFIED)] == SPECIFIED


def test_what_is_amended_is_on_disk_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    ledger = opened(tmp_path, seed=3)
    ledger.amend(dataset_id="materials@v2", outputs={"dataset": "ab"})
    ledger.amend(cost=COST)
    read = read_manifest(ledger.path)
    assert read == ledger.manifest
    assert (read.seed, read.dataset_id, read.cost) == (3, "materials@v2", COST)


@pytest.mark.parametrize(
    "fields",
    [{"datset_id": "x"}, {"seed": "many"}, {"eval_summary": {"exact": float("nan")}}, {"x": 1}],
)
def test_unknown_fields_and_wrong_values_are_refused_and_change_nothing(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    ledger = opened(tmp_path)
    before = ledger.path.read_bytes()
    with pytest.raises(ValidationError):
        ledger.amend(**fields)
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize("status", ["done", "failed", "interrupted"])
def test_it_is_closed_exactly_once(tmp_path: Path, status: Any) -> None:
    ledger = opened(tmp_path)
    ledger.close(status, verdict="improved")
    with pytest.raises(ManifestClosed, match=RUN_ID):
        ledger.close("done")
    with pytest.raises(ManifestClosed):
        ledger.amend(seed=1)
    again = ManifestFile(ledger.path, read_manifest(ledger.path))  # another process
    with pytest.raises(ManifestClosed):
        again.amend(seed=1)
    assert (again.manifest.status, again.manifest.verdict) == (status, "improved")


def test_publications_alone_may_come_after_the_end(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.close("done")
    for address in ("local:me/model", "https://huggingface.co/me/model", "local:me/model"):
        ledger.note_publication(address)
    assert read_manifest(ledger.path).publications == [
        "local:me/model",
        "https://huggingface.co/me/model",
    ]


def test_what_leaves_the_machine_names_no_host_no_address_and_no_path(tmp_path: Path) -> None:
    secret = {
        "hostname": "lab-7",
        "tailscale_ip": "100.64.23.45",
        "checkpoint_dir_durable": "/mnt/nexa_durable/checkpoints/x/",
        "eval_report": "/mnt/nexa_durable/evals/x.parquet",
        "output_dir": "/home/me/output",
        "deliverables": {"manifest": "/home/me/runs/manifests/x.json"},
        "publications": ["/home/me/.nexa/hub/me/model"],
        "error": "cannot write /home/me/x",
    }
    ledger = opened(tmp_path, **secret)
    public = ledger.manifest.public()
    assert not set(secret) & set(public)
    text = json.dumps(public)
    for hidden in ("lab-7", "100.64", "/mnt", "/home"):
        assert hidden not in text
    assert (public["run_id"], public["schema"]) == (RUN_ID, "nexa.manifest/1")


def test_a_secret_in_an_error_never_reaches_the_file(tmp_path: Path) -> None:
    token = "hf_" + "a1B2" * 9
    ledger = opened(tmp_path)
    ledger.close("failed", error=f"401 for token {token}")
    assert token not in ledger.path.read_text()
    assert read_manifest(ledger.path).error == "401 for token [redacted]"


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"not json", b'{"run_id": 3, "run_type": "train"}', b"\xff\xfe"],
)
def test_what_is_no_manifest_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"x\.json is not a run manifest"):
        read_manifest(path)


def test_a_manifest_of_another_schema_is_refused(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.path.write_text(ledger.path.read_text().replace("nexa.manifest/1", "nexa.manifest/2"))
    with pytest.raises(IntegrityError, match=r"nexa\.manifest/1"):
        read_manifest(ledger.path)


def test_a_missing_file_is_an_integrity_error(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        read_manifest(tmp_path / "none.json")


def test_manifests_are_listed_oldest_first(tmp_path: Path) -> None:
    assert list_manifests(tmp_path / "nowhere") == []
    for run_id in ("2025-10-29-000000-0000", "2025-10-28-000000-ffff"):
        opened(tmp_path, run_id)
    assert [m.run_id for m in list_manifests(tmp_path)] == [
        "2025-10-28-000000-ffff",
        "2025-10-29-000000-0000",
    ]


def test_a_run_is_found_by_its_name_a_beginning_or_as_the_latest(tmp_path: Path) -> None:
    runs = ["2025-10-28-000000-ffff", "2025-10-29-000000-0000", "2025-10-29-000000-00"]
    for run_id in runs:
        opened(tmp_path, run_id)
    assert find_manifest(tmp_path, "latest").run_id == runs[1]
    assert find_manifest(tmp_path, "2025-10-28").run_id == runs[0]
    assert find_manifest(tmp_path, runs[2]).run_id == runs[2]  # also the beginning of another


def test_a_run_that_is_not_there_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run latest") as none:
        find_manifest(tmp_path, "latest")
    assert str(none.value.found).startswith("no runs in")
    assert none.value.fix is None
    for run_id in ("2025-10-28-000000-ffff", "2025-10-28-000001-0000"):
        opened(tmp_path, run_id)
    with pytest.raises(UsageError, match="2 runs begin with '2025-10'") as two:
        find_manifest(tmp_path, "2025-10")
    assert two.value.found == "2025-10-28-000000-ffff, 2025-10-28-000001-0000"
    with pytest.raises(UsageError, match="there is no run") as typo:
        find_manifest(tmp_path, "2025-10-28-000000-fffe")
    assert typo.value.fix == "nexa runs show 2025-10-28-000000-ffff"


def test_a_second_as_the_specification_writes_it_names_the_run_of_it(tmp_path: Path) -> None:
    ManifestFile.open(tmp_path, RunManifest(run_id=RUN_ID, run_type="train"))
    assert find_manifest(tmp_path, "2025-10-28_141200").run_id == RUN_ID
    with pytest.raises(UsageError, match="there is no run 2025-10-28-141201"):
        find_manifest(tmp_path, "2025-10-28_141201")
