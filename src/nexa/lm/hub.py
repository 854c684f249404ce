"""A Hub id -> the folder of its snapshot in the standard Hub cache.

Only configuration, tokenizer and safetensors are fetched. Downloads resume and are verified by
huggingface_hub; the Hub's own settings hold (HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import Context, copy_context
from pathlib import Path
from threading import Lock
from typing import Any

from huggingface_hub import errors as hub_errors
from huggingface_hub import snapshot_download
from huggingface_hub.utils.tqdm import tqdm as hub_tqdm

from nexa.core import events
from nexa.core.errors import ModelError, NetworkError
from nexa.core.store import storage_error
from nexa.lm.folder import CODE_PATTERNS, MODEL_PATTERNS, weight_files

# The one of huggingface_hub's bars that counts the bytes of all files together.
BYTES_BAR = "huggingface_hub.snapshot_download"
_UNREACHABLE: tuple[type[Exception], ...] = (
    hub_errors.LocalEntryNotFoundError,
    hub_errors.HTTPError,  # type: ignore[attr-defined]  # its HTTP library's, behind all its own
)


def cached(model_id: str, *, revision: str | None = None) -> Path | None:
    """The snapshot of a model in the Hub cache, without asking the Hub; None if it is not whole."""
    try:
        folder = snapshot_download(
            model_id,
            revision=revision,
            allow_patterns=list(MODEL_PATTERNS),
            local_files_only=True,
        )
    except hub_errors.LocalEntryNotFoundError:
        return None
    # Where only the configuration was fetched, huggingface_hub does not know what is missing.
    names = [path.name for path in Path(folder).iterdir()]
    return Path(folder) if weight_files(names) else None


def fetch(model_id: str, *, revision: str | None = None, code: bool = False) -> Path:
    """The snapshot of a model: what is missing is downloaded; offline, what the cache has.

    The folder's name is the commit. `code` fetches the model's own Python files too.

    Raises:
        ModelError: no such id or revision, or no permission.
        NetworkError: the Hub cannot be reached and the cache does not have the model.
        StorageError: no space for it.
    """
    patterns = [*MODEL_PATTERNS, *(CODE_PATTERNS if code else ())]
    download = _Download(model_id)
    with _told(model_id, revision), download.watched() as bar:
        folder = Path(
            snapshot_download(model_id, revision=revision, allow_patterns=patterns, tqdm_class=bar)
        )
    if not download.online:
        events.emit(
            "note",
            text=f"the Hub cannot be reached: {model_id} is the cache's commit {folder.name[:12]}",
        )
    return folder


@contextlib.contextmanager
def _told(model_id: str, revision: str | None) -> Iterator[None]:
    """huggingface_hub's errors as Nexa's."""
    try:
        yield
    except hub_errors.HFValidationError as error:
        raise ModelError(f"{model_id!r} is not a Hub id", found=str(error)) from error
    except hub_errors.GatedRepoError as error:
        raise ModelError(
            f"{model_id} is gated: its owners want you to accept their terms",
            fix="accept them on the model's page, then set HF_TOKEN",
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"the Hub has no model {model_id}, or it is private",
            found="there is no folder of this name here either",
            fix="check the id; for a private model set HF_TOKEN",
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise ModelError(f"{model_id} has no revision {revision!r} on the Hub") from error
    except _UNREACHABLE as error:
        raise NetworkError(
            f"cannot download {model_id}, and the Hub cache does not have it",
            found=str(error).strip().splitlines()[0],
            fix="run once where the Hub can be reached, or give a local folder or a .gguf file",
        ) from error
    except OSError as error:
        raise storage_error(Path(error.filename or "."), error) from error


class _Download:
    """Turns huggingface_hub's progress, which comes from its own threads, into events."""

    def __init__(self, model_id: str) -> None:
        self.task = f"downloading {model_id}"
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
