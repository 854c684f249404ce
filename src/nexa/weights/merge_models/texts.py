"""The child's tokenizer, chat template and where it stops: those of one parent, its owner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nexa.core.errors import TemplateError
from nexa.core.events import emit
from nexa.lm.chat import ChatTemplate
from nexa.lm.folder import is_tokenizer, read_json
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer
from nexa.weights.checks import Check
from nexa.weights.folder import copy_tokenizer, write_generation_config
from nexa.weights.probes import nasty_ids

GENERATION = "generation_config.json"


def write_texts(owner: ModelFiles, out: Path) -> None:
    """Tokenizer and template byte for byte; generation stops at the template's end of turn too."""
    copy_tokenizer(owner.folder, owner.files, out)
    stops = _stops_of(owner)
    if not stops:
        emit("note", text=f"{owner.name}'s chat template cannot be settled: it stops as it did")
    write_generation_config(owner.folder, out, stop_ids=stops)


def text_checks(child: ModelFiles, owner: ModelFiles) -> Iterator[Check]:
    """What `write_texts` left, as it lies on the disk."""
    wanted, found = (
        {name: sha for name, sha in files.files.items() if is_tokenizer(name)}
        for files in (owner, child)
    )
    changed = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
    yield Check("tokenizer_files", not changed, changed or "equal", "equal to its owner's")
    ids = [nasty_ids(load_tokenizer(files)) for files in (owner, child)]
    other = [place for place, (a, b) in enumerate(zip(*ids, strict=True)) if a != b]
    yield Check("token_ids", not other, other or "equal", "equal to its owner's")
    path = child.folder / GENERATION
    eos = read_json(path).get("eos_token_id") if path.exists() else None
    listed = eos if isinstance(eos, list) else [eos]
    stops = list(_stops_of(owner))
    yield Check("end_of_turn", set(stops) <= set(listed), listed, stops)


def _stops_of(owner: ModelFiles) -> tuple[int, ...]:
    """Where an answer under the owner's template ends; none for a template nobody can settle."""
    try:
        return ChatTemplate(load_tokenizer(owner)).stop_ids
    except TemplateError:
        return ()
