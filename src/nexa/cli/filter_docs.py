"""The tables of filters in docs/DATA_FORMAT.md, read off the code: what each does, its options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nexa.core.config_filters import FILTER_SECTIONS, BalanceSection
from nexa.data.filters import balance, normalise, quality
from nexa.data.filters.registry import described, option

# What a row that a filter says something of is counted under, where it is one of few words.
REASONS: dict[str, tuple[str, ...]] = {
    "normalise": (normalise.REASON,),
    "secrets": ("secret redacted (KINDS)", "secret (KINDS)"),
    "pii": ("personal data redacted (KINDS)", "personal data (KINDS)"),
    "quality": (
        *(quality.EMPTY, quality.ECHO, quality.LOOP, quality.BROKEN, quality.REPETITIVE),
        *(quality.FEW_LETTERS, quality.FEW_WORDS, quality.MANY_WORDS, quality.REFUSAL),
    ),
    "language": ("another language", "unknown language"),
    "safety": ("unsafe proposal (KINDS)",),
    "unphysical": ("unphysical (KINDS)",),
}


def filters_table() -> str:
    """Every filter that Nexa brings: what it does, and what rows are counted under."""
    rows = ["| filter | what it does | rows are counted under |", "|---|---|---|"]
    for entry in described(FILTER_SECTIONS):
        name = f"`{entry.name}`" + (", unless it is `false`" if entry.default else "")
        rows.append(f"| {name} | {entry.does} | {', '.join(REASONS[entry.name])} |")
    does = (BalanceSection.__doc__ or "").partition("\n")[0]
    rows.append(f"| `data.balance` | {does} | {balance.REASON} |")
    return "\n".join(rows)


def options_table() -> str:
    """Every option of every filter with its default."""
    rows = ["| filter | option | default | meaning |", "|---|---|---|---|"]
    for entry in described(FILTER_SECTIONS):
        rows += _rows(entry.name, entry.options)
    fields = BalanceSection.model_fields.items()
    rows += _rows("data.balance", [option(name, field) for name, field in fields])
    return "\n".join(rows)


def _rows(name: str, options: Iterable[tuple[Any, ...]]) -> list[str]:
    return [f"| `{name}` | `{key}` | {default} | {told} |" for key, default, told in options]
