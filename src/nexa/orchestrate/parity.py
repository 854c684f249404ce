"""`nexa parity`: an export and the model that it was made from, compared anew."""

from __future__ import annotations

from pathlib import Path

from nexa.orchestrate.models import whole_model
from nexa.weights.checks import Parity
from nexa.weights.proof import prove_folder


def compare(export: str, source: str, project: Path) -> Parity:
    """Every check of an export against its source; a check that failed raises nothing here.

    Both are named as models are anywhere; `export` may be a folder that holds one GGUF file.

    Raises:
        UsageError: no such run.
        ModelError: no such model, or an adapter that nothing was merged from.
    """
    path = Path(export).expanduser()
    if not path.exists():
        named = whole_model(export, project=project)
        path = named.gguf or named.folder
    return prove_folder(path, whole_model(source, project=project))
