from __future__ import annotations

from nexa.cli.filter_docs import REASONS, filters_table, options_table
from nexa.core.config_filters import FILTER_SECTIONS
from nexa.data.filters import language, pii, quality, secrets


def test_every_filter_of_the_table_is_told_with_what_rows_are_counted_under() -> None:
    assert set(REASONS) == set(FILTER_SECTIONS)
    table = filters_table()
    for name in FILTER_SECTIONS:
        assert f"| `{name}`" in table
    told = {
        value
        for name, value in vars(quality).items()
        if name.isupper() and name[0] != "_" and isinstance(value, str)
    }
    assert told == set(REASONS["quality"])
    assert REASONS["language"] == (language.OTHER, language.UNKNOWN)
    assert all(reason.startswith(pii.WHAT) for reason in REASONS["pii"])
    assert all(reason.startswith(secrets.WHAT) for reason in REASONS["secrets"])
    assert "| `data.balance` | So that no domain outweighs the others" in table


def test_every_option_is_told_with_its_default() -> None:
    table = options_table()
    count = sum(len(section.model_fields) for section in FILTER_SECTIONS.values())
    assert table.count("\n| `") == count + 4
    assert "| `pii` | `action` | redact | " in table
    assert "| `language` | `keep` | needed | " in table
    assert "| `data.balance` | `seed` | 0 | " in table
