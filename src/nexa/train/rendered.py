"""Rendered rows, kept from one use of a dataset to the next.

Rendering and tokenizing are most of the start of a training on a few thousand rows, and the flight
check has done both just before. What is kept is checked whole when it is read, by the same digest
that a checkpoint's record carries; what does not fit is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from nexa.core.errors import StorageError
from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.store import write_atomic
from nexa.lm.folder import is_tokenizer
from nexa.lm.resolve import ModelFiles
from nexa.train.batches import TokenRow

VERSION = 1  # raised whenever equal rows are rendered otherwise
KEPT_FILES = 4  # the newest; a dataset of 7,000 rows takes 7 MB


@dataclass(frozen=True)
class RenderedRows:
    """A folder of rendered rows. `tokenizer` are the digests of the tokenizer's files by name."""

    folder: Path
    tokenizer: Mapping[str, str]

    def get(
        self,
        row_ids: Sequence[str],
        *,
        content: str,
        template: str,
        render: Callable[[], list[TokenRow]],
    ) -> list[TokenRow]:
        """The rows, from the folder or from `render`, which is then kept.

        `content` is the digest of the conversations, `template` that of the chat template.
        """
        path = self.folder / f"{self._key(content, template)}.safetensors"
        kept = _read(path, row_ids)
        if kept is not None:
            return kept
        rows = render()
        try:
            write_atomic(path, _packed(rows))
        except StorageError as error:
            emit("note", text=f"rendered rows are not kept for the next start: {error.what}")
        self._forget_older()
        return rows

    def _key(self, content: str, template: str) -> str:
        made_by = [VERSION, version("tokenizers"), transformers.__version__]
        return sha256_bytes(canonical_json([content, template, dict(self.tokenizer), made_by]))[:32]

    def _forget_older(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # another process does the same
            files = sorted(self.folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
            for path in files[:-KEPT_FILES]:
                path.unlink()


def rendered_rows(folder: Path | None, model: ModelFiles) -> RenderedRows | None:
    """The rows rendered with this model's tokenizer that are kept in `folder`; None: nowhere."""
    if folder is None:
        return None
    parts = {name: sha256 for name, sha256 in model.files.items() if is_tokenizer(name)}
    return RenderedRows(folder, parts)


def mask_digest(rows: Iterable[TokenRow]) -> str:
    """sha256 over the rows' token ids and loss masks, in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(struct.pack(f"<I{len(row.ids)}I", len(row.ids), *row.ids))
        digest.update(bytes(row.trained))
    return digest.hexdigest()


def _packed(rows: Sequence[TokenRow]) -> bytes:
    tensors = {
        "lengths": torch.tensor([len(row.ids) for row in rows], dtype=torch.int64),
        "ids": torch.tensor(list(chain.from_iterable(row.ids for row in rows)), dtype=torch.int32),
        "trained": torch.tensor(
            list(chain.from_iterable(row.trained for row in rows)), dtype=torch.uint8
        ),
    }
    return save(tensors, metadata={"rows_sha256": mask_digest(rows)})


def _read(path: Path, row_ids: Sequence[str]) -> list[TokenRow] | None:
    """The rows that the file holds; None if there is none, or it is not what it was written as."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get("rows_sha256")
            lengths, ids, trained = (
                file.get_tensor(name).tolist() for name in ("lengths", "ids", "trained")
            )
    except (SafetensorError, OSError) as error:
        emit("note", text=f"rendered rows are made anew: {path.name} cannot be read ({error})")
        return None
    rows, begin = [], 0
    for row_id, length in zip(row_ids, lengths, strict=False):
        part = slice(begin, begin + length)
        rows.append(TokenRow(row_id, ids[part], list(map(bool, trained[part]))))
        begin += length
    if len(lengths) != len(row_ids) or mask_digest(rows) != told:
        emit("note", text=f"rendered rows are made anew: {path.name} is not what was written")
        return None
    return rows
