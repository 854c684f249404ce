"""config.yaml as typed, frozen sections; every mistake is told at once, with its line.

Keys are Entrenar's. A key that is not here is refused with the nearest name: a typo in
`learning_rate` must never train with the default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from nexa.core.errors import ConfigError, nearest
from nexa.core.secrets import hub_endpoint
from nexa.core.units import SIZES, SPANS, with_unit

Auto = Literal["auto"]
# Strict: `rank: true` is a mistake, not a rank of 1.
Positive = Annotated[int, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Amount = Annotated[float, Field(gt=0, strict=True)]
Share = Annotated[float, Field(ge=0, lt=1, strict=True)]
# In seconds and in bytes, once they are read.
Span = Annotated[float, BeforeValidator(lambda told: with_unit(told, SPANS, "s")), Field(gt=0)]
Size = Annotated[int, BeforeValidator(lambda told: with_unit(told, SIZES, "B")), Field(gt=0)]


class Section(BaseModel):
    """One block of config.yaml."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


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

    @model_validator(mode="after")
    def _fits(self) -> SchedulerSection:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ValueError("give warmup_steps or warmup_ratio, not both")
        if self.decay_ratio is not None and self.name != "wsd":
            raise ValueError("decay_ratio belongs to the scheduler wsd")
        return self


class LoraSection(Section):
    """The low-rank adapter."""

    rank: Positive = 16
    alpha: Amount = 32
    dropout: Share = 0.0
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        default="all-linear", description="all-linear: every linear layer but the output head"
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
    """When to end before the last step: the loss on rows held out of the training split."""

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
    memory_limit: Size | None = Field(
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
    format: Literal["safetensors"] = "safetensors"

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

    max_usd: Amount | None = Field(
        default=None, description="ends the training when it has cost so much"
    )
    cost_per_hour_usd: Annotated[float, Field(ge=0, strict=True)] = Field(
        default=0.0, description="the local machine's price; nobody can know it but you"
    )


class Config(Section):
    """The whole of config.yaml."""

    model: ModelSection
    data: DataSection
    optimizer: OptimizerSection = OptimizerSection()
    scheduler: SchedulerSection = SchedulerSection()
    lora: LoraSection | None = None
    quantize: QuantizeSection | None = None
    training: TrainingSection = TrainingSection()
    eval: EvalSection = EvalSection()
    publish: PublishSection | None = None
    infra: InfraSection = InfraSection()

    @property
    def method(self) -> Literal["lora", "full"]:
        """What is trained: an adapter (lora; qlora and dora are ways of it) or all weights."""
        if self.training.method is not None:
            return "full" if self.training.method == "full" else "lora"
        return "lora" if self.lora or self.quantize else "full"

    @property
    def quantization(self) -> QuantizeSection | None:
        """How the base is held in memory; None: as it is."""
        if self.training.method == "qlora":
            return self.quantize or QuantizeSection()
        return self.quantize

    @field_validator("training")
    @classmethod
    def _method_fits(cls, training: TrainingSection, info: ValidationInfo) -> TrainingSection:
        lora, quantize = info.data.get("lora"), info.data.get("quantize")
        if training.method == "full" and lora is not None:
            raise ValueError("the method is full, but there is a lora section")
        if training.method in ("full", "dora", "lora") and quantize is not None:
            raise ValueError(
                f"the method is {training.method}, but there is a quantize section: method qlora"
            )
        return training

    @model_validator(mode="after")
    def _price_known(self) -> Config:
        if self.infra.max_usd is not None and not self.infra.cost_per_hour_usd:
            raise ValueError("infra.max_usd needs infra.cost_per_hour_usd: the price is not known")
        return self


def load_config(path: Path) -> Config:
    """Read and check a config.yaml.

    Raises:
        ConfigError: it cannot be read, is not YAML, or has mistakes: all of them, with lines.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {path}",
            fix="nexa init --base MODEL --data FILE   writes one",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", found=str(error)) from error
    return parse_config(text, name=path.name)


def parse_config(text: str, *, name: str = "config.yaml") -> Config:
    """The typed form of a configuration's text; `name` is what its mistakes are told under."""
    try:
        # The round-trip loader alone keeps line numbers; the safe one gives plain values.
        tree = YAML(typ="rt").load(text)
        plain = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name} is not YAML", found=f"line {line}: {error.problem}") from error
    except YAMLError as error:
        raise ConfigError(f"{name} is not YAML", found=str(error)) from error
    if not isinstance(tree, Mapping):
        raise ConfigError(
            f"{name} holds no sections",
            found="an empty file" if tree is None else f"it begins with {text.split()[0]!r}",
            fix="nexa init --base MODEL --data FILE   writes one",
        )
    # `lora:` with nothing below it asks for the section, with its defaults.
    sections = {key: {} if value is None else value for key, value in plain.items()}
    try:
        return Config.model_validate(_with_text_keys(sections))
    except ValidationError as error:
        mistakes = _mistakes(tree, error)
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ConfigError(
            f"{name} has {count}",
            found="\n".join(mistakes),
        ) from error


