"""From config.yaml to the spec of each step: nothing is read from the environment after this."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from nexa.core.config import Config, load_config
from nexa.core.config_filters import BalanceSection
from nexa.core.config_sections import PublishSection
from nexa.core.errors import ConfigError, ModelError
from nexa.core.events import emit
from nexa.core.hardware import this_machine
from nexa.core.identity import slug
from nexa.core.tiers import Tiers
from nexa.data.detect import count_rows
from nexa.data.filters.balance import BalanceSpec
from nexa.data.filters.registry import specs
from nexa.data.prepare import PrepareSpec
from nexa.data.sources import named_sources, sources_of
from nexa.eval.analyze import AnalyzeSpec
from nexa.eval.generate import GenerateSpec
from nexa.eval.metrics import ScoreSpec
from nexa.eval.suite import FreezeSpec
from nexa.eval.tasks.definition import named_task
from nexa.lm.adapters import LoraSpec
from nexa.lm.resolve import ModelFiles, resolve
from nexa.orchestrate import sealed_data
from nexa.orchestrate.data_files import name_of_data, place_of, training_files
from nexa.orchestrate.estimate import BYTES_A_TOKEN, estimate
from nexa.orchestrate.hubs import require_hub
from nexa.orchestrate.model_shape import shape_of
from nexa.orchestrate.output import check_output
from nexa.train.memory import method_of
from nexa.train.spec import (
    EarlyStopping,
    Limits,
    OptimizerSpec,
    QuantizeSpec,
    SchedulerSpec,
    TrainSpec,
    ValidationSpec,
)
from nexa.weights.merge_adapter import MergeSpec


def check(config: Config, tiers: Tiers) -> None:
    """Everything that would stop the run at its end, found before its beginning.

    Raises:
        StorageError: the output folder holds somebody else's files.
        ConfigError: `publish` asks for what the method does not make.
        AccessError: `publish.hub` is a Hub on the network, and no token may write there.
        NetworkError: it is out of reach.
    """
    check_here(config, tiers)
    if config.publish is not None:
        require_hub(config.publish, tiers)


def check_here(config: Config, tiers: Tiers) -> None:
    """The part of `check` that asks nobody outside this machine.

    Raises:
        StorageError: the output folder holds somebody else's files.
        ConfigError: `publish` asks for what the method does not make.
    """
    check_output(place(tiers.root, config.training.output_dir))
    if config.publish is None:
        return
    if config.method == "full" and not config.publish.merge_adapters:
        raise ConfigError(
            "publish.merge_adapters is false, but training all weights makes no adapter",
            fix="set publish.merge_adapters: true, or training.method: lora",
        )


def place(root: Path, path: str) -> Path:
    """A path of config.yaml, which stands in `root`."""
    return root / Path(path).expanduser()


def base_model(config: Config, tiers: Tiers) -> ModelFiles:
    """The model that config.yaml starts from.

    Raises:
        ModelError: no such model; or it runs code of its own, which nothing could be merged into.
    """
    given = place(tiers.root, config.model.path)
    found = resolve(
        str(given) if given.exists() else config.model.path,
        source=config.model.source,
        revision=config.model.revision,
        project=tiers.root,
        trust_remote_code=config.model.trust_remote_code,
    )
    if found.brings_code:
        raise ModelError(
            f"{found.name} needs Python code of its own, and this version trains no such model",
            found="auto_map in its files; what came out could not be loaded without that code",
            fix="choose a model that transformers knows by itself",
        )
    return found


def dataset_id(config: Config, root: Path) -> str:
    """The dataset's name: that of its file, or of its folder when the file's says only `train`."""
    sealed = sealed_data.name_in(config.data.train_path, root)
    if sealed is not None:
        return slug(sealed.partition("@")[0])
    return slug(name_of_data(config.data.train_path, root))


def run_name(config: Config, root: Path, base: ModelFiles) -> str:
    """What the run's checkpoint and export are called: model and dataset."""
    return slug(f"{base.name.rsplit('/', 1)[-1]}-{dataset_id(config, root)}")


def training_rows(config: Config, root: Path, base: ModelFiles) -> PrepareSpec:
    """The rows to learn from; without an eval_path a share of them is held out.

    Of a sealed dataset the recipe only says how its rows are read: they are trained on as they are.
    """
    data = config.data
    sealed = sealed_data.find(data.train_path, Tiers.of(root))
    if sealed is not None:
        return sealed_data.rows_of(sealed, base, Tiers.of(root))
    held_out = place_of(data.eval_path, root).path if data.eval_path is not None else None
    files, left_out = training_files(place_of(data.train_path, root).path, held_out)
    if left_out:
        names = ", ".join(path.name for path in left_out)
        emit("note", text=f"{data.train_path}: not trained on, held out or kept back: {names}")
    return PrepareSpec(
        dataset_id=dataset_id(config, root),
        sources=named_sources(files),
        model=base,
        format=data.format,
        max_length=None if data.max_length == "auto" else data.max_length,
        eval_fraction=data.eval_fraction if held_out is None else 0.0,
        only_split=None if held_out is None else "train",
        near_duplicates=data.near_duplicates,
        filters=specs(data.filters),
        balance=_balance(data.balance),
        scratch=Tiers.of(root).scratch,
    )


