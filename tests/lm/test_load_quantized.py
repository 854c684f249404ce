from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from nexa.core.errors import ModelError
from nexa.core.events import Event, listening
from nexa.lm.load import load, load_quantized
from nexa.lm.quantized import FourBitLinear, quantize_linears
from nexa.lm.resolve import resolve
from tests.support.tiny import ARCHITECTURES, write_tiny_model

# Reads a model in four bits; prints what it added at its most, and what the model is in bfloat16.
PEAK = """
import sys, threading
import torch
from pathlib import Path
from nexa.lm.load import load_quantized
from nexa.lm.resolve import resolve

def held():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024

def watch():
    while not done.is_set():
        seen.append(held())

tiny, large = resolve(sys.argv[1]), resolve(sys.argv[2])
load_quantized(tiny, dtype="bfloat16")  # what every first load imports and keeps
done, before, seen = threading.Event(), held(), []
watcher = threading.Thread(target=watch)
watcher.start()
model = load_quantized(large, dtype="bfloat16")
done.set()
watcher.join()
weights = sum(m.in_features * m.out_features for m in model.modules() if hasattr(m, "packed"))
print(max(seen) - before, 2 * weights)
"""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_it_is_the_whole_model_quantised(
    tmp_path: Path, architecture: str, tied: bool, precision: str
) -> None:
    files = resolve(str(write_tiny_model(tmp_path / "model", architecture, tied=tied)))
    seen: list[Event] = []
    with listening(seen.append):
        model = load_quantized(files, dtype=precision)
    whole = load(files, dtype=precision).model
    ids = torch.tensor([[5, 17, 40, 8, 99, 23, 11, 7]])

    quantize_linears(whole)

    assert seen == []  # it was not in memory as a whole
    mine, expected = model.state_dict(), whole.state_dict()
    assert mine.keys() == expected.keys()
    assert all(torch.equal(mine[name], expected[name]) for name in expected)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, whole(ids).logits)
    assert not model.training
    assert model.generation_config.eos_token_id == whole.generation_config.eos_token_id


def test_the_whole_model_is_never_in_memory(tmp_path: Path) -> None:
    sizes = {"hidden_size": 256, "head_dim": 64, "intermediate_size": 1024, "num_hidden_layers": 32}
    large = write_tiny_model(tmp_path / "large")
    config = json.loads((large / "config.json").read_bytes()) | sizes
    LlamaForCausalLM(LlamaConfig(**config)).save_pretrained(large)
    tiny = write_tiny_model(tmp_path / "tiny")
    command = [sys.executable, "-c", PEAK, str(tiny), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, bfloat16 = map(int, done.stdout.split())
    assert bfloat16 > 60e6
    assert peak < 0.6 * bfloat16


def test_files_that_name_their_tensors_otherwise_are_put_together_first(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    path = folder / "model.safetensors"
    stored = {name.removeprefix("model."): tensor for name, tensor in load_file(path).items()}
    save_file(stored, path, metadata={"format": "pt"})
    files = resolve(str(folder))
    seen: list[Event] = []

    with listening(seen.append):
        model = load_quantized(files, dtype="float32")

    assert any("in memory as a whole once" in event.get("text", "") for event in seen)
    assert isinstance(model.model.layers[0].mlp.up_proj, FourBitLinear)
    assert load(files, dtype="float32").model is not model


def test_a_config_of_no_causal_model_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    config = folder / "config.json"
    config.write_text('{"model_type": "vit", "hidden_size": 32, "num_attention_heads": 2}')
    with pytest.raises(ModelError, match="cannot load model"):
        load_quantized(resolve(str(folder)), dtype="float32")


def test_a_head_stored_beside_tied_embeddings_is_passed_over(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    path = folder / "model.safetensors"
    stored = load_file(path)
    stored["lm_head.weight"] = stored["model.embed_tokens.weight"].clone()
    save_file(stored, path, metadata={"format": "pt"})
    model = load_quantized(resolve(str(folder)), dtype="float32")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight, stored["model.embed_tokens.weight"])
