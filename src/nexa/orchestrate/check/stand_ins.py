"""Records that stand in for what training and generation have not made yet.

They live in a store of their own in scratch, which is deleted with the rehearsal: nothing here is
evidence, and no step of a real run can find it. Where a step can run it does (merge, score,
analyze, publish); only the checkpoint and the answers are made up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa.core.config import Config
from nexa.core.identity import fingerprint, sha256_file
from nexa.core.records import (
    AnswersBody,
    Artifact,
    CheckpointBody,
    Draft,
    ExportBody,
    ModelRef,
    SuiteBody,
)
from nexa.core.scoring import read_rows, write_rows
from nexa.core.store import Store
from nexa.eval.likelihood import blank_answer
from nexa.eval.tasks.table import frozen_task
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.orchestrate import plan
from nexa.orchestrate.provenance import opening_facts
from nexa.orchestrate.runner import run_step
from nexa.publish.hub_folder import HubFolder
from nexa.publish.publish import PublishSpec
from nexa.train.spec import TrainSpec, resolve_precision

NAME = "rehearsal"
REPO = "rehearsal/model"  # where config.yaml names none
SIDES = ("base", "tuned")
NO_DIGEST = "0" * 64


class StandIns:
    """The records of one rehearsal: `real` is the project's store, only read; `store` is filled."""

    def __init__(self, base: ModelFiles, real: Store, store: Store, scratch: Path) -> None:
        self.base = base
        self.store = store
        self._real = real
        self._scratch = scratch

    def checkpoint(
        self,
        spec: TrainSpec,
        chat: ChatTemplate,
        folder: Path,
        layers: list[str],
        *,
        parameters: int,
    ) -> Artifact[CheckpointBody]:
        """A checkpoint of the files in `folder`, as the training would have left them."""
        adapter = spec.adapter
        weights = next(path for path in folder.iterdir() if path.suffix == ".safetensors")
        body = CheckpointBody(
            base=self.base.ref,
            method=spec.method,
            rank=adapter.rank if adapter else None,
            alpha=adapter.alpha if adapter else None,
            variant=adapter.variant if adapter else None,
            plus_ratio=adapter.plus_ratio if adapter else None,
            quantization=spec.quantize.scheme if spec.quantize else None,
            double_quantization=spec.quantize.double if spec.quantize else None,
            target_modules=sorted({name.rsplit(".", 1)[-1] for name in layers}),
            engine=NAME,
            precision=resolve_precision(spec.precision),
            seed=spec.seed,
            epochs=0.0,
            steps=0,
            rows=0,
            tokens_trained=0,
            label_tokens=0,
            trainable_parameters=parameters,
            first_loss=0.0,
            final_loss=0.0,
            epoch_losses=[0.0],
            template_sha256=chat.sha256,
            mask_sha256=NO_DIGEST,
            end_of_turn=list(chat.end_of_turn),
            weights_sha256=sha256_file(weights),
        )
        none = {"losses.jsonl": b"", "resolved.json": b"{}"}
        files = {path.name: path for path in sorted(folder.iterdir())}
        return self._seal("finetune", Draft("checkpoint", NAME, body, {**files, **none}))

    def publication(
        self, config: Config, records: Mapping[str, Artifact[Any]], chat: ChatTemplate
    ) -> dict[str, Path]:
        """Publish into a folder in scratch, by the real step; returns the published files.

        `records` has the real dataset and suite, and what stands in: checkpoint, export, and the
        GGUF files that were made of that.
        """
        suite, dataset = self._take(records["suite"]), self._take(records["dataset"])
        checkpoint = self._seal_again(records["checkpoint"], dataset)
        export = self._seal_again(records["export"], checkpoint)
        made: dict[str, Artifact[Any]] = {
            "suite": suite,
            "dataset": dataset,
            "checkpoint": checkpoint,
            "export": export,
        }
        ggufs = {name: made for name, made in records.items() if name.startswith("gguf")}
        made |= {name: self._seal_again(gguf, export) for name, gguf in ggufs.items()}
        for side in SIDES:
            made |= self._answered(side, suite, export, chat)
        made["report"], _ = run_step(
            "analyze",
            plan.analyze(config, NAME),
            {
                "suite": suite,
                "dataset": dataset,
                "base": made["base_scores"],
                "tuned": made["tuned_scores"],
            },
            store=self.store,
        )
        return self._published(config, made)

    def _published(self, config: Config, made: dict[str, Artifact[Any]]) -> dict[str, Path]:
        section = config.publish
        hub = HubFolder(self._scratch / "hub")
        spec = PublishSpec(
            repo=section.repo if section else REPO,
            target=hub,
            scratch=self._scratch,
            model_card=section.model_card if section else True,
            merge_adapters=section.merge_adapters if section else True,
            format=section.format if section else "safetensors",
        )
        facts = opening_facts(
            datetime.now(UTC), run_type="train", config_path=None, ledger=self._scratch
        )
        manifest = facts.model_dump(mode="json", by_alias=True)
        published, _ = run_step(
            "publish", spec, made, store=self.store, effects={"manifest": manifest}
        )
        return {name: self.store.path(published, name) for name in published.files}

    def _answered(
        self,
        side: str,
        suite: Artifact[SuiteBody],
        export: Artifact[ExportBody],
        chat: ChatTemplate,
    ) -> dict[str, Artifact[Any]]:
        """The same empty answer to every question, and its real scores."""
        questions = read_rows(self.store.path(suite, "prompts.jsonl").read_bytes())
        task = frozen_task(suite.body)
        rows = [
            {"id": row["id"], **blank_answer(task, row["target"]), "latency_s": 0.0}
            for row in questions
        ]
        label = export.label
        ref = (
            self.base.ref
            if side == "base"
            else ModelRef(name=label, origin=label, digest=export.body.model_digest)
        )
        body = AnswersBody(
            model=ref,
            suite_digest=suite.digest,
            rows=len(rows),
            decoding={"method": NAME},
            stopped=len(rows),
            new_tokens=len(rows),
            template_sha256=chat.sha256,
            first_prompt_sha256=NO_DIGEST,
            general_cross_entropy=0.0,
        )
        draft = Draft("answers", f"{NAME}-{side}", body, {"answers.jsonl": write_rows(rows)})
        parents: dict[str, Artifact[Any]] = {"suite": suite}
        answers = self._seal(
            "generate", draft, **parents, **({} if side == "base" else {"export": export})
        )
        scores, _ = run_step(
            "score",
            plan.score(f"{NAME}-{side}", run_code=True),  # an empty answer has no code
            {"suite": suite, "answers": answers},
            store=self.store,
        )
        return {f"{side}_answers": answers, f"{side}_scores": scores}

    # -- into the store in scratch -------------------------------------------------------

    def _take(self, artifact: Artifact[Any]) -> Artifact[Any]:
        """A copy of a real record, and of all that it grew from, under the same digest."""
        for parent in artifact.inputs.values():
            self._take(self._real.by_digest(parent))
        folder = self._real.checkout(artifact, self._scratch / "taken" / artifact.digest)
        files = {name: folder / name for name in artifact.files}
        return self.store.seal(
            Draft(artifact.kind, artifact.name, artifact.body, files),
            step=artifact.step,
            fingerprint=artifact.fingerprint,
            inputs=artifact.inputs,
        )

    def _seal_again(self, artifact: Artifact[Any], parent: Artifact[Any]) -> Artifact[Any]:
        """A record of this store as one that grew from `parent`."""
        folder = self.store.checkout(artifact, self._scratch / "again" / artifact.digest)
        files = {name: folder / name for name in artifact.files}
        draft = Draft(artifact.kind, artifact.name, artifact.body, files)
        return self._seal(str(artifact.step["name"]), draft, **{parent.kind: parent})

    def _seal(self, step: str, draft: Draft[Any], **inputs: Artifact[Any]) -> Artifact[Any]:
        """Seal under a step's name; the fingerprint says that it is a stand-in."""
        digests = {role: artifact.digest for role, artifact in inputs.items()}
        recipe = fingerprint(f"{NAME}:{step}", 1, json.loads(draft.body.model_dump_json()), digests)
        return self.store.seal(
            draft, step={"name": step, "version": 1}, fingerprint=recipe, inputs=digests
        )
