"""What has to be sent to a Hub, and how far the sending is."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context, copy_context
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from nexa.core.errors import GateError, NetworkError
from nexa.core.events import Progress, emit, progress
from nexa.core.identity import sha256_bytes, sha256_file
from nexa.lm.hub_retry import Patience

Result = TypeVar("Result")


class Content:
    """A file to be published, with the digests that tell whether the Hub has it."""

    def __init__(self, name: str, source: bytes | Path) -> None:
        self.name = name
        self.source = source

    @cached_property
    def size_bytes(self) -> int:
        """Its length."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """The Hub's name for it as a large object."""
        source = self.source
        return sha256_bytes(source) if isinstance(source, bytes) else sha256_file(source)

    @cached_property
    def git_id(self) -> str:
        """What git calls it as a regular file; those are small."""
        data = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()

    def is_it(self, told: tuple[str, str]) -> bool:
        """Whether the Hub's digest is this content's."""
        kind, digest = told
        if isinstance(self.source, Path) and not self.source.is_file():
            return False
        return digest == (self.sha256 if kind == "sha256" else self.git_id)


def local_files(files: Mapping[str, bytes | Path]) -> dict[str, Content]:
    """The files of a publication by their path in it."""
    return {name: Content(name, source) for name, source in files.items()}


class Upload:
    """The sending of a publication's files, the large ones ahead of the commit."""

    def __init__(
        self, api: HfApi, repo: str, files: Mapping[str, Content], patience: Patience
    ) -> None:
        self.api = api
        self.repo = repo
        self.files = files
        self.patience = patience
        self.sent = False
        """Whether anything had to be sent."""
        self._operations: dict[str, Addition] = {}

    def missing(self, there: Mapping[str, tuple[str, str]]) -> list[Content]:
        """The files that the repository does not hold, small ones first."""
        missing = [
            content
            for name, content in self.files.items()
            if name not in there or not content.is_it(there[name])
        ]
        return sorted(missing, key=lambda content: content.size_bytes)

    def send(self, contents: list[Content]) -> None:
        """Upload the large files among these; the Hub keeps each, commit or not."""
        self.sent = True
        total_mb = sum(content.size_bytes for content in contents) / 1e6
        with progress(f"uploading to {self.repo}", total_mb, "MB") as bar:
            tally = Tally(bar)
            operations = self.operations(contents)
            for operation in operations:
                operation.tally = tally
            self.checked(
                lambda: self.api.preupload_lfs_files(
                    self.repo,
                    operations,
                    # One after the other: a kill loses what is under way, so let that be one file.
                    num_threads=1,
                    free_memory=False,
                ),
                f"uploading to {self.repo}",
            )
            tally.complete({content.name: content.size_bytes for content in contents})

    def operations(self, contents: list[Content]) -> list[Addition]:
        """The parts of a commit; the same ones again, so that nothing is asked or sent twice."""
        for content in contents:
            if content.name not in self._operations:
                self._operations[content.name] = Addition.of(content)
        return [self._operations[content.name] for content in contents]

    def checked(self, action: Callable[[], Result], doing: str) -> Result:
        """Call huggingface_hub patiently, without its bars and with its warnings as notes."""
        try:
            with quiet(), _noted():
                return self.patience.call(lambda: _without_xet(action), doing)
        except json.JSONDecodeError as error:
            raise NetworkError(
                f"{doing}: {self.api.endpoint} does not answer as a Hub", found=str(error)
            ) from error
        except ValueError as error:
            # What it finds wrong with the model card, and with single objects of an upload.
            raise GateError(
                f"the Hub refuses what would be published to {self.repo}", found=str(error)
            ) from error


class Addition(CommitOperationAdd):
    """A file of a commit that tells how much of it was read for sending."""

    tally: Tally | None = None

    @classmethod
    def of(cls, content: Content) -> Addition:
        """The operation that adds a file, its digest taken over."""
        operation = cls(content.name, content.source)
        operation.upload_info.sha256 = bytes.fromhex(content.sha256)
        return operation

    @contextlib.contextmanager
    def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
        """The content to read from; `with_tqdm` is asked for where it is uploaded."""
        with super().as_file() as file:
            if with_tqdm and self.tally is not None:
                yield Counted(file, self.path_in_repo, self.tally)  # type: ignore[misc]
            else:
                yield file


class Counted(io.BufferedIOBase):
    """A file whose reader's position is told; one that is rewound is sent again from there."""

    def __init__(self, file: BinaryIO, name: str, tally: Tally) -> None:
        self._file = file
        self._name = name
        self._tally = tally

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        data = self._file.read(-1 if size is None else size)
        self._tally.at(self._name, self._file.tell())
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move without telling."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()


class Tally:
    """How far each file is, as one bar; huggingface_hub reads from a thread of its own."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._context: Context = copy_context()
        self._done_bytes: dict[str, int] = {}

    def at(self, name: str, position_bytes: int) -> None:
        """A file has been sent up to here."""
        self._done_bytes[name] = position_bytes
        self._context.run(self._tell)

    def complete(self, sizes: Mapping[str, int]) -> None:
        """All is there, what the Hub had already and what goes with the commit too."""
        self._done_bytes = dict(sizes)
        self._tell()

    def _tell(self) -> None:
        self._bar.advance(sum(self._done_bytes.values()) / 1e6 - self._bar.done)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without huggingface_hub's own bars, unless the user's environment asks for them."""
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextlib.contextmanager
def _noted() -> Iterator[None]:
    """What the Hub warns of (a card without metadata) as notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        emit("note", text=str(warning.message))


def _without_xet(action: Callable[[], Result]) -> Result:
    """The action; where the Hub has no Xet, again without it."""
    try:
        return action()
    except ConnectionError as error:
        # hf_xet's own error: it has no status but in its words.
        if "xet-write-token" not in str(error) or "404" not in str(error):
            raise
        emit("note", text="this Hub does not speak Xet: uploading over plain HTTP instead")
        # The client's own switch; it reads the environment only when it is imported.
        constants.HF_HUB_DISABLE_XET = True
        return action()
