"""The tables of docs/DATA_FORMAT.md, read off the code: formats, files, labels, rejects."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from nexa.cli.filter_docs import filters_table, options_table
from nexa.core.values import MAX_DEPTH, MAX_ROW_BYTES
from nexa.data import files
from nexa.data.filters import duplicates, leaks, lengths, split
from nexa.data.loaders import LOADERS
from nexa.data.loaders.text import PIECE
from nexa.data.loaders.unpacking import LEAST_BOUND, MOST_RATIO, SETTING
from nexa.data.schemas import BUILT_IN, Shape
from nexa.data.schemas.fields import LABELS, ROLES
from nexa.data.schemas.sharegpt import ROLE_NAMES
from nexa.data.schemas.types import DatasetType, dataset_types
from nexa.data.sources import MALFORMED, NOT_ROWS, NOTES, SAMPLE_ROWS

ASKED, ANSWERED = "Which metal is liquid at 25 °C?", "Mercury."
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "messages": {
        "messages": [
            {"role": "system", "content": "Answer in one word."},
            {"role": "user", "content": ASKED},
            {"role": "assistant", "content": ANSWERED},
        ]
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWERED}]
    },
    "record": {
        "context": "Mercury melts at 234.3 K.",
        "prompt": "Give the record.",
        "target_answer": {"name": "mercury", "melting_point_k": 234.3},
        "domain": "metals",
        "source": "handbook",
        "quality_score": 0.9,
    },
    "completion": {"prompt": ASKED, "completion": ANSWERED},
    "alpaca": {"instruction": "Name the metal.", "input": "Hg", "output": ANSWERED},
    "question-answer": {"question": ASKED, "answer": ANSWERED},
    "text": {"text": "Mercury is liquid at 25 °C. It melts at 234.3 K."},
}
LABEL_MEANINGS: Mapping[str, str] = {
    "domain": "what the row is about: suites take rows of every domain in proportion",
    "source": "where the row comes from, in your words",
    "quality_score": "a finite number, kept with the row",
    "group": "what the row belongs to: rows of a group stay in one split, and intervals are "
    "clustered by it",
    "id": "the row's own name; without one it is the beginning of the row's digest",
}
REASONS: Mapping[str, str] = {
    MALFORMED: "it cannot be read, or has not the keys or values of its file's format",
    duplicates.EXACT: "an earlier row is the same but for blanks and Unicode composition",
    duplicates.SAME_ID: "an earlier row with other words has its id",
    duplicates.NEAR: "an earlier row has all but a word or two, the same numbers and short answer",
    leaks.LEAK: "it has the prompt of a row of the suite, is nearly one, or quotes one",
    lengths.REFUSED: "the model's template cannot write it, or not so that its answer is known",
    lengths.TOO_LONG: "more tokens than `max_length`; more than 1 % of these are an error",
    split.BOTH_SIDES: "it is like rows of both splits, or of one and of a group of the other",
}


def formats_table() -> str:
    """Every format with its keys."""
    rows = ["| format | keys it must have | keys it may have |", "|---|---|---|"]
    for shape in BUILT_IN:
        needed = " or ".join(", ".join(f"`{key}`" for key in keys) for keys in shape.key_sets)
        other = [key for key in shape.optional if key not in LABELS]
        may = ", ".join(f"`{key}`" for key in other) or "-"
        rows.append(f"| [`{shape.name}`](#{shape.name}) | {needed} | {may} |")
    return "\n".join(rows)


def format_sections() -> str:
    """A section for every format: an example, what becomes of it, its rules."""
    return "\n\n".join(_section(shape) for shape in BUILT_IN)


def labels_table() -> str:
    """The keys that rows of every format may have."""
    rows = ["| key | meaning |", "|---|---|"]
    return "\n".join(rows + [f"| `{key}` | {LABEL_MEANINGS[key]} |" for key in LABELS])


def roles_table() -> str:
    """The speakers of `messages`, and what ShareGPT's are called there."""
    rows = ["| role | in `sharegpt` |", "|---|---|"]
    for role in ROLES:
        names = ", ".join(f"`{name}`" for name, is_ in ROLE_NAMES.items() if is_ == role)
        rows.append(f"| `{role}` | {names or '-'} |")
    return "\n".join(rows)


