"""The sections of config.yaml: each key with its type, its default and its meaning."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nexa.core.config_base import Amount, Auto, Count, Positive, Section, Share
from nexa.core.config_filters import BalanceSection, FiltersAsked
from nexa.core.errors import nearest
from nexa.core.secrets import hub_endpoint
from nexa.core.units import seconds, size_bytes

SMALLEST_LIMIT = 10**6  # bytes; what is less was meant in another unit
# What GGUF calls the ways to store weights, from the largest file to the smallest.
QUANTIZATIONS = (
    *("f32", "f16", "bf16", "q8_0", "q6_k"),
    *("q5_k_m", "q5_k_s", "q5_1", "q5_0"),
    *("q4_k_m", "q4_k_s", "q4_1", "q4_0"),
    *("q3_k_l", "q3_k_m", "q3_k_s", "q2_k"),
)
# Half of a 16-bit file, and next to nothing is lost; needs no extra.
USUAL_QUANTIZATION = "q8_0"


def _memory(told: object) -> float:
    """Bytes of memory; `6` alone would be six of them."""
    found = size_bytes(told)
    if found < SMALLEST_LIMIT:
        raise ValueError("should be at least 1MB; with a unit, as in 6GB")
    return found


def _quantizations(told: object) -> tuple[str, ...]:
    """Names of `QUANTIZATIONS`: one, several, or several with commas, each once."""
    given = told if isinstance(told, list | tuple) else [told]
    words = [word for word in given if isinstance(word, str)]
    if len(words) < len(given):
        raise ValueError("should be the name of a quantisation, or a list of names")
    names = [part.strip().lower() for word in words for part in word.split(",")]
    for name in names:
        if name not in QUANTIZATIONS:
            near = nearest(name, QUANTIZATIONS)
            meant = f"did you mean {near!r}?" if near else f"known: {', '.join(QUANTIZATIONS)}"
            raise ValueError(f"{name!r} is not a quantisation of GGUF: {meant}")
    return tuple(dict.fromkeys(names))


# In seconds and in bytes, once they are read.
Span = Annotated[float, BeforeValidator(seconds), Field(gt=0)]
Memory = Annotated[int, BeforeValidator(_memory)]
Quantizations = Annotated[tuple[str, ...], BeforeValidator(_quantizations)]


class ModelSection(Section):
    """The model to start from."""

    path: str = Field(description="a folder, a .gguf file, a Hub id (org/name) or an alias")
    source: Literal["auto", "hub", "wheel"] = Field(
        default="auto", description="where an alias with two sources is taken from"
    )
    revision: str | None = Field(default=None, description="Hub revision: a branch, tag or commit")
    trust_remote_code: bool = Field(
        default=False, description="run Python code that the model's folder brings"
    )


class DataSection(Section):
    """The rows to learn from and to be judged on."""

    model_config = ConfigDict(populate_by_name=True)

    train_path: str = Field(
        validation_alias=AliasChoices("train_path", "train"),
        description="a file, a folder, or a dataset on the Hub (org/name)",
    )
    eval_path: str | None = Field(
        default=None, description="held-out rows; left out, a share of the training file is kept"
    )
    eval_fraction: Annotated[Amount, Field(lt=0.9)] = Field(
        default=0.1, description="the share that is kept for evaluation when eval_path is left out"
    )
    format: str = Field(default="auto", description="auto, or the name of a format")
    max_length: Positive | Auto = Field(
        default="auto", description="tokens a row; auto takes it from the data's quantiles"
    )
    batch_size: Positive = Field(default=8, description="rows a micro-step")
    filters: FiltersAsked = Field(
        default={},
        description="filters beside the default ones: names, or `name: {option: value}`; "
        "`name: false` leaves a default one out",
    )
    near_duplicates: Literal["drop", "keep"] = Field(
        default="drop", description="training rows that are nearly the same as an earlier one"
    )
    balance: BalanceSection | None = None


class OptimizerSection(Section):
    """How weights move."""

    name: Literal["adamw", "sgd", "adafactor", "adamw8bit"] = Field(
        default="adamw", description="adamw8bit needs the extra quant"
    )
    lr: Annotated[Amount, Field(le=1)] = Field(default=2e-4, description="peak learning rate")
    weight_decay: Share = 0.0
    betas: tuple[Share, Share] = Field(default=(0.9, 0.999), description="AdamW's two decays")
    max_grad_norm: Annotated[float, Field(ge=0, strict=True)] = Field(
        default=1.0, description="gradients are scaled down to this norm; 0 leaves them"
    )


class SchedulerSection(Section):
    """How the learning rate moves."""

    name: Literal["linear", "cosine", "constant", "wsd"] = Field(
        default="linear", description="wsd: warm-up, stable, decay"
    )
    warmup_steps: Count | None = None
    warmup_ratio: Share | None = None
    decay_ratio: Annotated[Share, Field(gt=0)] | None = Field(
        default=None, description="of wsd: the share of all steps that falls; left out: 0.2"
    )

    @field_validator("decay_ratio")
    @classmethod
    def _of_wsd(cls, ratio: float | None, info: ValidationInfo) -> float | None:
        name, warmup = info.data.get("name", "wsd"), info.data.get("warmup_ratio") or 0.0
        if ratio is not None and name != "wsd":
            raise ValueError(f"is a key of the scheduler wsd; this one is {name}")
        if ratio is not None and warmup + ratio > 1:
            raise ValueError(f"leaves no room beside warmup_ratio {warmup:g}: their sum is above 1")
        return ratio

    @model_validator(mode="after")
    def _one_warmup(self) -> SchedulerSection:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ValueError("give warmup_steps or warmup_ratio, not both")
        return self


class LoraSection(Section):
    """The low-rank adapter."""

    rank: Positive = 16
    alpha: Amount = 32
    dropout: Share = 0.0
    target_modules: Literal["all-linear"] | str | tuple[str, ...] = Field(
        default="all-linear",
        description="all-linear: every linear layer but the output head; or a list of names or "
        "their ends; or one regular expression of whole names, as in PEFT",
    )
    rslora: bool = Field(default=False, description="scale by alpha / sqrt(rank)")
    dora: bool = Field(default=False, description="learn each row's magnitude apart")
    plus_ratio: Annotated[float, Field(ge=1, strict=True)] | None = Field(
        default=None, description="LoRA+: how many times faster B learns than A"
    )


class QuantizeSection(Section):
    """How the frozen base is held in memory while an adapter is trained on it."""

    bits: Literal[4] = 4
    scheme: Literal["nf4"] = "nf4"
    double: bool = Field(default=True, description="quantise the scales too")


class EarlyStoppingSection(Section):
    """When to end before the last step: by the loss on rows kept out of the training split."""

    patience: Positive = Field(default=3, description="measurements without a better loss")
    min_delta: Annotated[float, Field(ge=0, strict=True)] = Field(
        default=0.0, description="nats a token that count as better"
    )


class ValidationSection(Section):
    """Rows kept out of the training split, to choose a checkpoint or to stop by."""

    rows: Positive = 32
    every: Positive | Auto = Field(
        default="auto", description="steps between two measurements; auto: as the checkpoints"
    )


class CheckpointsSection(Section):
    """What a killed run goes on from."""

    every: Positive | Auto = Field(
        default="auto", description="steps between two checkpoints; auto: a tenth of the run"
    )
    keep: Positive = Field(default=2, description="checkpoints that are kept; older ones go")
    select: Literal["last", "best"] = Field(
        default="last", description="best: the weights with the lowest validation loss"
    )


class TrainingSection(Section):
    """How long and with what care."""

    method: Literal["lora", "qlora", "dora", "full"] | None = Field(
        default=None,
        description="left out: qlora when there is a quantize section, lora when there is a lora "
        "section, else full",
    )
    engine: Literal["auto", "fused", "generic"] = Field(
        default="auto", description="what computes the step; auto: the faster one that can"
    )
    epochs: Amount | None = None
    max_steps: Positive | None = None
    time_budget: Span | None = Field(
        default=None, description="ends the training after so long: 90s, 30m, 2h"
    )
    gradient_accumulation: Positive = Field(default=1, description="micro-steps an optimiser step")
    micro_tokens: Positive | Auto = Field(
        default="auto", description="tokens a forward pass holds: memory, never the result"
    )
    memory_limit: Memory | None = Field(
        default=None, description="the most memory the training may take: 6GB, 800MB"
    )
    seed: Annotated[Count, Field(lt=2**32)] = 0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    checkpoints: CheckpointsSection = CheckpointsSection()
    validation: ValidationSection | None = None
    early_stopping: EarlyStoppingSection | None = None
    output_dir: str = "./output"

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSection:
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError("give epochs or max_steps, not both")
        return self


class EvalSection(Section):
    """The comparison of base and tuned."""

    rows: Positive = Field(default=64, description="held-out rows that are frozen into the suite")
    max_new_tokens: Positive = 160
    batch_size: Positive = 64
    task: str = Field(
        default="auto",
        description="how answers are scored: a task's name, a .yaml file that describes one, or "
        "FILE.py:NAME; auto infers it from the held-out answers",
    )
    metrics: tuple[str, ...] = Field(
        default=(), description="of the task, its primary one always; left out: all of them"
    )
    run_code: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="run the code of answers, confined, where the task asks for it"
    )
    forgetting_limit_nats: Amount | None = Field(
        default=None,
        description="how much the cross-entropy on general text may rise; left out: the default",
    )


class PublishSection(Section):
    """Where the model goes when a run has ended well."""

    repo: str = Field(description="owner/name")
    hub: str = Field(
        default_factory=hub_endpoint,
        description="local, a folder, or a Hub's address; left out: HF_ENDPOINT, or "
        "https://huggingface.co",
    )
    private: bool = False
    model_card: bool = True
    merge_adapters: bool = True
    format: Literal["safetensors", "gguf"] = Field(
        default="safetensors", description="of the published weights"
    )
    quantization: Quantizations = Field(
        default=(), description=f"of gguf: one name or several; left out: {USUAL_QUANTIZATION}"
    )

    @property
    def quantizations(self) -> tuple[str, ...]:
        """The GGUF files that are published, by their quantisation; none of safetensors."""
        if self.format != "gguf":
            return ()
        return self.quantization or (USUAL_QUANTIZATION,)

    @field_validator("format")
    @classmethod
    def _merged(cls, wanted: str, info: ValidationInfo) -> str:
        if wanted == "gguf" and info.data.get("merge_adapters") is False:
            raise ValueError("gguf is made from merged weights, but merge_adapters is false")
        return wanted

    @field_validator("quantization")
    @classmethod
    def _of_gguf(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if names and info.data.get("format") == "safetensors":
            raise ValueError("is of format: gguf, and the format is safetensors")
        return names

    @field_validator("repo")
    @classmethod
    def _owner_and_name(cls, repo: str) -> str:
        # The Hub's own rule; it also keeps a local Hub's folders inside the Hub.
        part = r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
        if not re.fullmatch(f"{part}/{part}", repo) or "--" in repo or ".." in repo:
            raise ValueError("should be owner/name, in letters, digits, single '-' and '.', or '_'")
        return repo


class InfraSection(Section):
    """What the machine costs."""

    cost_per_hour_usd: Annotated[float, Field(ge=0, strict=True)] = Field(
        default=0.0, description="the local machine's price; nobody can know it but you"
    )
    max_usd: Amount | None = Field(
        default=None, description="ends the training when it has cost so much"
    )

    @field_validator("max_usd")
    @classmethod
    def _price_known(cls, limit: float | None, info: ValidationInfo) -> float | None:
        if limit is not None and info.data.get("cost_per_hour_usd") == 0:
            raise ValueError("needs infra.cost_per_hour_usd above 0: the price is not known")
        return limit
