"""LoRA adapters on linear layers (also rsLoRA and DoRA), and PEFT's own file format for them.

A layer's output becomes `x W^T + scale * (x A^T) B^T`; A and B are float32 whatever the model's
dtype. Attaching overrides the layer's `forward` and nothing else: the module tree, its names and
its `state_dict` stay as they were, and detaching removes every trace. What is written is read by
plain `peft.PeftModel.from_pretrained`, and the other way round.

Read `spec.py` first (what an adapter is), then `attached.py` (on a model), `products.py` (the
arithmetic) and `files.py`.
"""

from nexa.lm.adapters.attached import Adapter, AttachedLora, attach, load, start
from nexa.lm.adapters.files import (
    CONFIG,
    PREFIX,
    WEIGHTS,
    module_names,
    peft_config,
    read,
    tensor_names,
    write,
)
from nexa.lm.adapters.layers import DenseLinear, Layer, frozen_weight, target_layers, target_names
from nexa.lm.adapters.products import delta, row_norms
from nexa.lm.adapters.spec import LoraSpec, Targets

__all__ = [
    "CONFIG",
    "PREFIX",
    "WEIGHTS",
    "Adapter",
    "AttachedLora",
    "DenseLinear",
    "Layer",
    "LoraSpec",
    "Targets",
    "attach",
    "delta",
    "frozen_weight",
    "load",
    "module_names",
    "peft_config",
    "read",
    "row_norms",
    "start",
    "target_layers",
    "target_names",
    "tensor_names",
    "write",
]
