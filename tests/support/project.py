"""A user's project on the tiny model: rows and a config.yaml, trained in a second."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from nexa.core.config import Config, load_config
from nexa.core.events import Event, listening
from nexa.core.manifest import RunManifest
from nexa.core.tiers import Tiers
from nexa.orchestrate import run

ELEMENTS = ("iron", "gold", "neon", "argon", "sodium", "barium", "zinc", "lead")
SECTIONS: dict[str, dict[str, Any]] = {
    "data": {"train_path": "./train.jsonl", "eval_path": "./eval.jsonl", "batch_size": 4},
    "optimizer": {"lr": 5e-3},
    "lora": {"rank": 4, "alpha": 8},
    "training": {"max_steps": 4, "precision": "float32"},
    "eval": {"rows": 8, "max_new_tokens": 24},
}


def train(config: Path, **options: Any) -> RunManifest:
    """`nexa train --no-check`: where the flight check is not what a test is about."""
    return run.train(config, check=False, **options)


@dataclass(frozen=True)
class Finished:
    """A project after one `nexa train`, with what was told on the way."""

    root: Path
    manifest: RunManifest
    events: tuple[Event, ...]

    @property
    def tiers(self) -> Tiers:
        """Where it keeps things."""
        return Tiers.of(self.root)

    @property
    def config(self) -> Path:
        """Its config.yaml."""
        return self.root / "config.yaml"

    def copy(self, folder: Path) -> Finished:
        """The same project somewhere else, for a test that changes it."""
        shutil.copytree(self.root, folder, dirs_exist_ok=True)
        return Finished(folder, self.manifest, self.events)


def rows(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """One row a number, each of a group of its own, in two domains."""
    made = []
    for number in numbers:
        name = f"{ELEMENTS[number % len(ELEMENTS)]}{number}"
        made.append(
            {
                "context": f"The value of {name} is {100 + number * 7} units.",
                "prompt": "As JSON.",
                "target_answer": {"name": name, "value": 100 + number * 7},
                "domain": "gases" if number % 2 else "metals",
                "group": name,
            }
        )
    return made


def write_rows(path: Path, made: Iterable[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def write_config(folder: Path, model: str | Path, **changes: dict[str, Any] | None) -> Path:
    """A config.yaml: `SECTIONS` with changes, section by section; None leaves a section out."""
    sections: dict[str, Any] = {"model": {"path": str(model)}}
    for name in {**SECTIONS, **changes}:
        change = changes.get(name, {})
        if change is not None:
            merged = {**SECTIONS.get(name, {}), **change}
            sections[name] = {key: value for key, value in merged.items() if value is not None}
    path = folder / "config.yaml"
    with path.open("w") as file:
        YAML().dump(sections, file)
    return path


def write_project(folder: Path, model: str | Path, **changes: dict[str, Any] | None) -> Path:
    """Rows and a config.yaml in `folder`; returns the config's path."""
    write_rows(folder / "train.jsonl", rows(range(40)))
    write_rows(folder / "eval.jsonl", rows(range(100, 110)))
    return write_config(folder, model, **changes)


def config_of(
    folder: Path, model: str | Path = "model", **changes: dict[str, Any] | None
) -> Config:
    """The configuration that `write_config` writes, read."""
    return load_config(write_config(folder, model, **changes))


def finish(folder: Path, model: Path, **changes: dict[str, Any] | None) -> Finished:
    """A project that was trained once."""
    events: list[Event] = []
    config = write_project(folder, model, **changes)
    with listening(events.append):
        manifest = train(config)
    return Finished(folder, manifest, tuple(events))


def kinds(events: Iterable[Event]) -> list[str]:
    """The kinds of some events, in their order."""
    return [event["kind"] for event in events]


def notes(events: Iterable[Event]) -> list[str]:
    """The texts of the notes."""
    return [event["text"] for event in events if event["kind"] == "note"]


def versions(tiers: Tiers) -> dict[str, list[str]]:
    """Every artifact's versions by kind and name."""
    store = tiers.store
    return {
        f"{kind.name}/{name}": store.versions(kind.name, name)
        for kind in sorted((store.root / "names").iterdir())
        for name in store.names(kind.name)
    }