def _with_text_keys(tree: Mapping[Any, Any], depth: int = 2) -> dict[str, Any]:
    """A key such as `1` or `null` as text, so that it is refused like any unknown one."""
    return {
        str(key): _with_text_keys(value, depth - 1)
        if depth > 1 and isinstance(value, Mapping)
        else value
        for key, value in tree.items()
    }


def _mistakes(tree: Mapping[Any, Any], error: ValidationError) -> list[str]:
    """Every mistake with its line, in the file's order; a union's branches are one."""
    told: dict[tuple[int, str, str], list[str]] = {}
    for item in error.errors(include_url=False):
        keys, value = _place(tree, item["loc"])
        dotted = ".".join(map(str, item["loc"] if item["type"] == "missing" else keys))
        shown = "" if value is None or isinstance(value, Mapping) else f" (got {value!r})"
        if item["type"] == "missing":
            subject, reason, shown = f"{dotted} is missing", "", ""
        elif item["type"] == "extra_forbidden":
            subject, reason, shown = f"{dotted} is not a key", _nearest_key(keys), ""
        else:
            subject, reason = dotted, _reason(item["type"], item["msg"])
        told.setdefault((_line(tree, keys), subject, shown), []).append(reason)
    return [
        f"line {line}: {subject}" + f": {' or '.join(reasons)}" * any(reasons) + shown
        for (line, subject, shown), reasons in sorted(told.items())
    ]


def _reason(kind: str, message: str) -> str:
    """Pydantic's sentence without its own words."""
    if kind == "model_type":
        return "should be a section, with keys below it"
    return message.removeprefix("Value error, ").removeprefix("Input ").partition(", unable")[0]


def _place(tree: Mapping[Any, Any], loc: tuple[str | int, ...]) -> tuple[list[Any], Any]:
    """The keys of pydantic's location that the file has (unions append more), and the value."""
    keys: list[Any] = []
    node: Any = tree
    for part in loc:
        known = node if isinstance(node, Mapping) else ()
        found = [key for key in known if str(key) == part]
        if not found:
            break
        keys += found[:1]
        node = node[found[0]]
    return keys, node


def _line(tree: Mapping[Any, Any], keys: list[Any]) -> int:
    """The 1-based line of the key at `keys`."""
    line = 1
    node: Any = tree
    for key in keys:
        # A key that came in by `<<` has no line of its own here: its section's is told.
        if key in (node.lc.data or ()):
            line = int(node.lc.key(key)[0]) + 1
        node = node[key]
    return line


def _nearest_key(keys: list[Any]) -> str:
    """What may have been meant by an unknown key."""
    if keys == ["data", "train"]:
        return "it is another name of train_path, which is there too"
    fields = (SECTIONS[keys[0]] if len(keys) > 1 else Config).model_fields
    key = str(keys[-1])
    if key not in OTHER_NAMES and (near := nearest(key, fields)):
        return f"did you mean {near!r}?"
    if other := nearest(key, OTHER_NAMES):
        return f"did you mean {OTHER_NAMES[other]}?"
    return "known: " + ", ".join(fields)


# What other tools call these keys.
OTHER_NAMES = {
    "base_model": "model.path",
    "model_name_or_path": "model.path",
    "dataset": "data.train_path",
    "train_file": "data.train_path",
    "validation_file": "data.eval_path",
    "max_seq_length": "data.max_length",
    "cutoff_len": "data.max_length",
    "sequence_len": "data.max_length",
    "per_device_train_batch_size": "data.batch_size",
    "micro_batch_size": "data.batch_size",
    "learning_rate": "optimizer.lr",
    "lr_scheduler_type": "scheduler.name",
    "lora_rank": "lora.rank",
    "lora_r": "lora.rank",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_target_modules": "lora.target_modules",
    "num_train_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "gradient_accumulation_steps": "training.gradient_accumulation",
    "save_steps": "training.checkpoints.every",
    "save_total_limit": "training.checkpoints.keep",
    "hub_model_id": "publish.repo",
}


SECTIONS: dict[str, type[Section]] = {
    "model": ModelSection,
    "data": DataSection,
    "optimizer": OptimizerSection,
    "scheduler": SchedulerSection,
    "lora": LoraSection,
    "training": TrainingSection,
    "eval": EvalSection,
    "publish": PublishSection,
    "quantize": QuantizeSection,
    "infra": InfraSection,
}
