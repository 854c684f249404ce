"""Every error a user can meet, as one tree; the exit code is part of the class.

NexaError            1
+-- UsageError       2   a wrong flag or argument
+-- ConfigError      3   config.yaml
+-- DataError        4   a data file, a row, a dataset
|   +-- TemplateError    a chat template whose loss mask cannot be known
+-- ModelError       5   a model that cannot be found, read or loaded
+-- TrainingError    6   a guard stopped the training
+-- EvalError        7   a suite, a generation, a score
+-- ParityError      8   a merge or an export that is not the model it came from
+-- GateError        9   publishing refused
+-- IntegrityError  10   bytes that are not what their digest says
+-- StorageError    11   no space, no permission, a torn write
+-- NetworkError    12   a download or an upload
+-- MissingExtra    13   an optional package is not installed
(Ctrl-C            130)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NexaError(Exception):
    """What went wrong, why, and what to do next; printed as three short lines, never a traceback.

    `found` says what was seen, `fix` is a command or an edit that helps.
    """

    exit_code = 1

    def __init__(self, what: str, *, found: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.found = found
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("found", self.found), ("try", self.fix)):
            if text:
                first, *rest = text.splitlines()
                lines.append(f"  {label:<6} {first}")
                lines += [f"         {line}" for line in rest]
        return "\n".join(lines)


class UsageError(NexaError, ValueError):
    """A flag or an argument that cannot be taken."""

    exit_code = 2


class ConfigError(NexaError, ValueError):
    """Mistakes in config.yaml: all of them at once, with line numbers."""

    exit_code = 3


class DataError(NexaError, ValueError):
    """A data file, a row or a dataset that cannot be used; names file and line."""

    exit_code = 4


class TemplateError(DataError):
    """A chat template under which the trained tokens cannot be known for certain."""


class ModelError(NexaError, ValueError):
    """A model that cannot be found, read or loaded."""

    exit_code = 5


class TrainingError(NexaError, RuntimeError):
    """A guard stopped the training before it could waste a run."""

    exit_code = 6


class EvalError(NexaError, ValueError):
    """A suite, a generation or a score that cannot be trusted."""

    exit_code = 7


class ParityError(NexaError, RuntimeError):
    """A merged or exported model that does not behave as the one it came from."""

    exit_code = 8


class GateError(NexaError, RuntimeError):
    """Publishing refused: evidence is missing or bad."""

    exit_code = 9


class IntegrityError(NexaError, ValueError):
    """Bytes that are not what their digest says; names the file."""

    exit_code = 10


class StorageError(NexaError, OSError):
    """The disk is full, read-only, or a write was torn."""

    exit_code = 11


class NetworkError(NexaError, ConnectionError):
    """A download or an upload that failed after its retries."""

    exit_code = 12


class MissingExtra(NexaError, ImportError):
    """An optional package is not installed; names the install line."""

    exit_code = 13


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name most like `word`, or None when nothing is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
