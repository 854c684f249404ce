"""What this machine is, read without torch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from nexa.core import hardware
from nexa.core.hardware import (
    Limits,
    Machine,
    available_memory_bytes,
    container_limits,
    this_machine,
    usable_cores,
    usable_memory_bytes,
)


def machine(*gpus: str) -> Machine:
    return Machine("cpu", 2, 1 << 30, gpus, bf16=False, system="Linux x86_64")


def fake_driver(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an `nvidia-smi` of our own on the path."""
    tool = folder / "nvidia-smi"
    tool.write_text(text)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_this_machine_is_described_for_the_manifest() -> None:
    here = this_machine()
    assert here.cpu
    assert 1 <= here.cores <= (os.cpu_count() or 1)
    assert 0 < here.memory_bytes <= psutil.virtual_memory().total
    assert json.loads(json.dumps(here.to_json()))["system"] == here.system


@pytest.mark.parametrize(
    ("gpus", "name"),
    [((), None), (("NVIDIA H200",), "NVIDIA H200"), (("A100",) * 4, "A100x4")],
)
def test_gpus_of_a_kind_are_counted(gpus: tuple[str, ...], name: str | None) -> None:
    assert machine(*gpus).gpu_type == name


def test_gpus_are_those_that_the_driver_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_driver(tmp_path, "#!/bin/sh\necho 'NVIDIA A100 '\necho 'NVIDIA A100'\n", monkeypatch)
    assert this_machine().gpu_type == "NVIDIA A100x2"


@pytest.mark.parametrize("text", ["#!/bin/sh\necho 'No devices'\nexit 6\n", "\x7fELF no program"])
def test_a_driver_that_does_not_answer_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    fake_driver(tmp_path, text, monkeypatch)
    assert this_machine().gpus == ()


def test_without_a_driver_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert this_machine().gpus == ()


def test_the_first_processor_speaks_for_all(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("model name\t: One\nflags : fpu avx512_bf16\n\nmodel name : Two\n")
    assert hardware._cpuinfo(path) == {"model name": "One", "flags": "fpu avx512_bf16"}
    assert hardware._cpuinfo(tmp_path / "none") == {}


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "container_limits", Limits)
    assert usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS has none
    assert usable_cores() == os.cpu_count()


def group(root: Path, line: str, **files: str) -> Path:
    """A machine's root on which this process is in one control group; `a/b.c` is a file of it."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    with (root / "proc/self/cgroup").open("a") as file:
        file.write(f"{line}\n")
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def test_the_tightest_limit_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    root = group(
        tmp_path,
        "0::/pods/one",
        **{
            "memory.max": "max",
            "cpu.max": "max 100000",
            "pods/memory.max": "4000000000",
            "pods/memory.current": "1500000000",
            "pods/one/memory.max": "8000000000",
            "pods/one/memory.current": "1000000000",
            "pods/one/cpu.max": "150000 100000",
        },
    )
    assert container_limits(root) == Limits(4_000_000_000, 1_500_000_000, 1.5)


def test_groups_of_the_first_version_are_read_too(tmp_path: Path) -> None:
    lines = "4:memory:/box\n3:cpu,cpuacct:/box\n2:freezer:/box"
    root = group(
        tmp_path,
        lines,
        **{
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "memory/box/memory.limit_in_bytes": "2000000000",
            "memory/box/memory.usage_in_bytes": "500000000",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/box/cpu.cfs_quota_us": "50000",
            "cpu/box/cpu.cfs_period_us": "100000",
        },
    )
    assert container_limits(root) == Limits(2_000_000_000, 500_000_000, 0.5)


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert container_limits(tmp_path) == Limits()
    root = group(tmp_path, "0::/", **{"memory.max": "max", "cpu.max": "max 100000"})
    assert container_limits(root) == Limits()


def test_a_container_cuts_cores_and_memory_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "container_limits", lambda: Limits(3000, 1000, 0.4))
    assert usable_cores() == 1
    assert usable_memory_bytes() == 3000
    assert available_memory_bytes() == 2000
    monkeypatch.setattr(hardware, "container_limits", Limits)
    assert usable_memory_bytes() == psutil.virtual_memory().total
    assert 0 < available_memory_bytes() <= usable_memory_bytes()
