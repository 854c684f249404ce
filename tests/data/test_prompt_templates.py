"""Prompts for teachers are versioned."""

from __future__ import annotations

import json

import pytest

from nexa.core.identity import sha256_bytes
from nexa.data.augment import TEMPLATES
from nexa.data.prompt_templates import FOLDER, template

NAMES = sorted({name for names in TEMPLATES.values() for name in names})
# What is sent under a version never changes: an edit needs the next version.
SHA256 = {
    "critique-v1": "f7cd8f8a426b836699fc40c97f3fed31c4bba8c17e339766cc602831e19c033e",
    "paraphrase-v1": "211c79c88b9591a27e095965d12332b53e2bfbae7e89907ffbb31a50da80f74a",
    "question_from_document-v1": "3e867e16daedc26546db5e406589a975ec8476be2342139e14173def0e0b7801",
    "revise-v1": "25b311afa3a391a8d02102ee27738560bf3e5ffcb1aeb0328ea66bd58f8baba7",
    "self_instruct-v1": "6d69ef26d695e21649a49511beb3387f7e51fb8f28bd89254e23109b889491b0",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_template_has_its_text_its_schema_and_the_digest_of_both(name: str) -> None:
    prompt = template(name)
    files = [(FOLDER / f"{prompt.name}.{suffix}").read_bytes() for suffix in ("txt", "json")]
    assert prompt.sha256 == sha256_bytes(b"\0".join(files))
    assert prompt.schema == json.loads(files[1])
    assert set(prompt.schema.get("required", ())) <= set(prompt.schema["properties"])
    assert prompt.schema["additionalProperties"] is False


def test_a_version_that_was_used_is_never_edited() -> None:
    assert {template(name).name: template(name).sha256 for name in NAMES} == SHA256


def test_every_file_of_the_folder_is_a_template() -> None:
    known = {f"{template(name).name}.{suffix}" for name in NAMES for suffix in ("txt", "json")}
    assert {path.name for path in FOLDER.iterdir()} == known
