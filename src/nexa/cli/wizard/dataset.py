"""The data: by number, path or Hub id; its format with the evidence, and its first rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.cli.format import clean, number
from nexa.cli.wizard.asking import Asker, Choice
from nexa.core.errors import UsageError
from nexa.orchestrate.data_files import EVAL_FRACTION, DataFiles, data_files, place_of
from nexa.orchestrate.start.data_found import data_offers
from nexa.orchestrate.start.init import require_share


@dataclass(frozen=True)
class Data:
    """What was answered, and what lies there."""

    reference: str
    files: DataFiles


def ask_data(asker: Asker, given: str | None, project: Path) -> Data:
    """Ask for data until rows are found that can be trained on."""
    asker.title("Data")
    offers = data_offers(project) if given is None else []
    asker.offer([Choice(offer.path, offer.reason) for offer in offers])
    if given is None and not offers:
        asker.tell("No data file was found in this folder or below it.")
    paths = [offer.path for offer in offers]
    data = asker.ask(
        "Number, file, folder or Hub dataset" if paths else "File, folder or Hub dataset",
        lambda reference: Data(reference, data_files(place_of(reference).path)),
        flag="data",
        given=given,
        default=paths[0] if paths else None,
        numbered=paths,
    )
    _show(asker, data.files)
    return data


def ask_share(asker: Asker, given: float | None, data: Data) -> float | None:
    """The share of the rows that is set aside; None where a file is held out already."""
    if data.files.held_out is not None:
        if given is not None:
            asker.tell(f"{data.files.held_out.name} is held out, so no share is set aside.")
        return None
    asker.title("Evaluation")
    asker.tell("These rows are never trained on: base and tuned model both answer them.")

    def check(answer: str) -> float:
        share = require_share(_share(answer))
        if round(data.files.rows * share) == 0:
            raise UsageError(
                "of too few rows this sets none aside", found=f"{data.files.rows} rows"
            )
        return share

    return asker.ask(
        "Share of the rows to set aside",
        check,
        flag="eval-fraction",
        given=None if given is None else f"{given:g}",
        default=f"{EVAL_FRACTION:g}",
    )


def _share(answer: str) -> float:
    """`0.1` and `10%` are the same."""
    try:
        return float(answer.removesuffix("%")) / (100 if answer.endswith("%") else 1)
    except ValueError as error:
        raise UsageError(f"{answer!r} is no share", fix="0.1, or 10%") from error


def _show(asker: Asker, files: DataFiles) -> None:
    found = files.detection
    asker.tell(f"Format: {files.format}, {number(files.rows)} rows to train on")
    for evidence in found.evidence if found else ():
        asker.tell(f"  {evidence}")
    if files.held_out is not None:
        asker.tell(f"Held out: {files.held_out.name}, {number(files.eval_rows)} rows")
    for path, reason in files.left_out:
        asker.tell(f"Left out: {path.name} ({reason})")
    for row in found.first if found else ():
        asker.tell(f"  {_one_line(row)}")


def _one_line(row: Mapping[str, Any]) -> str:
    """A row in the width of the terminal."""
    width = max(20, shutil.get_terminal_size().columns - 8)
    text = clean(json.dumps(row, ensure_ascii=False, default=str)[: 4 * width])
    return text if len(text) <= width else f"{text[: width - 3]}..."
