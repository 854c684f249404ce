"""The chain of `tests.support.chain` for a model that Nexa did not train: adopted, not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nexa.core.manifest import RunManifest
from nexa.core.records import Artifact, Draft, ExportBody, ReportBody
from nexa.core.safety import summary_of_tuned
from nexa.core.scoring import Side, derive_report, read_rows
from nexa.core.store import Store
from nexa.lm.folder import ADAPTER_FILES, digest
from nexa.lm.resolve import ModelFiles, resolve
from nexa.weights.adopt import AdoptSpec, adopt
from nexa.weights.merge_adapter import MergeSpec, merge_adapter
from nexa.weights.take import TakeSpec, take
from tests.support.chain import (
    SEAL,
    Chain,
    answers_draft,
    rules_of,
    scores_draft,
    seal,
    suite_draft,
)
from tests.support.foreign import full_model, peft_adapter


def build_adopted(folder: Path, model: Path, *, full: bool = False) -> Chain:
    """Everything from an adopted model to a report, in `folder`, on the tiny model in `model`."""
    store, base = Store(folder / "store"), resolve(str(model))
    suite = seal(store, "freeze", suite_draft())
    checkpoint, export = _whole(store, base, folder) if full else _merged(store, base, folder)
    tuned = base.ref.model_copy(
        update={"name": export.label, "origin": export.label, "digest": export.body.model_digest}
    )
    records = {"suite": suite, "checkpoint": checkpoint, "export": export}
    for side, ref in (("base", base.ref), ("tuned", tuned)):
        right = side == "tuned"
        answered = answers_draft(side, ref, suite, checkpoint.body.template_sha256, right)
        answers = seal(store, "generate", answered, ref, suite=suite)
        scored = scores_draft(side, suite, answers, right, answered)
        scores = seal(store, "score", scored, suite=suite, answers=answers)
        records |= {f"{side}_answers": answers, f"{side}_scores": scores}
    sides = {"base": records["base_scores"], "tuned": records["tuned_scores"]}
    records["report"] = seal(store, "analyze", _report(store, records), suite=suite, **sides)
    return Chain(store, base, records, _manifest(records))


def _merged(store: Store, base: ModelFiles, folder: Path) -> tuple[Artifact[Any], Artifact[Any]]:
    adapter = peft_adapter(folder / "theirs", base.folder)
    found = {name: digest(adapter / name) for name in ADAPTER_FILES}
    spec = AdoptSpec(
        base, "--base-model", found, adapter=adapter, left_out=("README.md",), trainer_step=60
    )
    checkpoint = seal(store, "adopt", adopt(spec, store=store))
    merged = merge_adapter(MergeSpec(base), checkpoint=checkpoint, store=store)
    return checkpoint, seal(store, "merge", merged, checkpoint=checkpoint)


def _whole(store: Store, base: ModelFiles, folder: Path) -> tuple[Artifact[Any], Artifact[Any]]:
    model = resolve(str(full_model(folder / "theirs", base.folder)))
    spec = AdoptSpec(base, "--base-model", model.files, model)
    checkpoint = seal(store, "adopt", adopt(spec, store=store))
    whole: Draft[ExportBody] = take(TakeSpec(model), checkpoint=checkpoint, store=store)
    return checkpoint, seal(store, "take", whole, checkpoint=checkpoint)


def _report(store: Store, records: dict[str, Artifact[Any]]) -> Draft[ReportBody]:
    base, tuned = (
        Side(
            read_rows(store.path(records[f"{side}_scores"], "scores.jsonl").read_bytes()),
            records[f"{side}_scores"].body.general_cross_entropy,
            rules_of(records[f"{side}_scores"]),
        )
        for side in ("base", "tuned")
    )
    body = derive_report(
        records["suite"].body,
        base,
        tuned,
        forgetting_limit_nats=0.3,
        contaminated_rows=None,
        seal=SEAL,
    )
    return Draft("report", "elements", body, {"report.json": body.model_dump_json().encode()})


def _manifest(records: dict[str, Artifact[Any]]) -> dict[str, Any]:
    report, checkpoint = records["report"].body, records["checkpoint"].body
    return RunManifest(
        run_id="2026-01-02-030405-abcd",
        run_type="publish",
        student_model=checkpoint.base.name,
        status="done",
        nexa_version="0.1.0",
        machine={"cpu": "two cores", "cores": 2},
        template_sha256=checkpoint.template_sha256,
        verdict=report.verdict,
        eval_summary=summary_of_tuned(report),
        outputs={role: artifact.digest for role, artifact in records.items()},
    ).model_dump(mode="json", by_alias=True)
