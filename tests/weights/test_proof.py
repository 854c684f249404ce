from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nexa.core.errors import ModelError, ParityError
from nexa.lm.resolve import ModelFiles, resolve
from nexa.weights.gguf.write import write_gguf
from nexa.weights.proof import prove_folder
from tests.lm import gguf_models
from tests.support.tiny import write_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    return resolve(str(write_tiny_model(tmp_path / "source")))


def test_a_copy_of_a_folder_is_that_model(model: ModelFiles, tmp_path: Path) -> None:
    copied = shutil.copytree(model.folder, tmp_path / "copy")

    parity = prove_folder(copied, model)

    parity.require()
    assert parity.facts["made"] == "copy"
    assert parity.facts["source"]["digest"] == model.digest


def test_a_gguf_file_or_the_folder_that_it_lies_in_is_that_model(
    model: ModelFiles, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_gguf(model.folder, out / "tiny.gguf", quantization="q8_0", name="tiny")

    for made in (out / "tiny.gguf", out):
        parity = prove_folder(made, model)
        parity.require()
        assert parity.facts["format"] == "gguf"


def test_a_gguf_file_that_another_writer_made_is_that_model(
    model: ModelFiles, tmp_path: Path
) -> None:
    gguf_models.write_gguf(tmp_path / "other.gguf", model.folder)

    prove_folder(tmp_path / "other.gguf", model).require()


def test_another_model_is_refused_by_name(model: ModelFiles, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", seed=5)

    with pytest.raises(ParityError, match=r"other is not source: .*tensors_exact"):
        prove_folder(other, model).require()


def test_what_is_no_model_is_told(model: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("x")
    empty = tmp_path / "empty"
    empty.mkdir()
    two = tmp_path / "two"
    two.mkdir()
    for name in ("a", "b"):
        (two / f"{name}.gguf").write_bytes(b"GGUF")

    for made, why in (
        (tmp_path / "gone", "nothing there"),
        (tmp_path / "text.txt", "another file"),
        (empty, "has no config.json"),
        (two, "several GGUF files"),
        (two / "a.gguf", "cannot read a.gguf"),
    ):
        with pytest.raises(ModelError, match=why.replace(".", r"\.")):
            prove_folder(made, model)


def test_a_source_with_an_adapter_beside_it_is_to_be_merged_first(model: ModelFiles) -> None:
    with pytest.raises(ModelError, match="merge it first"):
        prove_folder(model.folder, replace(model, adapter=model.folder))
