"""The records that layers meet through: one frozen, versioned body for each sealed kind.

A step returns a `Draft`; only the runner (`nexa.orchestrate.run`) seals it into an `Artifact`,
adding the step's name, the fingerprint of the recipe and the digests of the inputs. So no layer
can forge lineage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from nexa.core.errors import IntegrityError
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.record_base import Body, Interval, ModelRef, is_none
from nexa.core.records_eval import (
    AgreementBody,
    AnswersBody,
    Comparison,
    CriterionAgreement,
    DecisionBody,
    Figure,
    JudgementsBody,
    JudgeSeal,
    ReportBody,
    Safety,
    ScoresBody,
    Slice,
    Spent,
    SuiteBody,
    WeaknessBody,
)

__all__ = [
    "KINDS",
    "SCHEMA",
    "AdoptedBody",
    "AgreementBody",
    "AnswersBody",
    "Artifact",
    "Body",
    "CheckpointBody",
    "Comparison",
    "CriterionAgreement",
    "DatasetBody",
    "DecisionBody",
    "Draft",
    "ExportBody",
    "Figure",
    "Interval",
    "JudgeSeal",
    "JudgementsBody",
    "ModelRef",
    "PublicationBody",
    "ReportBody",
    "Safety",
    "ScoresBody",
    "Slice",
    "Spent",
    "SplitInfo",
    "SuiteBody",
    "SyntheticBody",
    "Variant",
    "WeaknessBody",
]

SCHEMA = "nexa.record/1"

Variant = Literal["rslora", "dora", "dora+rslora"]
VARIANT = "what the adapter is more than LoRA; null: plain LoRA, or no adapter"


class SplitInfo(Body):
    """One split of a dataset."""

    rows: int = Field(description="rows in it")
    digest: str = Field(description="sha256 over the sorted row ids")


class DatasetBody(Body):
    """Rows ready to train on. Files: `<split>.parquet`, `lineage.jsonl`, `rejects.jsonl`."""

    dataset_id: str = Field(description="its public name")
    format: str = Field(description="the format that was detected or asked for")
    sources: dict[str, str] = Field(description="file name -> sha256 of its bytes")
    splits: dict[str, SplitInfo] = Field(description="train, eval")
    rows_read: int = Field(description="rows in the sources")
    dropped: dict[str, int] = Field(description="reason -> rows left out")
    domains: dict[str, int] = Field(default_factory=dict, description="domain -> rows kept")
    length_quantiles: dict[str, int] = Field(
        default_factory=dict, description="tokens a row: p50 p90 p95 p99 max"
    )
    max_length: int = Field(default=0, description="tokens; chosen from the quantiles or given")
    template_sha256: str = Field(
        default="", description="chat template the lengths were taken under"
    )
    content_sha256: str | None = Field(
        default=None,
        description="sha256 over the rows of all splits but for where they stood, and over what "
        "was left out; versions of a name with the same inputs differ in it",
        exclude_if=is_none,
    )
    mended: dict[str, int] | None = Field(
        default=None,
        description="reason -> rows kept in another form than their source has",
        exclude_if=is_none,
    )

    @property
    def lengths_told(self) -> str:
        """Tokens a row in one line, the shortest first: `p50 142, p90 157, ...`; "" if unknown."""
        ordered = sorted(self.length_quantiles.items(), key=lambda item: item[1])
        return ", ".join(f"{name} {tokens}" for name, tokens in ordered)


class SyntheticBody(Body):
    """Rows that a teacher wrote.

    Files: `rows.jsonl` (the rows, each with its teacher and its parents), `requests.jsonl` (one a
    request: digest, model, tokens, cost, latency), `rejects.jsonl` (what gave no row, and why).
    """

    method: str = Field(description="distill, or a method of augment, e.g. self_instruct")
    teacher: str = Field(description="what the user calls it")
    identity: dict[str, Any] = Field(
        description="what tells its answers from another's: provider, model id or digest, and the "
        "endpoint, one of the user's own as its sha256"
    )
    served: list[str] = Field(description="what the server said that it ran")
    templates: dict[str, str] = Field(
        description="name-vN -> sha256 of each prompt template; none: prompts went as they are"
    )
    sources: dict[str, str] = Field(description="files of prompts or documents -> sha256")
    seed: int = Field(description="of which rows are taken, and of the sampling")
    requested: int = Field(description="requests")
    answered: int = Field(description="those that were answered")
    cached: int = Field(description="those whose answer was there already")
    failed: int = Field(description="those without an answer")
    repaired: int = Field(description="answers that were read only after what stood around them")
    unparsable: int = Field(description="answers that were not what was asked for")
    rejected: dict[str, int] = Field(description="reason -> prompts and answers without a row")
    rows: int = Field(description="rows")
    input_tokens: int = Field(description="of all answered requests")
    output_tokens: int = Field(description="of all answers")
    cost_usd: float | None = Field(description="of all answers; null: the price is not known")
    price_source: str | None = Field(description="who names the price")


class CheckpointBody(Body):
    """A trained model.

    Files: `adapter_model.safetensors` and `adapter_config.json` (LoRA) or `model.safetensors`
    (full), `resolved.json`, `losses.jsonl`.
    """

    base: ModelRef = Field(description="what was trained")
    method: Literal["lora", "full"] = Field(description="adapter or all weights")
    rank: int | None = Field(default=None, description="of the adapter")
    alpha: float | None = Field(
        default=None,
        description="of the adapter; its scale is alpha / rank, of rsLoRA alpha / sqrt(rank)",
    )
    variant: Variant | None = Field(default=None, description=VARIANT, exclude_if=is_none)
    plus_ratio: float | None = Field(
        default=None,
        description="of LoRA+: the learning rate of B over that of A",
        exclude_if=is_none,
    )
    quantization: Literal["nf4"] | None = Field(
        default=None,
        description="the form the frozen base was trained on and merged in; null: its own dtype",
        exclude_if=is_none,
    )
    double_quantization: bool | None = Field(
        default=None,
        description="whether the scales of that form were quantised too",
        exclude_if=is_none,
    )
    target_modules: list[str] = Field(
        default_factory=list, description="names of the linear layers that were adapted"
    )
    engine: str = Field(description="the executor that ran, and why")
    precision: str = Field(description="dtype of the forward pass")
    seed: int = Field(description="of data order, adapter and dropout")
    epochs: float = Field(description="passes over the rows")
    steps: int = Field(description="optimiser steps")
    rows: int = Field(description="rows trained on")
    tokens_trained: int = Field(description="tokens that went through the model")
    label_tokens: int = Field(description="tokens that bore loss")
    trainable_parameters: int = Field(description="numbers that could move")
    first_loss: float = Field(description="nats a label token, first step")
    final_loss: float = Field(description="mean loss of the last epoch")
    epoch_losses: list[float] = Field(description="mean of each epoch")
    stopped: str | None = Field(
        default=None, description="why the training ended before its last step, and after which"
    )
    best_step: int | None = Field(
        default=None, description="the step whose weights these are, where the best are selected"
    )
    rollbacks: list[str] = Field(
        default_factory=list, description="returns to an earlier step, because of a loss spike"
    )
    validation_rows: int = Field(
        default=0, description="rows kept out of the training split to measure by"
    )
    template_sha256: str = Field(description="of the chat template")
    mask_sha256: str = Field(description="sha256 over the rows' token ids and loss masks")
    end_of_turn: list[int] = Field(description="token ids that end an answer")
    weights_sha256: str = Field(description="of the file with the trained weights")


class AdoptedBody(Body):
    """A model that Nexa did not train, as it was found; in a lineage it stands for a checkpoint.

    Files: `adapter_model.safetensors` and `adapter_config.json` of an adapter; none of a whole
    model, whose files are the export's. An adapter that was merged from others is one too: its
    record has them as inputs, and `parity.json` among its files.
    """

    base: ModelRef = Field(description="what it is compared with, and an adapter is merged into")
    base_named_by: str = Field(description="--base-model, or the file that names it")
    method: Literal["lora", "full"] = Field(description="an adapter, or a whole model")
    rank: int | None = Field(default=None, description="of the adapter")
    alpha: float | None = Field(
        default=None,
        description="of the adapter; its scale is alpha / rank, of rsLoRA alpha / sqrt(rank)",
    )
    variant: Variant | None = Field(default=None, description=VARIANT, exclude_if=is_none)
    ranks: list[int] | None = Field(
        default=None, description="where layers differ: every rank", exclude_if=is_none
    )
    alphas: list[float] | None = Field(
        default=None, description="where layers differ: every alpha", exclude_if=is_none
    )
    target_modules: list[str] = Field(
        default_factory=list, description="names of the linear layers that are adapted"
    )
    found: dict[str, str] = Field(description="file name -> sha256, as they lay in the folder")
    left_out: list[str] = Field(description="other files of the folder, which are not published")
    trainer_step: int | None = Field(
        default=None, description="by the word of the Trainer that saved it"
    )
    template_sha256: str = Field(description="of the chat template it is asked under")
    end_of_turn: list[int] = Field(description="token ids that end an answer")
    weights_sha256: str = Field(description="of the adapter's file, or the whole model's digest")
    recipe: dict[str, Any] | None = Field(
        default=None,
        description="of an adapter that adapters were merged into: method and numbers",
        exclude_if=is_none,
    )
    parity: dict[str, Any] | None = Field(
        default=None,
        description="of such an adapter: the numbers of parity.json",
        exclude_if=is_none,
    )


class ExportBody(Body):
    """Weights in a form others load, and `parity.json`.

    Files: of safetensors a whole model folder; of GGUF the one `.gguf` file and a `Modelfile`.
    """

    format: Literal["safetensors", "gguf"] = Field(description="file format of the weights")
    dtype: str = Field(description="of the stored weights; of GGUF its quantisation, e.g. `q4_k_m`")
    base: ModelRef = Field(
        description="what the adapter was merged into; of a merge of models its base or its first "
        "model, of a conversion the base of what was converted, or that model itself"
    )
    parents: list[ModelRef] | None = Field(
        default=None, description="the models that were merged, in order", exclude_if=is_none
    )
    recipe: dict[str, Any] | None = Field(
        default=None, description="how they were merged: method and numbers", exclude_if=is_none
    )
    model_digest: str = Field(
        description="digest of the exported model's files, as ModelRef.digest"
    )
    parity: dict[str, Any] = Field(description="the numbers of parity.json")
    passed: bool = Field(description="whether it behaves as the model it came from")


class PublicationBody(Body):
    """What was published, where. Files: those of the published folder."""

    repo: str = Field(description="owner/name")
    hub: str = Field(description="local, or a Hub's address")
    location: str = Field(description="folder or address of what was published")
    root: str = Field(description="the digest printed at publication; `nexa verify --expect`")


KINDS: dict[str, type[Body]] = {
    "suite": SuiteBody,
    "synthetic": SyntheticBody,
    "dataset": DatasetBody,
    "checkpoint": CheckpointBody,
    "adopted": AdoptedBody,
    "export": ExportBody,
    "answers": AnswersBody,
    "judgements": JudgementsBody,
    "agreement": AgreementBody,
    "scores": ScoresBody,
    "report": ReportBody,
    "weakness": WeaknessBody,
    "decision": DecisionBody,
    "publication": PublicationBody,
}

B = TypeVar("B", bound=Body)
B_co = TypeVar("B_co", bound=Body, covariant=True)


@dataclass(frozen=True)
class Draft(Generic[B_co]):
    """What a step made, before the runner seals it.

    `files` maps the name inside the artifact to bytes, or to a path that the step wrote in
    scratch. `name` is the artifact's public name; the version is the store's to give.

    `own` is a folder in which the step wrote every file itself and will write no more: what lies
    there is moved into the store, where anything else is copied. `digests` are the sha256 of files
    there that the step has read already: the store does not read them once more.
    """

    kind: str
    name: str
    body: B_co
    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    own: Path | None = None
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact(Generic[B_co]):
    """A sealed record. `digest` is over everything but `name` and `version`, which are labels."""

    kind: str
    name: str
    version: str
    body: B_co
    files: Mapping[str, str]
    inputs: Mapping[str, str]
    step: Mapping[str, Any]
    fingerprint: str
    schema: str = SCHEMA

    @property
    def label(self) -> str:
        """The public name: `dataset/materials@v2`."""
        return f"{self.kind}/{self.name}@{self.version}"

    @cached_property
    def digest(self) -> str:
        """sha256 of the canonical record without its labels."""
        record = self.to_json()
        del record["name"], record["version"]
        return sha256_bytes(canonical_json(record))

    def to_json(self) -> dict[str, Any]:
        """The record as plain data, in the one shape that every kind shares."""
        return {
            "schema": self.schema,
            "kind": self.kind,
            "name": self.name,
            "version": self.version,
            "body": self.body.model_dump(mode="json"),
            "files": dict(self.files),
            "inputs": dict(self.inputs),
            "step": dict(self.step),
            "fingerprint": self.fingerprint,
        }

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Artifact[Any]:
        """Read a record back.

        Raises:
            IntegrityError: another schema, an unknown kind or a body that does not fit.
        """
        try:
            if record["schema"] != SCHEMA:
                raise ValueError(f"schema {record['schema']!r}, expected {SCHEMA!r}")
            if outside := [file for file in record["files"] if not _stays_inside(file)]:
                raise ValueError(f"the file name {outside[0]!r} leads out of the artifact's folder")
            return Artifact(
                kind=record["kind"],
                name=record["name"],
                version=record["version"],
                body=KINDS[record["kind"]].model_validate(record["body"]),
                files=record["files"],
                inputs=record["inputs"],
                step=record["step"],
                fingerprint=record["fingerprint"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                "this is not a record that nexa wrote", found=f"{type(error).__name__}: {error}"
            ) from error


def _stays_inside(file: str) -> bool:
    """Whether a file name is relative and climbs nowhere; a foreign record could name any."""
    path = PurePosixPath(file)
    return not path.is_absolute() and ".." not in path.parts
