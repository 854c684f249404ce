"""What this machine is, read without torch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from nexa.core import hardware
from nexa.core.hardware import Machine, this_machine, usable_cores


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
    assert here.memory_bytes == psutil.virtual_memory().total
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
    assert usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS has none
    assert usable_cores() == os.cpu_count()
