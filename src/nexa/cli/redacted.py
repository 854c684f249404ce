"""The last look at what goes to a terminal or a pipe, whoever writes it.

Nexa's own words are cleaned where they are made (`format.clean`). What third parties print,
their warnings, log records, progress bars and the tracebacks of their threads, goes through
standard output and standard error as well: so these two know the redactor.
"""

from __future__ import annotations

import sys
from typing import Any, TextIO, cast

from nexa.core.secrets import redact


class RedactedStream:
    """A text stream whose writes lose their secrets; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text` without secrets; returns the length of what was asked."""
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def redact_streams() -> None:
    """Put the redactor before standard output and error, once, for the rest of the process."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, RedactedStream):
            setattr(sys, name, cast(TextIO, RedactedStream(stream)))
