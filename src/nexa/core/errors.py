"""Every error a user can meet, as one tree; the exit code is part of the class.

NexaError            1
+-- UsageError       2   a wrong flag or argument
+-- ConfigError      3   config.yaml
+-- DataError        4   a data file, a row, a dataset
|   +-- FormatError     14   rows of no known shape
|   +-- TruncationError 15   the cut to max_length takes answers away
|   +-- LeakError       16   evaluation rows among the training rows
|   +-- TemplateError   17   a chat template whose end of turn or trained tokens are unknown
|       +-- MaskError       18   tokens that must bear loss do not
|       +-- BosError        19   a row begins with two beginning-of-sequence tokens
+-- ModelError       5   a model that cannot be found, read or loaded
|   +-- VocabularyError 20   tokenizer and embedding do not fit
|   +-- WeightsError    21   weights that are not numbers
+-- TrainingError    6   a guard stopped the training
|   +-- NothingTrained  22   no parameter would be trained
+-- EvalError        7   a suite, a generation, a score
+-- ParityError      8   a merge or an export that is not the model it came from
+-- GateError        9   publishing refused
+-- IntegrityError  10   bytes that are not what their digest says
+-- StorageError    11   no space, no permission, a torn write
+-- NetworkError    12   a download or an upload
+-- MissingExtra    13   an optional package is not installed
+-- AccessError     23   a token that is missing, wrong, expired or may not do this
+-- CapacityError   24   the machine's memory does not hold this
+-- BudgetSpent     25   the next request may cost more than what is left of the budget
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


class FormatError(DataError):
    """Rows of no known shape; names the keys that were meant."""

    exit_code = 14


class TruncationError(DataError):
    """The cut to `max_length` takes whole answers away."""

    exit_code = 15


class LeakError(DataError):
    """Evaluation rows are among the training rows."""

    exit_code = 16


class TemplateError(DataError):
    """A chat template whose trained tokens cannot be known for certain, or that ends no turn."""

    exit_code = 17


class MaskError(TemplateError):
    """Tokens that must bear loss, the end of a turn above all, do not."""

    exit_code = 18


class BosError(TemplateError):
    """Text that begins with two beginning-of-sequence tokens."""

    exit_code = 19


class ModelError(NexaError, ValueError):
    """A model that cannot be found, read or loaded."""

    exit_code = 5


class VocabularyError(ModelError):
    """A tokenizer whose ids the model's embedding does not have."""

    exit_code = 20


class WeightsError(ModelError):
    """Weights that are not numbers; names the tensors."""

    exit_code = 21


class TrainingError(NexaError, RuntimeError):
    """A guard stopped the training before it could waste a run."""

    exit_code = 6


class NothingTrained(TrainingError):
    """No parameter would be trained."""

    exit_code = 22


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


class AccessError(NexaError, PermissionError):
    """A token that is missing, wrong, expired, or may not do what was asked."""

    exit_code = 23


class CapacityError(NexaError, RuntimeError):
    """The machine's memory does not hold what was asked; says what would fit."""

    exit_code = 24


class BudgetSpent(NexaError, RuntimeError):
    """What may be spent is spent, or the next request may carry it beyond; answers are kept."""

    exit_code = 25


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name most like `word`, or None when nothing is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
