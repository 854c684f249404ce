"""A user's own schema is checked first, and leads nowhere but to its own folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import DataError
from nexa.data.schemas.faults import faults_of
from nexa.data.schemas.own import own_validator


def written(path: Path, schema: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema))
    return path


def test_a_schema_of_several_files_is_one(tmp_path: Path) -> None:
    schema = written(
        tmp_path / "row.json",
        {
            "$id": "https://lab.example/row.json",
            "properties": {
                "answer": {"$ref": "parts/answer.json"},
                "other": {"$ref": "parts/answer.json#/$defs/short"},
                "self": {"$ref": "#/properties/answer"},
                "whole": {"$ref": "https://lab.example/row.json"},
            },
        },
    )
    written(
        tmp_path / "parts" / "answer.json",
        {"type": "string", "$defs": {"short": {"maxLength": 3}}, "$comment": "c"},
    )
    validator = own_validator(schema)
    assert not faults_of(validator, {"answer": "a", "other": "abc", "self": "s", "whole": {}})
    found = faults_of(validator, {"answer": 1, "other": "long", "self": 2})
    assert [fault.pointer for fault in found] == ["/answer", "/other", "/self"]


def test_parts_with_names_of_their_own_are_known(tmp_path: Path) -> None:
    schema = written(
        tmp_path / "row.json",
        {
            "properties": {"x": {"$ref": "https://lab.example/short"}},
            "$defs": {"short": {"$id": "https://lab.example/short", "maxLength": 1}},
        },
    )
    assert faults_of(own_validator(schema), {"x": "long"})[0].kind == "maxLength not met"
    part = {"$id": "https://lab.example/short", "$ref": "#/$defs/none"}
    schema = written(tmp_path / "row.json", {"$id": "x", "anyOf": [part], "maxProperties": 9})
    with pytest.raises(DataError, match="it refers to nothing"):
        faults_of(own_validator(schema), {"x": "long"})


@pytest.mark.parametrize(
    "reference",
    [
        "https://json-schema.org/draft/2020-12/schema",
        "http://127.0.0.1:9/x.json",
        "file:///etc/passwd",
        "../secret.json",
        "link.json",
        "#/$defs/none",
    ],
)
def test_what_is_not_in_the_folder_is_refused(tmp_path: Path, reference: str) -> None:
    written(tmp_path / "secret.json", {})
    folder = tmp_path / "schemas"
    schema = written(folder / "row.json", {"properties": {"x": {"$ref": reference}}})
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(DataError, match="refers to what is not in its folder"):
        own_validator(schema)


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ('{"type": "text"}', "/type"),
        ('{"properties": {"x": {"minLength": -1}}}', "/properties/x/minLength"),
        ("[]", "not an object but a list"),
        ("{", "broken JSON"),
        ('{"a": 1, "a": 2}', "stands there twice"),
    ],
)
def test_what_is_no_schema_says_where(tmp_path: Path, schema: str, problem: str) -> None:
    with pytest.raises(DataError, match="is no JSON Schema") as caught:
        own_validator(written(tmp_path / "row.json", schema))
    assert problem in str(caught.value.found)


def test_a_schema_that_is_not_there_gets_the_nearest_name(tmp_path: Path) -> None:
    written(tmp_path / "hypothesis.json", {})
    with pytest.raises(DataError, match="cannot read the schema") as caught:
        own_validator(tmp_path / "hypotheses.json")
    assert str(caught.value.fix).endswith("hypothesis.json")
    with pytest.raises(DataError, match="cannot read the schema"):
        own_validator(tmp_path / "none" / "x.json")


def test_a_schema_that_leads_back_to_itself_is_told(tmp_path: Path) -> None:
    validator = own_validator(written(tmp_path / "row.json", {"$ref": "#"}))
    with pytest.raises(DataError, match="leads back to itself"):
        faults_of(validator, {"x": 1})
