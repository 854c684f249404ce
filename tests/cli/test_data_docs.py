from __future__ import annotations

import jsonschema
import pytest

from nexa.cli import data_docs
from nexa.cli.data_docs import DATA_FORMAT_PARTS, EXAMPLES, LABEL_MEANINGS, REASONS
from nexa.cli.schema_docs import with_part
from nexa.data.filters import duplicates, leaks, lengths, split
from nexa.data.schemas import BUILT_IN, LABELS, SCHEMAS, shape_of
from tests.architecture.files import ROOT

DOCUMENT = ROOT / "docs" / "DATA_FORMAT.md"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_a_row_of_its_format(name: str) -> None:
    assert shape_of(EXAMPLES[name]) == name
    jsonschema.validate(EXAMPLES[name], SCHEMAS[name].json_schema)
    section = data_docs.format_sections().partition(f"### {name}\n")[2].partition("\n### ")[0]
    for message in SCHEMAS[name].convert(EXAMPLES[name]).messages:
        assert f"| {message['role']} | " in section


def test_every_format_label_and_reason_is_told() -> None:
    assert list(EXAMPLES) == [shape.name for shape in BUILT_IN]
    assert set(LABEL_MEANINGS) == set(LABELS)
    told = {
        value
        for module in (duplicates, leaks, lengths, split)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and name != "SALT"
    }
    assert told | {"malformed"} == set(REASONS)


def test_tables_name_what_the_code_has() -> None:
    assert "| [`alpaca`](#alpaca) | `instruction`, `output` or `instruction`, `response` |" in (
        data_docs.formats_table()
    )
    assert "| `.csv`, `.tsv` | CSV and TSV: a header" in data_docs.loaders_table()
    assert "`gpt`" in data_docs.roles_table()
    assert "8 MB" in data_docs.limits_table()
    assert "NEXA_MAX_UNPACKED_GB" in data_docs.limits_table()
    assert "| `eval` | `prompt`, `target`, `id` | a prompt and the" in data_docs.types_table()
    assert "| `messages` | list of (role, content) |" in data_docs.columns_table()


def test_the_document_has_every_part() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, make in DATA_FORMAT_PARTS.items():
        text = with_part(text, name, make())
    assert text.count("### ") == len(BUILT_IN)