def loaders_table() -> str:
    """Every file type, how it is read, and what a row's number is."""
    rows = ["| file | what it holds |", "|---|---|"]
    by_module: dict[str, list[str]] = {}
    for suffix in LOADERS.names():
        by_module.setdefault(LOADERS[suffix].__module__, []).append(suffix)
    for module, suffixes in by_module.items():
        names = ", ".join(f"`.{suffix}`" for suffix in suffixes)
        rows.append(f"| {names} | {_first_sentences(module)} |")
    return "\n".join(rows)


def limits_table() -> str:
    """The numbers that reading files keeps to."""
    others = ", ".join(f"`{name}`" for name in sorted(NOT_ROWS))
    notes = ", ".join(name.upper() for name in NOTES)
    limits = {
        "a row": f"at most {MAX_ROW_BYTES >> 20} MB of text",
        "lists and objects in each other": f"at most {MAX_DEPTH} deep",
        "a format is told from": f"the first {SAMPLE_ROWS} rows of a file",
        "a packed file holds": f"at most {MOST_RATIO} times its size, or {LEAST_BOUND >> 20} MB if "
        f"that is more; `{SETTING}` sets another bound",
        "a piece of plain text": f"{PIECE:,} characters, up to the next blank line",
        "never rows in a folder": f"{others}; prose named {notes}; hidden files",
    }
    rows = ["| what | limit |", "|---|---|"]
    return "\n".join(rows + [f"| {what} | {limit} |" for what, limit in limits.items()])


def types_table() -> str:
    """Every dataset type: the keys that its rows must have, and what it is for."""
    rows = ["| type | a row has | what it is |", "|---|---|---|"]
    types = dataset_types().values()
    return "\n".join(rows + [f"| `{t.name}` | {_keys(t)} | {t.meaning} |" for t in types])


def rejects_table() -> str:
    """Every reason for which a row is left out."""
    rows = ["| reason | the row |", "|---|---|"]
    return "\n".join(rows + [f"| {reason} | {why} |" for reason, why in REASONS.items()])


def columns_table() -> str:
    """The columns of a dataset's Parquet files."""
    rows = ["| column | type |", "|---|---|"]
    for field in files.COLUMNS:
        kind = "list of (role, content)" if field.name == "messages" else str(field.type)
        rows.append(f"| `{field.name}` | {kind}{', or null' if field.nullable else ''} |")
    return "\n".join(rows)


DATA_FORMAT_PARTS: Mapping[str, Callable[[], str]] = {
    "formats": formats_table,
    "labels": labels_table,
    "format sections": format_sections,
    "roles": roles_table,
    "types": types_table,
    "loaders": loaders_table,
    "limits": limits_table,
    "rejects": rejects_table,
    "columns": columns_table,
    "filters": filters_table,
    "filter options": options_table,
}


def _keys(type_: DatasetType) -> str:
    if type_.name == "sft":
        return "the keys of any [format](#formats)"
    ways = [", ".join(f"`{key}`" for key in variant.key_sets[0]) for variant in type_.variants]
    return "; or ".join(ways)


def _section(shape: Shape) -> str:
    example = EXAMPLES[shape.name]
    content = shape.convert(example)
    turns = [f"| {m['role']} | {_cell(m['content'])} |" for m in content.messages]
    doc = inspect.getdoc(sys.modules[shape.convert.__module__]) or ""
    rules = doc.partition("\n\n")[2]
    return "\n\n".join(
        [
            f"### {shape.name}",
            f"```json\n{json.dumps(example, ensure_ascii=False)}\n```",
            "\n".join(["| role | content |", "|---|---|", *turns]),
            rules,
        ]
    )


def _first_sentences(module: str) -> str:
    """A loader module's first paragraph, on one line."""
    doc = inspect.getdoc(sys.modules[module]) or ""
    return " ".join(doc.partition("\n\n")[0].split()).replace("|", "\\|")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")
