"""Sealed checkpoints and exports of a tiny model, without training one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save

from nexa.core.identity import sha256_bytes
from nexa.core.records import Artifact, CheckpointBody, Draft, ExportBody
from nexa.core.tiers import Tiers
from nexa.lm.resolve import ModelFiles

ADAPTER = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"two matrices"}


def other_weights(folder: Path, seed: int = 1) -> bytes:
    """A model's safetensors with every number moved."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: tensor + torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    return save(tensors, {"format": "pt"})


def seal_checkpoint(
    project: Path,
    base: ModelFiles,
    files: dict[str, bytes],
    method: Literal["lora", "full"] = "lora",
) -> Artifact[CheckpointBody]:
    """A checkpoint of this base with these files."""
    body = CheckpointBody(
        base=base.ref,
        method=method,
        engine="none: a test",
        precision="float32",
        seed=0,
        epochs=1,
        steps=1,
        rows=1,
        tokens_trained=1,
        label_tokens=1,
        trainable_parameters=1,
        first_loss=1,
        final_loss=1,
        epoch_losses=[1],
        template_sha256="",
        mask_sha256="",
        end_of_turn=[2],
        weights_sha256="",
    )
    return _seal(project, Draft("checkpoint", "tiny", body, {**files, "losses.jsonl": b""}))


def seal_export(project: Path, base: ModelFiles, files: dict[str, bytes]) -> Artifact[ExportBody]:
    """An export with these files."""
    body = ExportBody(
        format="safetensors",
        dtype="float32",
        base=base.ref,
        model_digest="",
        parity={},
        passed=True,
    )
    return _seal(project, Draft("export", "tiny", body, {**files, "parity.json": b"{}"}))


def model_files(folder: Path) -> dict[str, bytes]:
    """A folder's files as bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _seal(project: Path, draft: Draft[Any]) -> Artifact[Any]:
    recipe = sha256_bytes(repr(draft).encode())
    return Tiers.of(project).store.seal(
        draft, step={"name": "test", "version": 1}, fingerprint=recipe, inputs={}
    )
