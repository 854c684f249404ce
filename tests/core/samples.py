"""Small true records for the tests of core."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nexa.core.identity import fingerprint, sha256_bytes
from nexa.core.records import (
    AnswersBody,
    Artifact,
    CheckpointBody,
    DatasetBody,
    Draft,
    ModelRef,
    SplitInfo,
    SuiteBody,
)
from nexa.core.store import Store

MODEL = ModelRef(name="tiny", origin="folder", digest=sha256_bytes(b"weights of tiny"))


def suite_body(**changes: Any) -> SuiteBody:
    """A suite of four rows."""
    fields: dict[str, Any] = {
        "task": "json_record",
        "rows": 4,
        "groups": 2,
        "domains": {"metals": 4},
        "metrics": ["exact"],
        "primary": "exact",
        "max_new_tokens": 16,
    }
    return SuiteBody(**{**fields, **changes})


def dataset_body(**changes: Any) -> DatasetBody:
    """A dataset read from one file."""
    fields: dict[str, Any] = {
        "dataset_id": "metals",
        "format": "spec",
        "sources": {"metals.jsonl": sha256_bytes(b"rows")},
        "splits": {"train": SplitInfo(rows=4, digest=sha256_bytes(b"ids"))},
        "rows_read": 5,
        "dropped": {"duplicate": 1},
    }
    return DatasetBody(**{**fields, **changes})


def checkpoint_body() -> CheckpointBody:
    """A checkpoint of one epoch."""
    return CheckpointBody(
        base=MODEL,
        method="lora",
        rank=4,
        alpha=8.0,
        engine="generic",
        precision="float32",
        seed=0,
        epochs=1.0,
        steps=2,
        rows=4,
        tokens_trained=100,
        label_tokens=40,
        trainable_parameters=512,
        first_loss=2.5,
        final_loss=2.0,
        epoch_losses=[2.25],
        template_sha256=sha256_bytes(b"template"),
        mask_sha256=sha256_bytes(b"mask"),
        end_of_turn=[2],
        weights_sha256=sha256_bytes(b"adapter"),
    )


def answers_body() -> AnswersBody:
    """Four answers of the base model."""
    return AnswersBody(
        model=MODEL,
        suite_digest=sha256_bytes(b"suite"),
        rows=4,
        decoding={"dtype": "float32", "batch_size": 4, "temperature": 0.0},
        stopped=3,
        new_tokens=50,
        template_sha256=sha256_bytes(b"template"),
        first_prompt_sha256=sha256_bytes(b"prompt"),
        general_cross_entropy=3.25,
    )


def seal(
    store: Store,
    *,
    kind: str = "suite",
    name: str = "metals",
    body: Any = None,
    files: Mapping[str, bytes | Path] | None = None,
    inputs: Mapping[str, str] | None = None,
    recipe: str | None = None,
) -> Artifact[Any]:
    """Seal a draft as the runner would; `recipe` stands for the spec."""
    files = {"prompts.jsonl": b"{}\n"} if files is None else files
    body = suite_body() if body is None else body
    given = dict(inputs or {})
    recipe = fingerprint("freeze", 1, recipe or f"{kind} {name} {files} {body}", given)
    step = {"name": "freeze", "version": 1}
    return store.seal(Draft(kind, name, body, files), step=step, fingerprint=recipe, inputs=given)
