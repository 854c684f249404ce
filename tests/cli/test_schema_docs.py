"""The documents that are read off the code say all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from nexa.cli import docs
from nexa.cli.schema_docs import _parts, manifest_schema, source_packages, source_tree, with_part
from nexa.core.manifest import PRIVATE, Cost, RunManifest
from nexa.core.records import KINDS

ROOT = Path(__file__).parents[2]
DOCUMENTED = [RunManifest, Cost, *KINDS.values(), *sorted(_parts(), key=lambda part: part.__name__)]


@pytest.mark.parametrize("model", DOCUMENTED, ids=lambda model: model.__name__)
def test_every_field_says_what_it_means(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("model", DOCUMENTED, ids=lambda model: model.__name__)
def test_every_field_has_its_row(model: type[BaseModel]) -> None:
    text = manifest_schema()
    for name, field in model.model_fields.items():
        assert f"\n| `{field.alias or name}` | " in text


def test_the_labs_fields_come_before_nexas() -> None:
    text = manifest_schema()
    labs, _, own = text.partition("## What Nexa adds")
    assert "| `eval_summary` | {name: number} |" in labs
    assert "| `schema` | `nexa.manifest/1` |" in own


def test_what_stays_on_the_machine_is_marked() -> None:
    rows = [line for line in manifest_schema().splitlines() if line.endswith("| no |")]
    assert {row.split("`")[1] for row in rows} == PRIVATE


def test_types_are_told_in_the_words_of_json() -> None:
    text = manifest_schema()
    for row in (
        "| `dataset_id` | text \\| null |",
        "| `eval_status` | `pending` \\| `done` \\| `failed` \\| `skipped` |",
        "| `machine` | {name: any JSON} |",
        "| `publications` | list of text |",
        "| `by_domain` | {name: {name: Interval}} |",
        "| `passed` | true or false |",
        "| `epochs` | number |",
    ):
        assert row in text


def test_no_bar_in_a_cell_breaks_a_table() -> None:
    for line in manifest_schema().splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") in (4, 5)


def test_the_tree_has_every_file_with_its_sentence() -> None:
    lines = source_tree().splitlines()
    files = [p for p in (ROOT / "src" / "nexa").rglob("*.py") if p.name != "__init__.py"]
    packages = list((ROOT / "src" / "nexa").rglob("*/__init__.py"))
    assert len(lines) == 3 + len(files) + len(packages)
    assert "  core/                      What all layers share" in "\n".join(lines)
    assert "    store.py                 The content-addressed store" in "\n".join(lines)


def test_the_readme_has_every_layer_in_a_line() -> None:
    layers = {p.parent.name for p in (ROOT / "src" / "nexa").glob("*/__init__.py")}
    told = [line.split()[0] for line in source_packages().splitlines()[1:-1]]
    assert told == [f"src/nexa/{name}/" for name in sorted(layers)]


def test_every_file_of_the_source_begins_with_a_sentence() -> None:
    silent = [line for line in source_tree().splitlines()[2:-1] if len(line.split()) < 2]
    assert silent == []


def test_a_part_is_replaced_and_the_rest_stays() -> None:
    text = "above\n<!-- begin tree -->\nold\n<!-- end tree -->\nbelow\n"
    once = with_part(text, "tree", "new")
    assert once == "above\n<!-- begin tree -->\nnew\n<!-- end tree -->\nbelow\n"
    assert with_part(once, "tree", "new") == once


@pytest.mark.parametrize(
    "text", ["", "<!-- begin tree -->", "<!-- end tree --><!-- begin tree -->"]
)
def test_a_part_that_is_not_there_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="no part 'tree'"):
        with_part(text, "tree", "new")


def test_a_part_of_a_written_document_goes_stale_and_is_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "docs" / "ARCHITECTURE_v1.md"
    path.parent.mkdir()
    path.write_text("# By hand\n<!-- begin source tree -->\nold\n<!-- end source tree -->\n")
    root = ["--root", str(tmp_path)]
    assert docs.main([*root, "--check"]) == 1
    assert "docs/ARCHITECTURE_v1.md is stale" in capsys.readouterr().err
    assert docs.main(root) == 0
    assert path.read_text().startswith("# By hand\n")
    assert "store.py" in path.read_text()
    assert docs.main([*root, "--check"]) == 0
