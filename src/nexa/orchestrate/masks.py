"""`nexa data mask`: rows as a model's own template would train them."""

from __future__ import annotations

from pathlib import Path

from nexa.core.tiers import Tiers
from nexa.data.mask import MaskedRow, mask_file
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import Source, resolve
from nexa.lm.tokenizer import load_tokenizer
from nexa.orchestrate.data_files import place_of
from nexa.orchestrate.models import run_of


def masked_rows(
    path: Path, model: str, *, source: Source, rows: int, project: Path
) -> list[MaskedRow]:
    """The first rows of a file, cut into what is trained and what is not."""
    wanted = run_of(model, Tiers.of(project)) or model
    files = resolve(wanted, source=source, project=project)
    rows_at = place_of(path).path
    return list(mask_file(rows_at, ChatTemplate(load_tokenizer(files)), limit=rows))
