from __future__ import annotations

from nexa.cli.teacher_docs import teacher_table
from nexa.lm.prices import SOURCE, TEACHERS


def test_every_teacher_is_a_row_with_its_price() -> None:
    table = teacher_table()
    assert "| `gpt-4o` | openai | `OPENAI_API_KEY` | 128,000 | 2.50 | 10.00 |" in table
    assert table.count("\n| `") == len(TEACHERS)
    assert table.endswith(f"{SOURCE}.")
