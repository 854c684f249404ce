from __future__ import annotations

import json
import re
from pathlib import Path

import fsspec
import pytest

from nexa.core.identity import sha256_bytes, sha256_file
from nexa.orchestrate.deliver import commit_dataset
from nexa.ui import leaderboard
from tests.support.project import Finished, finish, train, write_config

SIX = ("checkpoint", "manifest", "leaderboard", "report", "cost", "lineage")


def test_all_six_deliverables_are_where_the_manifest_says(finished: Finished) -> None:
    manifest = finished.manifest
    assert tuple(manifest.deliverables) == SIX
    for name, address in manifest.deliverables.items():
        assert Path(address).exists(), name
    told = {e["name"]: e["address"] for e in finished.events if e["kind"] == "deliverable"}
    assert told == manifest.deliverables
    assert manifest.checkpoint_dir_durable == manifest.deliverables["checkpoint"]
    assert manifest.eval_report == manifest.deliverables["leaderboard"]
    assert manifest.output_dir == str(finished.root / "output")


def test_the_checkpoint_is_committed_whole_and_its_marker_says_so(finished: Finished) -> None:
    folder = Path(finished.manifest.deliverables["checkpoint"])
    assert folder.name == finished.manifest.run_id
    digests = json.loads((folder / "COMMITTED.json").read_text())["files"]
    assert finished.manifest.best_checkpoint in digests
    assert {name: sha256_file(folder / name) for name in digests} == digests
    checkpoint = finished.tiers.store.by_digest(finished.manifest.outputs["checkpoint"])
    assert digests == checkpoint.files


def test_the_leaderboard_has_base_and_tuned_by_every_metric(finished: Finished) -> None:
    board = leaderboard.read(Path(finished.manifest.deliverables["leaderboard"]))
    report = finished.tiers.store.by_digest(finished.manifest.outputs["report"]).body
    means = {(entry.role, entry.metric): entry.mean for entry in board}
    assert means == {("base", name): i.mean for name, i in report.base.items()} | {
        ("tuned", name): i.mean for name, i in report.tuned.items()
    }
    assert {entry.run_id for entry in board} == {finished.manifest.run_id}


def test_a_second_run_enters_its_model_on_the_same_board(
    project: Finished, tiny_llama: Path
) -> None:
    before = leaderboard.read_all(Path(project.tiers.durable_place("evals/reports")))
    train(write_config(project.root, tiny_llama, training={"seed": 3}))
    after = leaderboard.read_all(Path(project.tiers.durable_place("evals/reports")))
    models = {entry.model_digest for entry in after}
    assert len(models) == len({entry.model_digest for entry in before}) + 1


def test_the_report_is_one_page_that_asks_nothing_of_the_network(finished: Finished) -> None:
    page = Path(finished.manifest.deliverables["report"]).read_text()
    assert page.startswith("<!doctype html>")
    assert finished.manifest.run_id in page
    assert str(finished.manifest.verdict) in page.lower()
    assert "<script" not in page
    assert re.findall(r"(?:src|href)=\"https?://", page) == []


def test_the_cost_breakdown_is_the_manifest_s(finished: Finished) -> None:
    cost = json.loads(Path(finished.manifest.deliverables["cost"]).read_text())
    assert finished.manifest.cost is not None
    assert cost == finished.manifest.cost.model_dump(mode="json")
    assert set(cost) >= {
        *("start_time", "end_time", "gpu_type", "provider", "cost_per_hour_usd"),
        *("cost_total_usd", "tokens", "usd_per_point"),
    }


def test_the_lineage_proof_leads_from_the_report_to_files_and_model(finished: Finished) -> None:
    proof = json.loads(Path(finished.manifest.deliverables["lineage"]).read_text())
    assert proof[0]["digest"] == finished.manifest.outputs["report"]
    ends = {node["label"]: node["digest"] for node in proof if node["step"] == "file"}
    assert ends == {
        name: sha256_bytes((finished.root / name).read_bytes())
        for name in ("train.jsonl", "eval.jsonl")
    }
    assert {node["label"] for node in proof if node["step"] == "model"} == {"tiny-llama (folder)"}


def test_a_dataset_is_committed_under_its_public_name(finished: Finished) -> None:
    dataset = finished.tiers.store.by_digest(finished.manifest.outputs["dataset"])
    address = commit_dataset(finished.tiers, dataset)
    assert address == finished.tiers.durable_place("datasets/elements/v1")
    assert (Path(address) / "train.parquet").stat().st_size > 0


def test_durable_storage_may_be_somewhere_else(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXA_DURABLE", "memory://nexa-test-deliver")
    run = finish(tmp_path, tiny_llama)
    system = fsspec.filesystem("memory")
    for name, address in run.manifest.deliverables.items():
        there = Path(address).exists() if name == "manifest" else system.exists(address)
        assert there, name
    run_id = run.manifest.run_id
    ledger = (run.tiers.manifests / f"{run_id}.json").read_bytes()
    assert system.cat_file(f"/nexa-test-deliver/manifests/{run_id}.json") == ledger
    assert not (tmp_path / ".nexa" / "durable").exists()
