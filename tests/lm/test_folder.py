from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from nexa.core.errors import IntegrityError, ModelError
from nexa.core.identity import sha256_file
from nexa.lm import derived, folder
from tests.support.tiny import write_tiny_model

OWN = {
    *("config.json", "generation_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def change(path: Path, **fields: Any) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_only_the_files_that_make_the_model_count(model: Path) -> None:
    before = folder.digests(model)
    assert set(before) == OWN
    assert before == {name: sha256_file(model / name) for name in OWN}
    (model / "README.md").write_text("words")
    (model / "parity.json").write_text("{}")
    (model / "adapter_model.safetensors").write_bytes(b"")
    (model / "checkpoint").mkdir()
    assert folder.digests(model) == before


def test_a_changed_file_is_read_again(model: Path) -> None:
    before = folder.digests(model)
    (model / "chat_template.jinja").write_text("another")
    assert folder.digests(model)["chat_template.jinja"] != before["chat_template.jinja"]


def test_a_file_is_read_once_while_it_stays_the_same(model: Path) -> None:
    path = model / "model.safetensors"
    before = folder.digest(path)
    times = path.stat()
    path.write_bytes(bytes(times.st_size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert folder.digest(path) == before


def test_weights_that_are_hashed_ahead_are_found(model: Path) -> None:
    folder.begin_hashing([model, model.parent / "none"])
    for thread in threading.enumerate():
        if thread.name == "hashing":
            assert thread.daemon
            thread.join()
    path = model / "model.safetensors"
    wanted, times = sha256_file(path), path.stat()
    path.write_bytes(bytes(times.st_size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert folder.digest(path) == wanted


def test_a_file_that_is_being_read_is_waited_for(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Barrier(2)
    reads: list[Path] = []

    def slow(path: Path) -> str:
        reads.append(path)
        asked.wait()
        return sha256_file(path)

    monkeypatch.setattr(folder, "sha256_file", slow)
    path = model / "model.safetensors"
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(folder.digest, path) for _ in range(2))
        asked.wait()
        assert first.result() == second.result() == sha256_file(path)
    assert len(reads) == 1


def test_weights_that_cannot_be_read_are_told_to_who_asks_for_them(model: Path) -> None:
    path = model / "model.safetensors"
    path.unlink()
    path.mkdir()
    folder.begin_hashing([model])
    for _ in range(2):
        with pytest.raises(IsADirectoryError):
            folder.digest(path)


def test_shards_are_the_model_where_there_is_an_index(model: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    whole = AutoModelForCausalLM.from_pretrained(model)
    whole.save_pretrained(sharded, max_shard_size="30kB")
    (sharded / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes())
    found = folder.digests(sharded)
    shards = folder.weight_files(found)
    assert len(shards) > 1
    assert "model.safetensors.index.json" in found
    (sharded / "model-00001-of-00009.safetensors").write_bytes(b"of another model")
    assert folder.digests(sharded) == found
    (sharded / shards[0]).unlink()
    with pytest.raises(ModelError, match=rf"1 of {len(shards)} weight files missing"):
        folder.digests(sharded)
    (sharded / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="not an index"):
        folder.digests(sharded)
    (sharded / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    assert folder.weight_files(folder.digests(sharded)) == ["model.safetensors"]


def test_pickles_are_never_opened(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"are pickles(.|\n)*pytorch_model\.bin"):
        folder.digests(model)


def test_what_is_missing_is_said(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(tmp_path / "weights.gguf")
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        folder.digests(model)
    (model / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        folder.digests(model)
    (model / "m.gguf").write_bytes(b"")
    with pytest.raises(ModelError, match=r"name the file itself: .*m\.gguf"):
        folder.digests(model)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match="nothing"):
        folder.digests(empty)


def test_a_model_without_a_tokenizer_is_refused(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        folder.digests(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_the_models_own_is_refused_unless_it_is_trusted(model: Path, name: str) -> None:
    change(model / name, auto_map={"AutoModelForCausalLM": "model.Model"})
    (model / "model.py").write_text("class Model: ...")
    with pytest.raises(ModelError, match="trust_remote_code"):
        folder.digests(model)
    assert set(folder.digests(model, trust_remote_code=True)) == OWN | {"model.py"}


def test_quantised_weights_are_refused_with_their_method(model: Path) -> None:
    change(model / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(ModelError, match="gptq"):
        folder.digests(model)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_config_that_is_no_object_is_refused(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        folder.digests(model)


def test_a_derived_copy_that_was_changed_is_refused(model: Path) -> None:
    def make(place: Path) -> dict[str, Any]:
        for path in model.iterdir():
            (place / path.name).write_bytes(path.read_bytes())
        return {}

    made = derived.keep("key", make, size_bytes=1, purpose="a test")
    assert folder.digests(made) == folder.digests(model)
    (made / "config.json").chmod(0o644)
    change(made / "config.json", hidden_size=7)
    with pytest.raises(IntegrityError, match=r"config\.json changed"):
        folder.digests(made)


def test_an_adapter_is_a_folder_without_a_model(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in folder.ADAPTER_FILES:
        assert not folder.is_adapter(adapter)
        (adapter / name).write_bytes(b"")
        (model / name).write_bytes(b"")
    assert folder.is_adapter(adapter)
    assert not folder.is_adapter(model)
