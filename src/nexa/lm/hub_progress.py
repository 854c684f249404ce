"""How far a download from the Hub is, as events; huggingface_hub draws no bars of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import Context, copy_context
from threading import Lock
from typing import Any

from huggingface_hub.utils.tqdm import tqdm as hub_tqdm

from nexa.core import events

# The one of huggingface_hub's bars that counts the bytes of all files together.
BYTES_BAR = "huggingface_hub.snapshot_download"


class Download:
    """Turns huggingface_hub's progress, which comes from its own threads, into events."""

    def __init__(self, what: str) -> None:
        self.task = f"downloading {what}"
        # huggingface_hub makes its bars only once the Hub has answered.
        self.online = False
        self.done_mb = 0.0
        self._context: Context = copy_context()
        self._lock = Lock()

    @contextlib.contextmanager
    def watched(self) -> Iterator[type[Any]]:
        """The tqdm class to hand over; the task begins with the first byte."""
        try:
            yield self._bar()
        finally:
            if self.done_mb:
                self._emit("progress.end", self.done_mb)

    def _bar(self) -> type[Any]:
        download = self

        class EventBar(hub_tqdm):
            """Draws nothing."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                download.online = True
                self.counts_bytes = kwargs.get("name") == BYTES_BAR
                super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]
                self.total = kwargs.get("total")

            def update(self, n: float | None = 1) -> None:
                if self.counts_bytes and n:
                    download.advance(n, self.total or 0)

        return EventBar

    def advance(self, size_bytes: float, total_bytes: float) -> None:
        """Count what has come; called from several threads."""
        with self._lock:
            first = not self.done_mb
            self.done_mb += size_bytes / 1e6
            total_mb = max(total_bytes / 1e6, self.done_mb)
            if first:
                self._emit("progress.start", total_mb)
            self._emit("progress", total_mb)

    def _emit(self, kind: str, total_mb: float) -> None:
        fields = {"task": self.task, "total": total_mb, "unit": "MB"}
        if kind != "progress.start":
            fields["done"] = self.done_mb
        self._context.run(events.emit, kind, **fields)
