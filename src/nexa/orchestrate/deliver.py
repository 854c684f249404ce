"""What a run leaves behind: the user's folder, the durable copies, and the six deliverables.

checkpoint, manifest, leaderboard entry, evaluation report, cost breakdown, lineage proof: each is
printed at the end of a run and named in its manifest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes, sha256_file
from nexa.core.lineage import walk
from nexa.core.records import Artifact
from nexa.core.safety import summary_of_tuned
from nexa.core.tiers import Tiers
from nexa.lm.resolve import ModelFiles
from nexa.orchestrate.leaderboards import board_place, enter
from nexa.orchestrate.output import CARD, write_output
from nexa.orchestrate.plan import place
from nexa.orchestrate.run_state import Run
from nexa.ui.report import read_page, write_report

REPORTS = "evals/reports"


def commit_dataset(tiers: Tiers, dataset: Artifact[Any]) -> str:
    """The dataset's files under their readable names in durable storage."""
    return tiers.commit(_blobs(tiers, dataset), f"datasets/{dataset.name}/{dataset.version}")


def deliver(run: Run, base: ModelFiles) -> None:
    """Commit the checkpoint to durable storage, then give the user the model folder."""
    checkpoint, export = run.made["checkpoint"], run.made["export"]
    durable = run.tiers.commit(_blobs(run.tiers, checkpoint), f"checkpoints/{run.run_id}")
    weights = "adapter_model.safetensors"
    run.ledger.amend(
        checkpoint_dir_durable=durable,
        best_checkpoint=weights if weights in checkpoint.files else "model.safetensors",
    )
    folder = place(run.tiers.root, run.config.training.output_dir)
    files = _blobs(run.tiers, export) | {
        f"adapter/{name}": path
        for name, path in _blobs(run.tiers, checkpoint).items()
        if name.startswith("adapter_")
    }
    write_output(folder, files, _final_model(run, base))
    run.ledger.amend(output_dir=str(folder), digests={"final_model": sha256_file(folder / CARD)})


def finish(run: Run) -> None:
    """Report, leaderboard entry, cost and lineage; then the manifest knows where all six are."""
    manifest = run.ledger.manifest
    today = datetime.now(UTC).date()
    board = board_place(today)
    report = f"{REPORTS}/{run.run_id}.html"
    deliverables = {
        "checkpoint": manifest.checkpoint_dir_durable or "",
        "manifest": str(run.ledger.path),
        "leaderboard": run.tiers.durable_place(board),
        "report": run.tiers.durable_place(report),
        "cost": run.tiers.durable_place(f"costs/{run.run_id}.json"),
        "lineage": run.tiers.durable_place(f"lineage/{run.run_id}.json"),
    }
    run.ledger.amend(deliverables=deliverables, eval_report=deliverables["leaderboard"])
    facts = run.ledger.manifest.model_dump(mode="json", by_alias=True)
    page = run.scratch / "report.html"
    write_report(page, read_page(run.made, facts, run.tiers.store))
    enter(run, today)
    left = {
        "report": (report, page.read_bytes()),
        "cost": (f"costs/{run.run_id}.json", canonical_json(facts["cost"])),
        "lineage": (f"lineage/{run.run_id}.json", canonical_json(_lineage(run))),
    }
    for name, data in left.values():
        run.tiers.write(data, name)
    digests = {role: sha256_bytes(data) for role, (_, data) in left.items()}
    run.ledger.amend(digests={**run.ledger.manifest.digests, **digests})
    for name, address in deliverables.items():
        emit("deliverable", name=name, address=address)


def _final_model(run: Run, base: ModelFiles) -> dict[str, Any]:
    """What final_model.json tells of the model beside it."""
    checkpoint, report = run.made["checkpoint"].body, run.made["report"].body
    return {
        "run_id": run.run_id,
        "base": base.ref.model_dump(mode="json"),
        "base_revision": base.origin.partition("@")[2] or None,
        "method": checkpoint.method,
        "rank": checkpoint.rank,
        "alpha": checkpoint.alpha,
        "dataset": run.made["dataset"].label,
        "data_digest": run.made["dataset"].digest,
        "epochs": checkpoint.epochs,
        "epoch_losses": checkpoint.epoch_losses,
        "verdict": report.verdict,
        "scores": summary_of_tuned(report),
        "records": {role: artifact.digest for role, artifact in sorted(run.made.items())},
    }


def _lineage(run: Run) -> list[dict[str, Any]]:
    """The proof as data: every record from the report back to source files and base model."""
    return [
        {
            "depth": node.depth,
            "role": node.role,
            "label": node.label,
            "step": node.step,
            "digest": node.digest,
        }
        for node in walk(run.made["report"], run.tiers.store)
    ]


def _blobs(tiers: Tiers, artifact: Artifact[Any]) -> dict[str, Path]:
    return {name: tiers.store.path(artifact, name) for name in artifact.files}
