"""What this machine is. Reading only; imports no torch, so that any command may ask."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

# Instruction sets with which a CPU multiplies bfloat16 at full speed; without them float32 wins.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


@dataclass(frozen=True)
class Machine:
    """One computer, as far as training cares."""

    cpu: str
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]
    bf16: bool
    system: str

    @property
    def gpu_type(self) -> str | None:
        """`A100x4`, or None."""
        if not self.gpus:
            return None
        return self.gpus[0] if len(self.gpus) == 1 else f"{self.gpus[0]}x{len(self.gpus)}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, for the manifest."""
        return asdict(self)


def this_machine() -> Machine:
    """Read it now."""
    info = _cpuinfo()
    return Machine(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        gpus=tuple(_gpus()),
        bf16=bool(BF16_FLAGS & set((info.get("flags") or info.get("Features") or "").split())),
        system=f"{platform.system()} {platform.machine()}",
    )


def usable_cores() -> int:
    """Cores this process may run on, which a container may have cut down."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is none."""
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8").split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _gpus() -> list[str]:
    """Names of NVIDIA GPUs by the driver's own tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if answer.returncode == 0]
