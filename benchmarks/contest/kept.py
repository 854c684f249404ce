"""What was measured, kept as it comes: one JSON line a measurement, so that a kill loses none."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Kept:
    """The measurements of one work, in a file or only in memory."""

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        """Read what is kept already.

        Raises:
            SystemExit: the file holds measurements of another work.
        """
        self._path, self._identity = path, dict(identity)
        self.records: list[Record] = read(path) if path is not None and path.exists() else []
        if any(record["work"] != self._identity for record in self.records):
            raise SystemExit(f"{path} holds measurements of other work: give --json another name")

    def add(self, kind: str, **fields: Any) -> Record:
        """Keep one measurement, with when it was made and how busy the machine was."""
        record = {
            "kind": kind,
            "at": round(time.time(), 1),
            "load": round(os.getloadavg()[0], 2),
            "work": self._identity,
            **fields,
        }
        self.records.append(record)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        return record

    def runs(self, name: str) -> list[Record]:
        """All runs of a contestant, in their order."""
        return [r for r in self.records if r["kind"] == "run" and r["contestant"] == name]

    @property
    def names(self) -> list[str]:
        """Everybody who has run, in the order of their first run."""
        told = [r["contestant"] for r in self.records if r["kind"] == "run"]
        return list(dict.fromkeys(told))

    def limits(self, dtype: str) -> list[float]:
        """Every measurement of the machine's limit."""
        of_dtype = [r for r in self.records if r["kind"] == "limit" and r["dtype"] == dtype]
        return [r["gflops"] for r in of_dtype]


def read(path: Path) -> list[Record]:
    """The lines of a file; the torn last line of a killed run is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