def _balance(asked: BalanceSection | None) -> BalanceSpec | None:
    if asked is None:
        return None
    return BalanceSpec(at_most=asked.at_most, ratio=asked.ratio, seed=asked.seed)


def held_out(config: Config, root: Path, base: ModelFiles) -> PrepareSpec:
    """The rows of `data.eval_path`."""
    if config.data.eval_path is None:
        raise ConfigError("data.eval_path is not given")
    path = place_of(config.data.eval_path, root).path
    spec = eval_rows(path, base, f"{dataset_id(config, root)}-eval", config.data.format)
    # What was asked for by name holds for both sides; nothing else touches held-out rows.
    asked = specs(config.data.filters, default=())
    return replace(spec, filters=asked, scratch=Tiers.of(root).scratch)


def eval_rows(path: Path, base: ModelFiles, name: str, format_: str = "auto") -> PrepareSpec:
    """A file of held-out rows, asked as they are given: none is dropped for being near another."""
    return PrepareSpec(
        dataset_id=name,
        sources=sources_of(path),
        model=base,
        format=format_,
        only_split="eval",
        near_duplicates="keep",
    )


def freeze(config: Config, root: Path) -> FreezeSpec:
    """The suite: so many of the held-out rows."""
    return FreezeSpec(
        name=dataset_id(config, root),
        rows=config.eval.rows,
        max_new_tokens=config.eval.max_new_tokens,
        task=named_task(config.eval.task, root),
        metrics=config.eval.metrics,
    )


def finetune(
    config: Config, root: Path, base: ModelFiles, scratch: Path | None = None
) -> TrainSpec:
    """The training itself."""
    training, optimizer, scheduler = config.training, config.optimizer, config.scheduler
    lora = config.lora.model_dump() if config.lora else {}
    lora |= {"dora": True} if training.method == "dora" else {}
    quantize, validation = config.quantization, _validation(config)
    every, stopping = training.checkpoints.every, training.early_stopping
    return TrainSpec(
        model=base,
        name=run_name(config, root, base),
        method=config.method,
        lora=LoraSpec(**lora) if config.method == "lora" else None,
        optimizer=OptimizerSpec(**optimizer.model_dump()),
        scheduler=SchedulerSpec(**scheduler.model_dump()),
        epochs=training.epochs,
        max_steps=training.max_steps,
        batch_size=config.data.batch_size,
        gradient_accumulation=training.gradient_accumulation,
        seed=training.seed,
        precision=training.precision,
        quantize=QuantizeSpec(**quantize.model_dump()) if quantize else None,
        engine=training.engine,
        validation=validation,
        early_stopping=EarlyStopping(**stopping.model_dump()) if stopping else None,
        select=training.checkpoints.select,
        limits=_limits(config),
        memory_limit=training.memory_limit,
        micro_tokens=None if training.micro_tokens == "auto" else training.micro_tokens,
        scratch=scratch,
        rendered=Tiers.of(root).rendered,
        checkpoint_every=None if every == "auto" else every,
        checkpoint_keep=training.checkpoints.keep,
    )


def _validation(config: Config) -> ValidationSpec | None:
    """What is measured on the way: what was asked for, or what another choice needs.

    As often as checkpoints are written, if those have a number: it is then part of the recipe.
    """
    training, often = config.training, config.training.checkpoints.every
    asked = training.validation
    every = often if asked is None or asked.every == "auto" else asked.every
    needed = training.early_stopping is not None or training.checkpoints.select == "best"
    if asked is None and not needed:
        return None
    rows = asked.rows if asked else ValidationSpec().rows
    return ValidationSpec(rows, None if every == "auto" else every)


def _limits(config: Config) -> Limits:
    """Time and money. A price that nothing is stopped by is no part of the recipe."""
    infra = config.infra
    price = infra.cost_per_hour_usd if infra.max_usd is not None else 0.0
    return Limits(config.training.time_budget, infra.max_usd, price)


def merge(base: ModelFiles, scratch: Path | None = None) -> MergeSpec:
    """The merged export."""
    return MergeSpec(model=base, scratch=scratch)


