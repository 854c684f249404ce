"""Tiny model folders that are changed in one way or another, and the plans of recipes for them."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nexa.core import events
from nexa.lm.resolve import ModelFiles, resolve
from nexa.weights.merge_models.plan import Plan, Task, plan
from nexa.weights.merge_models.recipe import Recipe, parse_recipe
from tests.support.tiny import CHATML, write_tiny_model

# Each is made once and copied: what tests change is their own copy.
_kept = tempfile.TemporaryDirectory(prefix="nexa-tiny-models-")
_made: dict[tuple[Any, ...], Path] = {}


def model(
    folder: Path,
    architecture: str = "llama",
    *,
    tied: bool = True,
    seed: int = 0,
    layers: int = 2,
    template: str | None = CHATML,
    **config: Any,
) -> Path:
    """A tiny model with as many layers, and with other words in its config."""
    key = (architecture, tied, seed, template)
    if key not in _made:
        _made[key] = write_tiny_model(
            Path(_kept.name) / str(len(_made)),
            architecture,
            tied=tied,
            seed=seed,
            chat_template=template,
        )
    shutil.copytree(_made[key], folder)
    if layers != 2:
        _deepen(folder, layers)
    if config:
        edit_json(folder / "config.json", lambda told: told.update(config))
    return folder


def edit_json(path: Path, edit: Callable[[Any], Any]) -> None:
    told = json.loads(path.read_text()) if path.exists() else {}
    edit(told)
    path.write_text(json.dumps(told))


def edit_tensors(folder: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def pad(folder: Path, rows: int) -> None:
    """Give the embedding and the head other numbers of rows."""

    def edit(tensors: dict[str, Tensor]) -> None:
        for name in {"model.embed_tokens.weight", "lm_head.weight"} & set(tensors):
            old = tensors[name]
            tensors[name] = torch.zeros(rows, old.shape[1])
            tensors[name][: len(old)] = old[:rows]

    edit_tensors(folder, edit)
    edit_json(folder / "config.json", lambda told: told.update(vocab_size=rows))


def edit_tokenizer(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    edit_json(folder / "tokenizer.json", edit)


def swap_ids(folder: Path, one: int, other: int) -> None:
    """Two tokens change their ids; their rows stay where they are."""

    def edit(told: dict[str, Any]) -> None:
        other_of = {one: other, other: one}
        vocabulary = told["model"]["vocab"]
        for token, number in vocabulary.items():
            vocabulary[token] = other_of.get(number, number)
        for token in told["added_tokens"]:
            token["id"] = other_of.get(token["id"], token["id"])

    edit_tokenizer(folder, edit)


def files(*folders: Path) -> list[ModelFiles]:
    return [resolve(str(folder)) for folder in folders]


def planned(text: str, **folders: Path) -> Plan:
    """The plan of a recipe's text, in which `{name}` stands for a folder."""
    return planned_recipe(parse_recipe(text.format(**folders)))


def planned_recipe(recipe: Recipe) -> Plan:
    return plan(recipe, [resolve(reference) for reference in recipe.references])


def task(found: Plan, name: str) -> Task:
    return next(task for task in found.tasks if task.name == name)


class Notes:
    """What is noted while it listens."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._listening = events.listening(self._take)

    def _take(self, event: events.Event) -> None:
        if event["kind"] == "note":
            self.texts.append(event["text"])

    def __enter__(self) -> Notes:
        self._listening.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._listening.__exit__(*error)


def _deepen(folder: Path, layers: int) -> None:
    def edit(tensors: dict[str, Tensor]) -> None:
        of_layers = {n: t for n, t in tensors.items() if n.startswith("model.layers.")}
        for name in of_layers:
            del tensors[name]
        for number in range(layers):
            for name, tensor in of_layers.items():
                if name.startswith(f"model.layers.{number % 2}."):
                    renamed = re.sub(r"layers\.\d+", f"layers.{number}", name)
                    tensors[renamed] = tensor.clone()

    def told(config: dict[str, Any]) -> None:
        config["num_hidden_layers"] = layers
        if "layer_types" in config:
            config["layer_types"] = ["full_attention"] * layers

    edit_tensors(folder, edit)
    edit_json(folder / "config.json", told)
