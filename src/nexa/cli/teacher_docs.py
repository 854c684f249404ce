"""The table of docs/TEACHERS.md, made from the code that it tells of."""

from __future__ import annotations

from nexa.lm.prices import SOURCE, TEACHERS
from nexa.lm.teachers import KEY_VARIABLES


def teacher_table() -> str:
    """Every teacher that has a short name, with its price."""
    rows = ["| name | API | key | context, tokens | $ in | $ out |", "|---|---|---|---|---|---|"]
    for name, row in TEACHERS.items():
        key = KEY_VARIABLES[row.provider]
        prices = f"{row.price.input_usd:.2f} | {row.price.output_usd:.2f}"
        rows.append(f"| `{name}` | {row.provider} | `{key}` | {row.context_tokens:,} | {prices} |")
    return "\n".join([*rows, "", f"Prices are for a million tokens: {SOURCE}."])
