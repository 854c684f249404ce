"""Whether a run compiles its elementwise work: only where that repays its own cost."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nexa.core.events import emit
from nexa.lm.decoder.kernels import Kernels, swiglu
from nexa.train.batches import TokenRow
from nexa.train.memory import sizes_of
from nexa.train.spec import TrainSpec

# Measured on SmolLM2-135M and two cores: about 4 s to compile, and then 4 % faster steps. Three
# times what pays for itself, because both were measured on one machine.
COMPILE_S, GAIN, MARGIN = 4.0, 0.04, 3.0
SHORTEST_RUN_S = MARGIN * COMPILE_S / GAIN  # 300 s

# What a core computes in a step, at best: so no run is taken to be longer than it is.
FLOPS_A_CORE = {"bfloat16": 300e9, "float32": 120e9}
FLOPS_A_WEIGHT = 4  # a token: forward, and the gradient by the activations; weights are frozen


def compile_pays(
    spec: TrainSpec, rows: Sequence[TokenRow], precision: str, config: Mapping[str, Any]
) -> bool:
    """Whether the elementwise work of this run is to be compiled.

    A pure function of the run, the thread count and what is installed, so that a resumed run
    chooses as it did before. On a GPU it is left off: nothing was measured there.
    """
    if torch.cuda.is_available() or not has_compiler():
        return False
    return predicted_s(spec, rows, precision, config) >= SHORTEST_RUN_S


def predicted_s(
    spec: TrainSpec, rows: Sequence[TokenRow], precision: str, config: Mapping[str, Any]
) -> float:
    """Seconds of training at the best speed that this many threads could have."""
    mean_tokens = sum(len(row.ids) for row in rows) / len(rows)
    step_rows = min(spec.rows_per_step, len(rows))
    tokens = spec.total_steps(len(rows)) * step_rows * mean_tokens
    flops = FLOPS_A_WEIGHT * tokens * sizes_of(config).parameters
    return flops / (FLOPS_A_CORE[precision] * torch.get_num_threads())


def can_compile() -> bool:
    """Whether torch.compile builds here, found by building the smallest formula; told if it fails.

    A compiler that is there may still lack a header, a licence or room for its files.
    """
    out, both = torch.empty(2, 4), torch.ones(2, 8)
    try:
        Kernels(compiled=True).run(swiglu, [out], [both])
    except (RuntimeError, OSError) as error:  # what torch's compilers raise is a RuntimeError
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        emit("note", text=f"training without compiled kernels, about 4 % slower: {why[:200]}")
        return False
    return True


def has_compiler(headers: Path | None = None) -> bool:
    """Whether torch.compile can build for this processor: a C++ compiler, and Python's headers."""
    headers = headers or Path(sysconfig.get_path("include"))
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    return compiler is not None and (headers / "Python.h").exists()
