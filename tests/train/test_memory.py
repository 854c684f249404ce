"""The counted memory of a training, against what passes really keep."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, LlamaConfig, Qwen3Config

from nexa.core.allocator import in_use_bytes
from nexa.core.records import DatasetBody
from nexa.lm import documents
from nexa.lm.adapters import LoraSpec, attach
from nexa.lm.decoder.shape import FAMILIES
from nexa.lm.resolve import ModelFiles
from nexa.train import losses, memory
from nexa.train.batches import TokenRow, lay
from nexa.train.generic import config_of, generic
from nexa.train.memory import (
    MemoryModel,
    ahead_bytes,
    likely_engine,
    method_of,
    model_for,
    model_of,
    resolve_micro_tokens,
    sizes_of,
)
from nexa.train.spec import QuantizeSpec, TrainSpec
from tests.support.tiny import tiny_model
from tests.train.sample import random_rows

SMOL: dict[str, Any] = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 30,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
MODEL = ModelFiles(
    reference="m", name="m", origin="folder", folder=Path("/nowhere"), files={"config.json": "0"}
)


def smol(engine: memory.EngineName = "fused", **changes: Any) -> MemoryModel:
    sizes = sizes_of(SMOL)
    made = MemoryModel(sizes, engine, 2, sizes.parameters, 16 * sizes.adapter_ends, rank=16)
    return replace(made, **changes)


def row(tokens: int) -> TokenRow:
    return TokenRow("", list(range(tokens)), [place > tokens // 2 for place in range(tokens)])


# -- sizes ---------------------------------------------------------------------------------------


def test_the_sizes_count_the_models_weights_and_adapters() -> None:
    model = tiny_model(tied=False)
    sizes = sizes_of(config_of(model.config))
    lora = attach(model, LoraSpec(rank=4), seed=0)
    assert 4 * sizes.adapter_ends == sum(p.numel() for p in lora.parameters)
    lora.detach()
    vectors = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    assert sizes.parameters == sum(p.numel() for p in model.parameters()) - vectors


def test_other_names_and_missing_ones_are_understood() -> None:
    sizes = sizes_of(config_of(GPT2Config(n_embd=576, n_layer=30, n_head=9)))
    assert (sizes.layers, sizes.width, sizes.mlp, sizes.heads) == (30, 576, 4 * 576, 9)
    assert (sizes.key_heads, sizes.head_width) == (9, 64)
    assert sizes_of(GPT2Config(n_embd=576, n_layer=30, n_head=9).to_dict()) == sizes
    qwen = sizes_of(Qwen3Config(hidden_size=64, num_attention_heads=4, head_dim=32).to_dict())
    assert qwen.head_width == 32
    inside = sizes_of({"text_config": SMOL})
    assert inside == sizes_of(SMOL)
    assert sizes_of({"hidden_size": 128, "num_hidden_layers": 2}).heads == 2


def test_what_is_restated_without_torch_is_what_torch_modules_have() -> None:
    assert documents.KEEP_PROBABILITIES_UP_TO == memory.KEPT_UP_TO
    assert documents.QUERY_BLOCK == memory.QUERY_BLOCK
    assert losses.CHUNK_LOGITS == memory.CHUNK_LOGITS
    families = {name.removesuffix("ForCausalLM").lower() for name in memory.FUSED}
    assert families == set(FAMILIES)


def test_counting_imports_no_torch() -> None:
    code = "import sys, nexa.train.memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- a pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "seen", "kilobytes"),
    [
        *(("fused", 256, 558), ("fused", 1024, 770)),
        *(("generic", 64, 717), ("generic", 256, 815), ("generic", 1024, 1033)),
        ("generic", 2048, 683),
    ],
)
def test_a_token_takes_what_was_measured(
    engine: memory.EngineName, seen: int, kilobytes: int
) -> None:
    assert smol(engine).bytes_a_token(seen) == pytest.approx(kilobytes * 1e3, rel=0.02)


ENGINE_ALONE_BYTES = {"fused": 450_000_000, "generic": 750_000_000}


@pytest.mark.parametrize(
    ("engine", "tokens", "gigabytes"),
    [
        *(
            ("fused", 512, 1.18),
            ("fused", 1024, 1.51),
            ("fused", 2048, 2.11),
            ("fused", 4096, 3.34),
        ),
        *(("generic", 512, 1.62), ("generic", 1024, 2.41), ("generic", 2048, 3.51)),
        ("generic", 4096, 5.40),
    ],
)
def test_a_process_peaks_where_it_was_measured(
    engine: memory.EngineName, tokens: int, gigabytes: float
) -> None:
    told = smol(engine).peak_bytes(lay([row(256)] * (tokens // 256)))
    # Measured of the engine alone; what is told is told of a whole `nexa train`.
    rest = memory.PROCESS_BYTES[engine] - ENGINE_ALONE_BYTES[engine]
    assert told - rest == pytest.approx(gigabytes * 1e9, rel=0.14)


@pytest.mark.skipif(not in_use_bytes(), reason="needs a C library that counts")
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_the_generic_engine_keeps_about_what_is_counted(architecture: str) -> None:
    model = tiny_model(architecture)
    lora = attach(model, LoraSpec(rank=4), seed=0)
    rows = random_rows(64, longest=200)
    with generic(model, lora, rows) as executor:
        counted = model_for(TrainSpec(MODEL, lora=LoraSpec(rank=4)), executor, "float32")
        batch = lay(rows)
        executor.forward_loss(batch)[0].backward()  # what is kept for ever is there now
        before = in_use_bytes()
        loss, _ = executor.forward_loss(batch)
        kept = in_use_bytes() - before
        loss.backward()
    lora.detach()
    assert counted.pass_bytes(batch) == pytest.approx(kept, rel=0.35)


def test_padding_long_documents_and_a_shared_beginning_are_counted() -> None:
    rows = [row(100), row(20), row(20)]
    flat = lay(rows)
    assert smol(padded=True).pass_bytes(flat) > 2 * smol().pass_bytes(flat)
    begin = [TokenRow("", [*range(50), *r.ids[50:]], r.trained) for r in [row(100)] * 4]
    shared = lay([TokenRow("", [*r.ids, i], [*r.trained, True]) for i, r in enumerate(begin)], True)
    assert shared.prefix == 50
    assert smol().pass_bytes(shared) < smol().pass_bytes(lay(begin))
    # Probabilities grow with the square of the length until they are not kept any more.
    assert smol().bytes_a_token(1025) < smol().bytes_a_token(1024)


def test_checkpointing_keeps_the_stream_and_one_layer() -> None:
    batch = lay([row(256)] * 8)
    kept = smol().pass_bytes(batch, checkpointing=True)
    assert kept < smol().pass_bytes(batch) / 3
    assert kept > 8 * 30 * 576 * 2048


def test_a_correction_scales_the_pass_alone() -> None:
    assert smol(correction=2.0).bytes_a_token(64) == 2 * smol().bytes_a_token(64)
    assert smol(correction=2.0).held_bytes == smol().held_bytes


# -- what is held --------------------------------------------------------------------------------


def test_each_method_and_optimiser_holds_its_own() -> None:
    sizes = sizes_of(SMOL)
    moved = 16 * sizes.adapter_ends
    assert smol().held_bytes == 2 * sizes.parameters + 16 * moved
    assert smol(value_bytes=4).held_bytes == 4 * sizes.parameters + 16 * moved
    assert smol(optimizer="sgd").held_bytes == smol().held_bytes - 8 * moved
    full = smol(rank=0, trained=sizes.parameters)
    assert full.held_bytes == (16 + 2) * sizes.parameters
    assert replace(full, value_bytes=4).held_bytes == 16 * sizes.parameters
    # The embedding stays as it is; every other weight takes four bits and its scales.
    weights = smol(quantized=True).held_bytes - 16 * moved
    expected = 2 * sizes.embedding_values + sizes.linear_values * 0.516
    assert weights == pytest.approx(expected, rel=0.01)


def test_the_model_of_a_training_is_made_from_its_spec() -> None:
    made = model_of(TrainSpec(MODEL), SMOL, engine="fused", precision="bfloat16")
    assert made == smol()
    full = model_of(TrainSpec(MODEL, method="full"), SMOL, engine="generic", precision="float32")
    assert (full.rank, full.trained, full.value_bytes) == (0, full.parameters, 4)
    spec = TrainSpec(MODEL, quantize=QuantizeSpec())
    assert model_of(spec, SMOL, engine="generic", precision="bfloat16", parameters=9).quantized


def test_the_fused_engine_is_expected_for_lora_on_a_llama() -> None:
    assert likely_engine("LlamaForCausalLM", "lora") == "fused"
    assert likely_engine("LlamaForCausalLM", "lora", "generic") == "generic"
    assert likely_engine("LlamaForCausalLM", "full") == "generic"
    assert likely_engine("GPT2LMHeadModel", "lora") == "generic"


def test_a_method_has_the_name_that_a_user_gives_it() -> None:
    assert method_of(TrainSpec(MODEL)) == "lora"
    assert method_of(TrainSpec(MODEL, method="full")) == "full"
    assert method_of(TrainSpec(MODEL, quantize=QuantizeSpec())) == "qlora"
    assert method_of(TrainSpec(MODEL, lora=LoraSpec(dora=True))) == "dora"


# -- tokens of a pass ----------------------------------------------------------------------------


def test_micro_tokens_fill_half_of_the_memory_at_most() -> None:
    rows = [row(256)]

    def chosen(gigabytes: float, model: MemoryModel) -> int:
        return resolve_micro_tokens(None, model, rows, int(gigabytes * 1e9))

    assert chosen(24, smol()) == memory.LARGEST_MICRO_TOKENS
    assert chosen(4, smol()) < 4096
    assert chosen(0.1, smol()) == memory.SMALLEST_MICRO_TOKENS
    assert chosen(4, smol(value_bytes=4)) <= chosen(4, smol()) / 2
    long = [row(1024)]
    assert resolve_micro_tokens(None, smol(), long, 5 * 10**9) < chosen(5, smol())


def test_micro_tokens_that_are_asked_for_are_taken() -> None:
    assert resolve_micro_tokens(100, smol(), [row(9)], 1) == 100


# -- ahead of the first step ---------------------------------------------------------------------


def dataset(**changes: Any) -> DatasetBody:
    facts: dict[str, Any] = {
        "dataset_id": "d",
        "format": "messages",
        "sources": {},
        "splits": {},
        "rows_read": 0,
        "dropped": {},
        "length_quantiles": {"p50": 200, "max": 900},
        "max_length": 512,
    }
    return DatasetBody(**facts | changes)


def test_a_usual_pass_is_made_ahead(tmp_path: Path) -> None:
    known = {**SMOL, "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(known))
    model = replace(MODEL, folder=tmp_path)

    def ahead(body: DatasetBody | None = None, **spec: Any) -> int:
        asked = TrainSpec(model, **{"batch_size": 16, **spec})
        return ahead_bytes(asked, body or dataset(), "bfloat16")

    assert ahead() == int(3200 * smol().bytes_a_token(200))
    assert ahead(micro_tokens=1000) == int(1000 * smol().bytes_a_token(200))
    assert ahead(batch_size=64) == int(memory.LARGEST_MICRO_TOKENS * smol().bytes_a_token(200))
    assert ahead(dataset(max_length=100)) == int(1600 * smol().bytes_a_token(100))
    assert ahead(dataset(length_quantiles={})) == 0
    assert ahead(memory_limit=1) == 0
    assert ahead(memory_limit=10**9) < ahead()


def test_a_config_of_transformers_is_read() -> None:
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, num_hidden_layers=2)
    assert sizes_of(config_of(config)).layers == 2
