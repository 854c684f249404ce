"""Whether the files are there, can be read, and hold rows of a known shape."""

from __future__ import annotations

from nexa.core.errors import DataError
from nexa.data.detect import detect
from nexa.orchestrate import plan
from nexa.orchestrate.check.state import Flight


def output(flight: Flight) -> str:
    """The folder that training leaves may be written, and the publication may be asked for.

    Raises:
        StorageError: the folder holds somebody else's files.
        ConfigError: `publish` asks for what the method does not make.
    """
    plan.check_here(flight.config, flight.tiers)
    return str(plan.place(flight.root, flight.config.training.output_dir))


def files(flight: Flight) -> str:
    """Every file of rows is there, can be read and is not empty.

    Raises:
        DataError: names the first that is not.
    """
    size = 0
    for path in flight.files:
        try:
            with path.open("rb") as file:
                empty = not file.read(1)
        except OSError as error:
            raise DataError(
                f"cannot read {path}", found=error.strerror, fix="make the file readable"
            ) from error
        if empty:
            raise DataError(
                f"{path} is an empty file",
                fix="give a file with rows: data.train_path, data.eval_path",
            )
        size += path.stat().st_size
    flight.facts["data_bytes"] = size
    names = ", ".join(path.name for path in flight.files[:4])
    return f"{len(flight.files)} files, {size / 1e6:.1f} MB: {names}"


def formats(flight: Flight) -> str:
    """The rows of every file have a shape that can be trained on.

    Raises:
        FormatError: a file without; names the keys that were meant.
    """
    asked = flight.config.data.format
    seen = []
    for path in flight.files:
        found = detect(path)
        seen.append(f"{path.name}: {found.rows:,} rows, {found.format}")
    named = "" if asked == "auto" else f" (config.yaml says {asked})"
    return "; ".join(seen) + named
