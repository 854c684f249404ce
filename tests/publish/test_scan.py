from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import save_file

from nexa.core.errors import GateError
from nexa.core.secrets import Secret, redact
from nexa.publish.scan import refuse_secrets

# Put together here, so that no scanner of this repository finds them.
TOKENS = ("hf_" + "aB3" * 12, "sk-" + "x9Y" * 10, "AKIA" + "ABCD" * 4, "ghp_" + "a1B2" * 9)


@pytest.mark.parametrize("token", TOKENS)
def test_a_credential_is_named_by_file_and_line_and_never_shown(token: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text(f'{{"a": 1}}\n{{"key": "{token}"}}\n')

    with pytest.raises(GateError) as caught:
        refuse_secrets({"nexa/answers.jsonl": path, "README.md": b"fine"})

    assert "nexa/answers.jsonl line 2" in str(caught.value)
    assert token not in str(caught.value)
    assert token[4:] not in str(caught.value)


def test_many_findings_are_counted(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="and 2 more"):
        refuse_secrets({"README.md": "\n".join([TOKENS[0]] * 12).encode()})


def test_of_tensors_names_and_metadata_are_read_and_numbers_are_not(tmp_path: Path) -> None:
    tensors = {"weight": torch.zeros(2)}
    clean, dirty = tmp_path / "model.safetensors", tmp_path / "adapter.safetensors"
    save_file(tensors, clean, metadata={"format": "pt"})
    clean.write_bytes(clean.read_bytes() + TOKENS[0].encode())  # where numbers would be
    save_file(tensors, dirty, metadata={"note": f"made with {TOKENS[0]}"})
    refuse_secrets({"model.safetensors": clean, "config.json": b"{}", "LICENSE": b""})
    for content in (dirty, dirty.read_bytes()):
        with pytest.raises(GateError, match=r"adapter/adapter_model\.safetensors in its header"):
            refuse_secrets({"adapter/adapter_model.safetensors": content})


def test_of_a_gguf_file_the_texts_of_its_metadata_are_read(tmp_path: Path) -> None:
    for name, note in (("clean", "fine"), ("dirty", f"made with {TOKENS[0]}")):
        writer = GGUFWriter(tmp_path / name, "llama")
        writer.add_description(note)
        writer.add_tensor("weight", np.frombuffer(TOKENS[0].encode()[:36], np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    refuse_secrets({"model.gguf": tmp_path / "clean"})
    dirty = tmp_path / "dirty"
    for content in (dirty, dirty.read_bytes()):
        with pytest.raises(GateError, match=r"model\.gguf in its header"):
            refuse_secrets({"model.gguf": content})
    (tmp_path / "torn").write_bytes(b"GGUF and no more than that, which is too short")
    with pytest.raises(GateError, match="what should be a GGUF file is none"):
        refuse_secrets({"model.gguf": tmp_path / "torn"})


def test_the_token_that_publishes_is_found_whatever_it_looks_like() -> None:
    redact.learn(Secret("an-odd-token-of-this-hub", "the test"))
    with pytest.raises(GateError, match=r"tokenizer\.model line 2"):
        refuse_secrets({"tokenizer.model": b"\xff\nan-odd-token-of-this-hub\n"})
