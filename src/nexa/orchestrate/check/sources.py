"""The files of rows that a configuration names."""

from __future__ import annotations

from pathlib import Path

from nexa.core.config import Config
from nexa.core.tiers import Tiers
from nexa.data.sources import files_of
from nexa.orchestrate import sealed_data
from nexa.orchestrate.data_files import place_of, training_files


def all_files(config: Config, root: Path) -> list[Path]:
    """The files that are trained on, then the held-out ones.

    Raises:
        DataError: one of the paths leads to nothing; says what is there.
    """
    data = config.data
    sealed = sealed_data.find(data.train_path, Tiers.of(root))
    if sealed is not None:
        held = files_of(place_of(data.eval_path, root).path) if data.eval_path is not None else []
        return [sealed_data.file_of(sealed, Tiers.of(root)), *held]
    held_out = place_of(data.eval_path, root).path if data.eval_path is not None else None
    train, _ = training_files(place_of(data.train_path, root).path, held_out)
    return train if held_out is None else [*train, *files_of(held_out)]
