"""The peers' environments: one folder a tool, made with pip, versions pinned.

torch comes first, so that no tool chooses another one. LLaMA-Factory's torchvision and torchaudio
need CUDA's libraries: they are taken out again, and a stand-in is imported for torchaudio.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TORCH = "torch==2.13.0"
READY = "ready"  # a file that says an environment is whole


@dataclass(frozen=True)
class Environment:
    """What is installed after torch (where it is needed), and what is taken out again."""

    install: tuple[str, ...]
    remove: tuple[str, ...] = ()
    torch: bool = True


# transformers.Trainer + PEFT is run in TRL's environment: all its parts are there.
ENVIRONMENTS = {
    "trl": Environment(("trl==1.16.0", "peft==0.21.2", "transformers==5.23.0")),
    "mergekit": Environment(("mergekit==0.1.5", "transformers==5.23.0")),
    "datatrove": Environment(
        ("datatrove[processing]==0.10.1", "orjson==3.13.0", "spacy==3.8.18"), torch=False
    ),
    "lf": Environment(("llamafactory==0.9.5",), remove=("torchvision", "torchaudio")),
}


def make(name: str, folder: Path) -> Path:
    """The environment `folder/name`, made unless it is there; returns its Python.

    Raises:
        CalledProcessError: pip failed; it has said why.
    """
    place = folder / name
    python = place / "bin" / "python"
    if (place / READY).exists():
        return python
    wanted = ENVIRONMENTS[name]
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
    constraints = place / "constraints.txt"
    constraints.write_text(f"{TORCH}\n", encoding="utf-8")
    pip = [str(python), "-m", "pip"]
    if wanted.torch:
        subprocess.run([*pip, "install", "--quiet", TORCH], check=True)
    tools = ["--constraint", str(constraints), *wanted.install]
    subprocess.run([*pip, "install", "--quiet", *tools], check=True)
    if wanted.remove:
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", *wanted.remove], check=True)
    (place / READY).touch()
    return python