def generate(config: Config, model: ModelFiles, name: str) -> GenerateSpec:
    """One model's answers; base and tuned differ in nothing but the model."""
    return GenerateSpec(
        model=model,
        name=name,
        batch_size=config.eval.batch_size,
        cost_per_hour_usd=config.infra.cost_per_hour_usd,
    )


def score(name: str, *, run_code: bool = False) -> ScoreSpec:
    """One model's scores."""
    return ScoreSpec(name=name, run_code=run_code)


def analyze(config: Config, name: str) -> AnalyzeSpec:
    """The comparison."""
    limit = config.eval.forgetting_limit_nats
    return AnalyzeSpec(name=name) if limit is None else AnalyzeSpec(name, limit)


def outline(config_path: Path) -> dict[str, Any]:
    """What `nexa train` would do, by name and number; nothing is trained or written."""
    config = load_config(config_path)
    tiers = Tiers.of(config_path.parent)
    check(config, tiers)
    base = base_model(config, tiers)
    rows = training_rows(config, tiers.root, base)
    training = config.training
    spec = finetune(config, tiers.root, base)
    lora = spec.adapter
    how = f"rank {lora.rank}, alpha {lora.alpha:g}" if lora else "all weights"
    return {
        "model": f"{base.name} ({base.origin})",
        "dataset": f"{rows.dataset_id}: {', '.join(source.name for source in rows.sources)}",
        "held out": _held_out(config, tiers.root),
        "filters": ", ".join(item.name for item in rows.filters) or "none",
        "method": f"{config.method_name} ({how})",
        "engine": _engine(training.engine),
        "length": f"{training.max_steps} steps"
        if training.max_steps
        else f"{training.epochs or 1:g} epochs",
        "rows a step": config.data.batch_size * training.gradient_accumulation,
        "validation": _validated(spec),
        "limits": _limited(spec),
        "memory and time": _cost(spec, [source.path for source in rows.sources]),
        "evaluation": f"{config.eval.rows} rows, at most {config.eval.max_new_tokens} new tokens",
        "output": str(place(tiers.root, training.output_dir)),
        "publish": _published(config.publish),
        "price": f"{config.infra.cost_per_hour_usd:g} USD an hour",
    }


def _held_out(config: Config, root: Path) -> str:
    """What the models are asked."""
    if config.data.eval_path is not None:
        return config.data.eval_path
    if sealed_data.name_in(config.data.train_path, root) is not None:
        return "what the dataset is kept clean of"
    return f"{config.data.eval_fraction:.0%} of the rows"


def _published(section: PublishSection | None) -> str:
    """Where the model goes, and as what."""
    if section is None:
        return "not asked for"
    form = f", as GGUF: {', '.join(section.quantizations)}" if section.quantizations else ""
    return f"{section.repo} on {section.hub}{form}"


def _engine(asked: str) -> str:
    """What computes the steps; which one `auto` takes is known when the model is loaded."""
    return "auto: the fused one where it can" if asked == "auto" else asked


def _validated(spec: TrainSpec) -> str:
    """What is measured on the way, and what hangs on it."""
    if spec.validation is None:
        return "none on the way"
    every, stopping = spec.validation.every, spec.early_stopping
    how_often = f"every {every} steps" if every else "with every checkpoint"
    parts = [f"{spec.validation.rows} rows {how_often}"]
    if stopping is not None:
        parts.append(f"ends after {stopping.patience} without a better loss")
    if spec.select == "best":
        parts.append("the best weights are kept")
    return ", ".join(parts)


def _limited(spec: TrainSpec) -> str:
    """What ends the training before its last step, and what it may take."""
    limits, memory = spec.limits, spec.memory_limit
    parts = [f"{limits.seconds / 60:g} min"] if limits.seconds is not None else []
    parts += [f"{limits.usd:g} USD"] if limits.usd is not None else []
    parts += [f"{memory / 1e9:g} GB of memory"] if memory is not None else []
    return ", ".join(parts) or "none"


def _cost(spec: TrainSpec, files: list[Path]) -> str:
    """About how much memory and how long, by the stated model."""
    rows = max(1, sum(map(count_rows, files)))
    told = estimate(
        shape_of(spec.model),
        method_of(spec),
        rows=rows,
        tokens_a_row=sum(path.stat().st_size for path in files) / rows / BYTES_A_TOKEN,
        epochs=spec.total_steps(rows) / spec.steps_per_epoch(rows),
        machine=this_machine(),
        spec=spec,
    )
    fits = "" if told.fits else ": more than this machine has"
    minutes = math.ceil(told.seconds / 60)
    return f"about {told.memory_bytes / 1e9:.1f} GB{fits}, {minutes} min ({told.basis})"
