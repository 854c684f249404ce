"""Whether models read text alike: tokenizers compared by string, never by file.

A row of an embedding means the string with its id. So the strings and their ids count, and how
text is cut into them; formatting, field order and what a newer library writes beside them do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexa.core.errors import ModelError
from nexa.lm.folder import is_tokenizer, read_json
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer

SHOWN_ROWS = 20
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
PARTS = ("normalizer", "pre_tokenizer", "decoder")


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as far as merging is concerned."""

    ids: Mapping[str, int]
    """Every string that has an id, special tokens and added ones too."""
    kind: str = ""
    """How it cuts text: BPE, Unigram, WordPiece; empty where that cannot be read."""
    rules: tuple[str, ...] | None = None
    """Of BPE its merges in order, of Unigram each piece with its score."""
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of each added token: special, lstrip and so on."""
    parts: Mapping[str, Any] = field(default_factory=dict)
    """What is done to text before it is cut, and to tokens before they are text."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Which string ends a sequence, begins one, pads it."""
    template: str | None = None


@dataclass(frozen=True)
class Agreement:
    """Tokenizers with the same strings."""

    owner: Vocabulary
    renumbered: Mapping[int, Mapping[int, int]]
    """Of a model that numbers them otherwise: the owner's id of each string -> the model's."""
    largest_ids: tuple[int, ...]
    """The largest id of each model's tokenizer."""
    notes: tuple[str, ...]


def agree(models: Sequence[ModelFiles], owner: int) -> Agreement:
    """Compare every model's tokenizer with that of `models[owner]`.

    Raises:
        ModelError: other strings, or other rules to cut text into them; with a table of what.
    """
    # Equal files need to be read once only.
    known: dict[tuple[tuple[str, str], ...], Vocabulary] = {}
    vocabularies = []
    for files in models:
        key = tuple(sorted((n, sha) for n, sha in files.files.items() if is_tokenizer(n)))
        if key not in known:
            known[key] = read_vocabulary(files)
        vocabularies.append(known[key])
    first, names = vocabularies[owner], [files.name for files in models]
    _require_equal(vocabularies, names, owner)
    renumbered: dict[int, dict[int, int]] = {}
    notes: list[str] = []
    for place, other in enumerate(vocabularies):
        if other is first:
            continue
        if other.ids != first.ids:
            renumbered[place] = {first.ids[token]: other.ids[token] for token in first.ids}
            moved = sum(other.ids[token] != number for token, number in first.ids.items())
            notes.append(
                f"{names[place]} gives {moved} of {len(first.ids)} tokens other ids than "
                f"{names[owner]}: its rows are put in that order"
            )
        notes += _smaller_differences(first, other, names[owner], names[place])
    largest = tuple(max(vocabulary.ids.values()) for vocabulary in vocabularies)
    return Agreement(first, renumbered, largest, tuple(notes))


def read_vocabulary(files: ModelFiles) -> Vocabulary:
    """The tokenizer of a model: from its tokenizer.json, else through transformers.

    Raises:
        ModelError: it cannot be read.
    """
    folder = files.folder
    if "tokenizer.json" in files.files:
        told = read_json(folder / "tokenizer.json")
    else:
        told = _through_transformers(files)
    try:
        ids, kind, rules = _model(told["model"])
        flags = {token.pop("content"): token for token in map(dict, told.get("added_tokens") or ())}
        for token, fields in flags.items():
            ids[token] = fields.pop("id")
        for token, number in _added_elsewhere(folder, files.files):
            ids.setdefault(token, number)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"cannot read the tokenizer of {files.name}", found=repr(error)) from error
    if not ids:
        raise ModelError(f"the tokenizer of {files.name} has no entries")
    config = _optional(folder, files.files, "tokenizer_config.json")
    special = _optional(folder, files.files, "special_tokens_map.json")
    return Vocabulary(
        ids=ids,
        kind=kind,
        rules=rules,
        flags=flags,
        parts={part: told.get(part) for part in PARTS},
        roles={role: text for role in ROLES if (text := _role(role, config, special)) is not None},
        template=_template(folder, files.files, config),
    )


# -- reading -------------------------------------------------------------------------------------


def _through_transformers(files: ModelFiles) -> dict[str, Any]:
    """What tokenizer.json would hold; of a tokenizer written in Python, its strings only."""
    tokenizer: Any = load_tokenizer(files)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        told: dict[str, Any] = json.loads(backend.to_str())
        return told
    return {"model": {"vocab": tokenizer.get_vocab()}}


