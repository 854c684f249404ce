from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.errors import ModelError
from nexa.orchestrate.export import Request, export
from nexa.orchestrate.parity import compare
from tests.support.foreign import full_model, peft_adapter
from tests.support.project import Finished


def test_an_export_is_compared_with_what_it_was_made_from(project: Finished) -> None:
    made = export(Request("latest", project.root / "gguf", quantization="f16"), project.root)
    for name in ("gguf", made.artifact.label):
        found = compare(name, "latest", project.root)
        assert found.passed
        assert found.to_json()["source"]["name"] == "export/tiny-llama-elements"
    assert compare("./output", f"export/{made.artifact.name}", project.root).checks


def test_another_model_fails_by_name(tmp_path: Path, tiny_llama: Path) -> None:
    other = full_model(tmp_path / "other", tiny_llama)
    found = compare(str(other), str(tiny_llama), tmp_path)
    failed = [check.name for check in found.checks if not check.passed]
    assert not found.passed
    assert failed
    assert json.dumps(found.to_json())


def test_an_adapter_is_no_model_to_compare_with(tmp_path: Path, tiny_llama: Path) -> None:
    adapter = peft_adapter(tmp_path / "adapter", tiny_llama)
    with pytest.raises(ModelError, match="is an adapter, and no merged export of it is here"):
        compare(str(tiny_llama), str(adapter), tmp_path)
    with pytest.raises(ModelError, match="there is no model 'nothing'"):
        compare("nothing", str(tiny_llama), tmp_path)
