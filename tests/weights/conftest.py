"""A tiny base, its checkpoints and a folder that was merged rightly, each made once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from nexa.core.records import Artifact, CheckpointBody
from nexa.core.store import Store
from nexa.lm.adapters import LoraSpec
from nexa.lm.resolve import ModelFiles, resolve
from nexa.weights.checks import Parity
from nexa.weights.merge_adapter import MergeSpec, tuned_weights, write_model
from nexa.weights.merging import Tuned
from nexa.weights.parity import prove
from tests.support import chain

DORA = LoraSpec(rank=4, alpha=8.0, dora=True, rslora=True)


@dataclass
class Merged:
    """A written model folder with all that its parity is measured against."""

    base: ModelFiles
    checkpoint: CheckpointBody
    trained: Path
    tuned: Tuned
    folder: Path

    def prove(self, tuned: Tuned | None = None) -> Parity:
        """Parity of the folder as it is now."""
        return prove(
            self.folder,
            tuned or self.tuned,
            base_folder=self.base.folder,
            checkpoint=self.checkpoint,
            adapter=self.trained if self.checkpoint.method == "lora" else None,
            dtype="bfloat16",
        )

    def failures(self) -> set[str]:
        """The names of the checks that fail."""
        return {check.name for check in self.prove().checks if not check.passed}

    def edit_tensors(self, edit: Callable[[dict[str, Tensor]], None]) -> None:
        """Change the stored weights."""
        path = self.folder / "model.safetensors"
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        edit(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    def edit_json(self, name: str, **fields: Any) -> None:
        """Change a JSON file of the folder."""
        path = self.folder / name
        path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


@pytest.fixture(scope="session")
def base(tiny_llama: Path) -> ModelFiles:
    return resolve(str(tiny_llama))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def checkpoint(base: ModelFiles, store: Store, tmp_path: Path) -> Artifact[CheckpointBody]:
    return chain.seal(store, "finetune", chain.checkpoint_draft(base, tmp_path / "trained"))


@pytest.fixture(scope="session")
def _written(base: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Merged]:
    made = {
        "lora": chain.random_adapter(base, tmp_path_factory.mktemp("lora")),
        "head": chain.random_adapter(base, tmp_path_factory.mktemp("head"), head=True),
        "dora": chain.random_adapter(base, tmp_path_factory.mktemp("dora"), spec=DORA),
    }
    return {
        name: _merge(base, adapter, tmp_path_factory.mktemp("merged"))
        for name, adapter in made.items()
    }


@pytest.fixture
def merged(_written: dict[str, Merged], tmp_path: Path) -> Merged:
    """An honest merge, to be spoiled."""
    return _copy(_written["lora"], tmp_path)


@pytest.fixture
def merged_head(_written: dict[str, Merged], tmp_path: Path) -> Merged:
    """An honest merge whose adapter changed lm_head, which the base ties to the embedding."""
    return _copy(_written["head"], tmp_path)


@pytest.fixture
def merged_dora(_written: dict[str, Merged], tmp_path: Path) -> Merged:
    """An honest merge of an adapter that is DoRA and rsLoRA at once."""
    return _copy(_written["dora"], tmp_path)


def _merge(base: ModelFiles, trained: Path, folder: Path) -> Merged:
    body = chain.checkpoint_body(base, trained / "adapter_model.safetensors")
    tuned = tuned_weights(base.folder, trained, body)
    out = folder / "model"
    out.mkdir()
    write_model(MergeSpec(base), tuned, out)
    return Merged(base, body, trained, tuned, out)


def _copy(merged: Merged, folder: Path) -> Merged:
    out = shutil.copytree(merged.folder, folder / "model")
    return Merged(merged.base, merged.checkpoint, merged.trained, merged.tuned, out)
