"""Read by transformers with bitsandbytes too, outside: these tests hold what that reading needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nexa.core.errors import ModelError
from nexa.lm.quantized import quantize_linears
from nexa.lm.quantized_files import STATE, WEIGHTS, read, write
from tests.support.tiny import tiny_model

NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_what_is_written_is_read_back(tmp_path: Path, architecture: str, double: bool) -> None:
    model = tiny_model(architecture, tied=architecture == "llama").bfloat16()
    biases = {n for n, _ in model.named_parameters() if n.endswith("bias")}
    replaced = quantize_linears(model, double=double)
    write(model, tmp_path)

    found = read(tmp_path)

    for name in replaced:
        assert torch.equal(found[f"{name}.weight"], model.get_submodule(name).dense())
    assert torch.equal(found["model.embed_tokens.weight"], model.get_input_embeddings().weight)
    assert biases <= found.keys()
    assert ("lm_head.weight" in found) == (architecture == "qwen2")


def test_the_layout_is_bitsandbytes_own(tmp_path: Path) -> None:
    model = tiny_model().bfloat16()
    quantize_linears(model)
    write(model, tmp_path)

    tensors = load_file(tmp_path / WEIGHTS)
    parts = {n.removeprefix(NAME): t for n, t in tensors.items() if n.startswith(NAME)}
    assert {n: (t.dtype, tuple(t.shape)) for n, t in parts.items() if STATE not in n} == {
        "": (torch.uint8, (1024, 1)),
        ".absmax": (torch.uint8, (32,)),
        ".quant_map": (torch.float32, (16,)),
        ".nested_absmax": (torch.float32, (1,)),
        ".nested_quant_map": (torch.float32, (256,)),
    }
    state = json.loads(bytes(parts[f".{STATE}"].tolist()))
    assert state.keys() == {
        *("quant_type", "blocksize", "dtype", "shape"),
        *("nested_blocksize", "nested_dtype", "nested_offset"),
    }
    assert (state["quant_type"], state["dtype"], state["shape"]) == ("nf4", "bfloat16", [64, 32])
    config = json.loads((tmp_path / "config.json").read_bytes())["quantization_config"]
    assert config["quant_method"] == "bitsandbytes"
    assert config["bnb_4bit_use_double_quant"] is True


def test_a_model_in_its_own_dtype_is_not_written_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no layer in four bits"):
        write(tiny_model(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_form_and_missing_parts_are_named(tmp_path: Path) -> None:
    model = tiny_model()
    quantize_linears(model)
    write(model, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    state = json.loads(bytes(tensors[f"{NAME}.{STATE}"].tolist()))
    other = json.dumps({**state, "quant_type": "fp4"}).encode()
    fp4 = {**tensors, f"{NAME}.{STATE}": torch.tensor(list(other), dtype=torch.uint8)}
    save_file(fp4, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match="cannot read") as caught:
        read(tmp_path)
    assert "fp4" in str(caught.value.found)
    del tensors[f"{NAME}.absmax"]
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match="up_proj"):
        read(tmp_path)