def _model(model: Mapping[str, Any]) -> tuple[dict[str, int], str, tuple[str, ...] | None]:
    """Ids, kind and rules of a tokenizer.json's model, whichever version wrote it."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: its id is a piece's place
        ids = {piece: number for number, (piece, _) in enumerate(vocabulary)}
        return ids, "Unigram", tuple(sorted(f"{piece} {score}" for piece, score in vocabulary))
    merges = model.get("merges")
    if merges is None:
        return dict(vocabulary), str(model.get("type") or ""), None
    # Either "a b" or ["a", "b"]; only the second could hold a space within a part.
    rules = tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in merges)
    return dict(vocabulary), str(model.get("type") or "BPE"), rules


def _added_elsewhere(folder: Path, names: Mapping[str, str]) -> list[tuple[str, int]]:
    """Tokens that only the files beside tokenizer.json name, as older libraries wrote them."""
    listed = _optional(folder, names, "tokenizer_config.json").get("added_tokens_decoder") or {}
    found = [(str(token["content"]), int(number)) for number, token in listed.items()]
    return found + list(_optional(folder, names, "added_tokens.json").items())


def _optional(folder: Path, names: Mapping[str, str], name: str) -> dict[str, Any]:
    return read_json(folder / name) if name in names else {}


def _role(role: str, *sources: Mapping[str, Any]) -> str | None:
    for source in sources:
        token = source.get(role)
        text = token.get("content") if isinstance(token, Mapping) else token
        if text is not None:
            return str(text)
    return None


def _template(folder: Path, names: Mapping[str, str], config: Mapping[str, Any]) -> str | None:
    if "chat_template.jinja" in names:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8").strip()
    found = _optional(folder, names, "chat_template.json").get("chat_template")
    found = config.get("chat_template") if found is None else found
    if isinstance(found, list):  # several, by name
        return json.dumps(found, sort_keys=True)
    return None if found is None else str(found).strip()


# -- what is refused -----------------------------------------------------------------------------


def _require_equal(vocabularies: Sequence[Vocabulary], names: Sequence[str], owner: int) -> None:
    first = vocabularies[owner]
    unlike = [
        place
        for place, other in enumerate(vocabularies)
        if other is not first
        and (other.ids.keys() != first.ids.keys() or _cut_otherwise(first, other))
    ]
    if not unlike:
        return
    shown = [owner, *unlike]
    lines = _table([vocabularies[p] for p in shown], [names[p] for p in shown])
    for place in unlike:
        lines += _told(first, vocabularies[place], names[owner], names[place])
    raise ModelError(
        "the models' tokenizers have other entries: a row of one is another string's in the other",
        found="\n".join(lines),
        fix="merge models that were trained from one base and whose tokenizers were not extended",
    )


def _cut_otherwise(first: Vocabulary, other: Vocabulary) -> bool:
    """Whether the same text becomes other tokens, though all of these are there."""
    known = first.rules is not None and other.rules is not None
    return known and (first.kind, first.rules) != (other.kind, other.rules)


def _table(vocabularies: Sequence[Vocabulary], names: Sequence[str]) -> list[str]:
    """The tokens that not every model has under one id: in columns, a line each, cut off."""
    every = {token for vocabulary in vocabularies for token in vocabulary.ids}
    rows = [
        (token, ids)
        for token in every
        if len(set(ids := tuple(v.ids.get(token) for v in vocabularies))) > 1
    ]
    # What is missing somewhere tells most; then by id, so that neighbours stand together.
    rows.sort(key=lambda row: (None not in row[1], [-1 if n is None else n for n in row[1]]))
    cells = [["token", *names]] + [
        [repr(token), *("-" if number is None else str(number) for number in ids)]
        for token, ids in rows[:SHOWN_ROWS]
    ]
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return lines + [f"and {len(rows) - SHOWN_ROWS} more"] * (len(rows) > SHOWN_ROWS)


def _told(first: Vocabulary, other: Vocabulary, ours: str, theirs: str) -> list[str]:
    """How many strings only one has, and where the rules part."""
    lines = []
    here, there = first.ids.keys() - other.ids.keys(), other.ids.keys() - first.ids.keys()
    if here or there:
        lines.append(f"only in {ours}: {len(here)}; only in {theirs}: {len(there)}")
    if _cut_otherwise(first, other):
        lines.append(_rules_part(first, other, ours, theirs))
    return lines + _smaller_differences(first, other, ours, theirs)


def _rules_part(first: Vocabulary, other: Vocabulary, ours: str, theirs: str) -> str:
    if first.kind != other.kind:
        return f"{ours} is a {first.kind} tokenizer, {theirs} a {other.kind} one"
    what = "merges" if first.kind == "BPE" else "scores"
    mine, yours = first.rules or (), other.rules or ()
    pairs = enumerate(zip(mine, yours, strict=False))
    part = next((i for i, (a, b) in pairs if a != b), min(len(mine), len(yours)))
    said = [repr(rules[part]) if part < len(rules) else "none" for rules in (mine, yours)]
    return (
        f"{what}: {len(mine)} in {ours}, {len(yours)} in {theirs}; they part at number {part}: "
        f"{said[0]} and {said[1]}"
    )


# -- what is noted -------------------------------------------------------------------------------


def _smaller_differences(first: Vocabulary, other: Vocabulary, ours: str, theirs: str) -> list[str]:
    """What leaves every row its string, so that the owner's way can be taken."""
    notes = [
        f"{role} is {first.roles.get(role)!r} in {ours} and {other.roles.get(role)!r} in {theirs}: "
        f"that of {ours} is taken"
        for role in ROLES
        if first.roles.get(role) != other.roles.get(role)
    ]
    flags = [
        token
        for token in first.flags.keys() & other.flags.keys()
        if not _alike(first.flags[token], other.flags[token])
    ]
    if flags:
        shown = ", ".join(map(repr, sorted(flags)[:5]))
        notes.append(f"{theirs} treats {len(flags)} added tokens otherwise than {ours}: {shown}")
    parts = [part for part in PARTS if not _alike(first.parts.get(part), other.parts.get(part))]
    if parts:
        notes.append(f"{theirs} has another {' and '.join(parts)} than {ours}, whose is taken")
    if first.template != other.template:
        text = f"the child has the chat template of {ours}, which is not that of {theirs}"
        if first.template is None:
            text = f"the child has no chat template, as {ours} has none; {theirs} has one"
        notes.append(text)
    return notes


def _alike(first: Any, other: Any) -> bool:
    """Equal, but for fields that only one of two library versions writes."""
    if isinstance(first, Mapping) and isinstance(other, Mapping):
        return all(_alike(first[key], other[key]) for key in first.keys() & other.keys())
    if isinstance(first, list) and isinstance(other, list):
        return len(first) == len(other) and all(map(_alike, first, other))
    return bool(first == other)
