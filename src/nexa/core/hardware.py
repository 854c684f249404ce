"""What this machine is. Reading only; imports no torch, so that any command may ask."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from nexa.core.secrets import child_environment

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
        memory_bytes=usable_memory_bytes(),
        gpus=tuple(_gpus()),
        bf16=bool(BF16_FLAGS & set((info.get("flags") or info.get("Features") or "").split())),
        system=f"{platform.system()} {platform.machine()}",
    )


def usable_cores() -> int:
    """Cores this process may run on, which a container may have cut down."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quota = container_limits().cpus
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def usable_memory_bytes() -> int:
    """The machine's memory, or the container's part of it where that is smaller."""
    total = psutil.virtual_memory().total
    limit = container_limits().memory_bytes
    return total if limit is None else min(total, limit)


def available_memory_bytes() -> int:
    """What a process could take now without anybody being killed or swapped out."""
    free = psutil.virtual_memory().available
    limits = container_limits()
    if limits.memory_bytes is None:
        return free
    return max(0, min(free, limits.memory_bytes - limits.memory_used_bytes))


@dataclass(frozen=True)
class Limits:
    """What a container (a control group) allows; None where it sets no limit."""

    memory_bytes: int | None = None
    memory_used_bytes: int = 0
    cpus: float | None = None


def container_limits(root: Path = Path("/")) -> Limits:
    """The tightest limits of this process's control groups, version 1 and 2.

    A limit of any group above counts too. Inside a container the groups' own paths may not be
    visible: then the mounted root stands for them.
    """
    memory: list[tuple[int, int]] = []
    cpus: list[float] = []
    for folder, is_v2 in _control_groups(root):
        names = ("memory.max", "memory.current") if is_v2 else V1_MEMORY
        limit, used = (_count(folder / name) for name in names)
        if limit is not None and limit < V1_UNLIMITED:
            memory.append((limit, used or 0))
        quota = _cpu_quota(folder, is_v2=is_v2)
        if quota is not None:
            cpus.append(quota)
    limit, used = min(memory, default=(None, 0))
    return Limits(limit, used or 0, min(cpus, default=None))


V1_MEMORY = ("memory.limit_in_bytes", "memory.usage_in_bytes")
V1_UNLIMITED = 1 << 60  # version 1 says "no limit" by a number near 2**63


def _control_groups(root: Path) -> list[tuple[Path, bool]]:
    """The folders of this process's groups and of all above them, each with `is version 2`."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    mounted = root / "sys/fs/cgroup"
    folders: dict[Path, bool] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        wanted = {"memory", "cpu"} & set(controllers.split(","))
        bases = [mounted / name for name in sorted(wanted)] if controllers else [mounted]
        for base in bases:
            folder = base / path.strip("/")
            while folder != base:
                folders[folder] = not controllers
                folder = folder.parent
            folders[base] = not controllers
    return list(folders.items())


def _cpu_quota(folder: Path, *, is_v2: bool) -> float | None:
    """CPUs that the group may use at a time, or None."""
    if is_v2:
        quota, _, period = _text(folder / "cpu.max").partition(" ")
    else:
        quota = _text(folder / "cpu.cfs_quota_us")
        period = _text(folder / "cpu.cfs_period_us")
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None
    return int(quota) / int(period)


def _count(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    """A file's content; nothing where it is not there or not ours to read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


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
        answer = subprocess.run(
            query,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env=child_environment(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if answer.returncode == 0]
