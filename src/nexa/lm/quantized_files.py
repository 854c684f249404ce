"""A model in four bits as files: bitsandbytes' layout, which transformers loads by itself.

Beside each packed weight `NAME` lie `NAME.absmax` (the scales), `NAME.quant_map` (the 16 levels),
with double quantisation `NAME.nested_absmax` and `NAME.nested_quant_map` (the 8-bit map), and the
rest as JSON in bytes: `NAME.quant_state.bitsandbytes__nf4`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.core.store import write_atomic
from nexa.lm.nf4 import BLOCK, LEVELS, NESTED_BLOCK, Scales, dequantise, dynamic_map
from nexa.lm.quantized import FourBitLinear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS = "model.safetensors"
STATE = "quant_state.bitsandbytes__nf4"


def write(model: PreTrainedModel, folder: Path) -> None:
    """Write the weights and config.json of a model that `quantize_linears` went over.

    Raises:
        ModelError: none of its layers is in four bits.
        StorageError: no space.
    """
    packed = {n: m for n, m in model.named_modules() if isinstance(m, FourBitLinear)}
    if not packed:
        raise ModelError(f"{type(model).__name__} has no layer in four bits", fix="quantise it")
    tensors = dict(_whole(model, packed))
    for name, layer in packed.items():
        tensors |= layer_tensors(f"{name}.weight", layer)
    config = {**model.config.to_dict(), "quantization_config": _config(packed)}
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    write_atomic(folder / WEIGHTS, to_safetensors(cpu, metadata={"format": "pt"}))
    write_atomic(folder / "config.json", json.dumps(config, indent=2, default=str).encode())


def read(folder: Path) -> dict[str, Tensor]:
    """The weights of such a folder by name, those in four bits dequantised in their own dtype.

    Raises:
        ModelError: a weight's parts are missing or say another form than NF4.
    """
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    packed = [name.removesuffix(f".{STATE}") for name in tensors if name.endswith(STATE)]
    whole = {n: t for n, t in tensors.items() if not any(n.startswith(p) for p in packed)}
    return whole | {name: dequantise(*read_layer(name, tensors)) for name in packed}


def layer_tensors(name: str, layer: FourBitLinear) -> dict[str, Tensor]:
    """One weight's tensors, the packed one under `name` itself."""
    state: dict[str, Any] = {
        "quant_type": "nf4",
        "blocksize": BLOCK,
        "dtype": str(layer.dtype).removeprefix("torch."),
        "shape": [layer.out_features, layer.in_features],
    }
    found = {
        name: layer.packed,
        f"{name}.absmax": layer.blocks,
        f"{name}.quant_map": torch.tensor(LEVELS),
    }
    if layer.nested is not None and layer.offset is not None:
        state |= {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32"}
        state["nested_offset"] = layer.offset.item()
        found[f"{name}.nested_absmax"] = layer.nested
        found[f"{name}.nested_quant_map"] = dynamic_map(torch.device("cpu")).clone()
    told = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    return {**found, f"{name}.{STATE}": told}


def read_layer(name: str, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Scales, torch.dtype]:
    """What `nf4.dequantise` takes, of the weight with this name.

    Raises:
        ModelError: parts are missing, or it is another form than NF4 in blocks of 64.
    """
    try:
        state = json.loads(bytes(tensors[f"{name}.{STATE}"].tolist()))
        form = state["quant_type"], state["blocksize"], state.get("nested_blocksize", NESTED_BLOCK)
        if form != ("nf4", BLOCK, NESTED_BLOCK):
            raise ValueError(f"quant_type, blocksize, nested_blocksize: {form}")
        shape, dtype = tuple(state["shape"]), getattr(torch, state["dtype"])
        nested = offset = None
        if "nested_offset" in state:
            nested = tensors[f"{name}.nested_absmax"]
            offset = torch.tensor(state["nested_offset"])
        return tensors[name], Scales(shape, tensors[f"{name}.absmax"], nested, offset), dtype
    except (KeyError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot read {name} in four bits", found=str(error)) from error


def _whole(model: PreTrainedModel, packed: Mapping[str, FourBitLinear]) -> Iterator[Any]:
    """The tensors that stay as they are, a tied one once; the biases of packed layers too."""
    seen: set[int] = set()
    inner = {f"{n}.{part}" for n in packed for part in ("packed", "blocks", "nested", "offset")}
    for name, tensor in model.state_dict().items():
        if name not in inner and tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            yield name, tensor


def _config(packed: Mapping[str, FourBitLinear]) -> dict[str, Any]:
    """What transformers reads of the form, under `quantization_config`."""
    first = next(iter(packed.values()))
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": first.nested is not None,
        "bnb_4bit_compute_dtype": str(first.dtype).removeprefix("torch."),
        "bnb_4bit_quant_storage": "uint8",
    }
