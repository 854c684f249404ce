"""Every fault that a GGUF file may have is told by name; an honest file passes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from nexa.core.errors import ModelError
from nexa.lm.gguf_file import GgufFile
from nexa.weights.checks import Parity
from nexa.weights.gguf import k_quants
from nexa.weights.gguf.proof import prove_gguf
from nexa.weights.gguf.write import Written, write_gguf
from tests.support.tiny import write_tiny_model
from tests.weights.gguf.folders import byte_level, edit_config, sentencepiece, write_folder

KEY = "tokenizer.ggml."


def has_k_quants() -> bool:
    try:
        k_quants.function()
    except ImportError:
        return False
    return True


needs_k_quants = pytest.mark.skipif(not has_k_quants(), reason="the extra gguf is not installed")


@dataclass
class Made:
    """A GGUF file and the folder that it was made from."""

    folder: Path
    path: Path
    written: Written

    def failures(self, *, foreign: bool = False) -> set[str]:
        """The names of the checks that fail."""
        return {check.name for check in self.prove(foreign=foreign).checks if not check.passed}

    def prove(self, *, foreign: bool = False) -> Parity:
        written = None if foreign else self.written
        return prove_gguf(self.path, self.folder, written, runtime=False)

    def flip(self, seed: int) -> str:
        """Flip a bit of a tensor that the seed chooses; returns the tensor's name."""
        chance = random.Random(seed)
        file = GgufFile.open(self.path)
        name = chance.choice(sorted(file.tensors))
        held = file.tensors[name]
        data = bytearray(self.path.read_bytes())
        data[held.offset + chance.randrange(held.size_bytes)] ^= 1 << chance.randrange(8)
        self.path.write_bytes(data)
        return name

    def edit(
        self,
        change: Callable[[dict[str, Any]], object] = lambda metadata: None,
        tensors: Callable[[dict[str, np.ndarray]], object] = lambda tensors: None,
    ) -> None:
        """Write the file again with other metadata or other tensors' bytes."""
        file = GgufFile.open(self.path)
        metadata = dict(file.metadata)
        change(metadata)
        blocks = {name: file.read(name) for name in file.tensors}
        tensors(blocks)
        writer = GGUFWriter(self.path, metadata.pop("general.architecture"))
        for key, value in metadata.items():
            add(writer, key, value)
        for name, block in blocks.items():
            shape = (*file.tensors[name].shape[:-1], -1)
            writer.add_tensor(name, block.reshape(shape), raw_dtype=file.tensors[name].kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def add(writer: GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def make(folder: Path, quantization: str = "f16") -> Made:
    path = folder.parent / "model.gguf"
    written = write_gguf(folder, path, quantization=quantization, name="tiny")
    return Made(folder, path, written)


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    tokenizer = byte_level("smollm", words=60)
    return make(write_folder(tmp_path_factory.mktemp("gguf") / "model", tokenizer=tokenizer))


@pytest.fixture
def made(_made: Made, tmp_path: Path) -> Made:
    """An honest F16 file of a Llama, to be spoiled."""
    folder = shutil.copytree(_made.folder, tmp_path / "model")
    return Made(folder, Path(shutil.copy(_made.path, tmp_path / "model.gguf")), _made.written)


@pytest.mark.parametrize("quantization", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_1"])
def test_an_honest_file_passes_every_check(tmp_path: Path, quantization: str) -> None:
    made = make(write_tiny_model(tmp_path / "model"), quantization)

    parity = made.prove()

    parity.require()
    told = parity.to_json()
    assert told["format"] == "gguf"
    assert told["tokens"] > 100
    assert told["logits_by"] == "nexa"
    assert {"tensors_exact", "token_ids", "template", "kl_nats"} <= {
        check["name"] for check in told["checks"]
    }


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("mistral", {"sliding_window": 512}),
        ("qwen2", {"tie_word_embeddings": False}),
        ("qwen3", {"head_dim": 16}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_family_passes(tmp_path: Path, architecture: str, options: dict[str, Any]) -> None:
    folder = write_folder(tmp_path / "model", architecture, **options)

    make(folder, "q8_0").prove().require()


def test_a_rotation_that_is_not_computed_here_is_computed_by_transformers(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0}
    folder = write_folder(
        tmp_path / "model",
        "qwen2",
        rope_parameters={**yarn, "original_max_position_embeddings": 128},
    )
    made = make(folder)

    told = made.prove()

    told.require()
    assert told.facts["logits_by"].startswith("transformers")
    made.edit(lambda metadata: metadata.update({"qwen2.block_count": 1}))
    assert "architecture" in made.failures()


def test_a_config_that_leaves_sizes_out_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    edit_config(folder, rms_norm_eps=None)

    make(folder).prove().require()


def test_a_vocabulary_with_byte_fallback_passes(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "model", tokenizer=sentencepiece(), bos_token_id=1, eos_token_id=2
    )

    make(folder).prove().require()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("quantization", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_one_flipped_bit_in_any_tensor_is_caught_by_name(
    tmp_path: Path, quantization: str, seed: int
) -> None:
    made = make(write_tiny_model(tmp_path / "model"), quantization)
    name = made.flip(seed)

    checks = {check.name: check for check in made.prove().checks}

    assert not checks["tensors_exact"].passed
    assert checks["tensors_exact"].value == [name]


@needs_k_quants
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("quantization", ["q2_k", "q4_k_m", "q6_k"])
def test_one_flipped_bit_in_a_k_quant_is_caught_by_name(
    tmp_path: Path, quantization: str, seed: int
) -> None:
    folder = write_folder(
        tmp_path / "model", hidden_size=256, intermediate_size=256, num_hidden_layers=1, head_dim=64
    )
    made = make(folder, quantization)
    made.prove().require()
    name = made.flip(seed)

    checks = {check.name: check for check in made.prove().checks}

    assert checks["tensors_exact"].value == [name]


def test_scales_that_are_off_by_one_are_caught_by_name(tmp_path: Path) -> None:
    made = make(write_tiny_model(tmp_path / "model"), "q8_0")
    name = "blk.1.ffn_up.weight"

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        blocks = tensors[name].reshape(-1, 34).copy()
        blocks[:, 0] += 1  # the last bits of each block's scale
        tensors[name] = blocks.reshape(tensors[name].shape)

    made.edit(tensors=spoil)

    checks = {check.name: check for check in made.prove().checks}
    assert checks["tensors_exact"].value == [name]


def test_rows_that_were_not_put_into_llama_cpps_order_are_caught_by_name(made: Made) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        rows = tensors["blk.0.attn_q.weight"]
        tensors["blk.0.attn_q.weight"] = (
            rows.reshape(4, 4, 2, -1).swapaxes(1, 2).reshape(rows.shape)
        )

    made.edit(tensors=spoil)

    assert {"tensors_exact", "tensors_within_bounds", "kl_nats"} <= made.failures()
    assert {"tensors_within_bounds", "kl_nats"} <= made.failures(foreign=True)


def test_a_head_that_was_untied_and_comes_tied_is_caught_by_name(tmp_path: Path) -> None:
    untied = make(write_folder(tmp_path / "model", tie_word_embeddings=False))
    file = GgufFile.open(untied.path)
    kept = {name: held for name, held in file.tensors.items() if name != "output.weight"}
    writer = GGUFWriter(untied.path.with_suffix(".tied"), "llama")
    for key, value in file.metadata.items():
        if key != "general.architecture":
            add(writer, key, value)
    for name, held in kept.items():
        block = file.read(name).reshape(*held.shape[:-1], -1)
        writer.add_tensor(name, block, raw_dtype=held.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    untied.path.with_suffix(".tied").replace(untied.path)

    assert {"tensor_names", "architecture", "kl_nats"} <= untied.failures()
    assert {"tensor_names", "architecture", "kl_nats"} <= untied.failures(foreign=True)


@pytest.mark.parametrize(
    ("old", "new"), [("<|im_start|>", "<|im_start|> "), ("assistant", "Assistant")]
)
def test_an_edited_template_is_caught_by_name(made: Made, old: str, new: str) -> None:
    key = "tokenizer.chat_template"
    made.edit(lambda metadata: metadata.update({key: metadata[key].replace(old, new)}))

    assert made.failures() == {"template", "conversation"}


def test_a_template_that_was_left_out_is_caught_by_name(made: Made) -> None:
    made.edit(lambda metadata: metadata.pop("tokenizer.chat_template"))

    assert {"template", "conversation"} <= made.failures()


def test_tokens_that_changed_places_are_caught_by_name(made: Made) -> None:
    def swap(metadata: dict[str, Any]) -> None:
        tokens = metadata[KEY + "tokens"]
        tokens[40], tokens[41] = tokens[41], tokens[40]

    made.edit(swap)

    assert {"vocabulary", "token_ids"} <= made.failures()


def test_tokens_that_no_text_of_the_proof_has_are_caught_too(made: Made) -> None:
    def swap(metadata: dict[str, Any]) -> None:
        tokens = metadata[KEY + "tokens"]
        tokens[-1], tokens[-2] = "[PAD1]", "[PAD2]"
        tokens.append("one more")
        metadata[KEY + "token_type"].append(1)

    made.edit(swap)

    checks = {check.name: check for check in made.prove().checks}
    assert checks["vocabulary"].value == {"ids": [318], "tokens": [321, 320]}


def test_merges_in_another_order_are_caught_by_name(made: Made) -> None:
    made.edit(lambda metadata: metadata[KEY + "merges"].reverse())

    assert "vocabulary" in made.failures()


@pytest.mark.parametrize("name", ["gpt-2", "qwen2", "llama-bpe", "no-such-splitter"])
def test_a_wrong_pre_tokenizer_is_caught_by_name(made: Made, name: str) -> None:
    made.edit(lambda metadata: metadata.update({KEY + "pre": name}))

    assert "pre_tokenizer" in made.failures()


def test_an_end_of_text_that_changed_is_caught_by_name(made: Made) -> None:
    made.edit(lambda metadata: metadata.update({KEY + "eos_token_id": 0, KEY + "eot_token_id": 0}))

    assert {"special_tokens", "end_of_turn"} <= made.failures()


def test_a_vocabulary_that_cannot_be_rebuilt_is_told_by_name(made: Made) -> None:
    made.edit(lambda metadata: metadata.update({KEY + "model": "rwkv"}))

    assert {"vocabulary", "token_ids"} & made.failures() == {"token_ids"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.rope.freq_base", 500_000.0),
        ("llama.attention.layer_norm_rms_epsilon", 0.1),
        ("llama.attention.head_count_kv", 4),
        ("llama.context_length", 1024),
    ],
)
def test_a_number_of_the_architecture_that_changed_is_caught_by_name(
    made: Made, key: str, value: float
) -> None:
    made.edit(lambda metadata: metadata.update({key: value}))

    assert "architecture" in made.failures()


def test_a_file_of_another_family_is_told_by_name(made: Made) -> None:
    made.edit(lambda metadata: metadata.update({"general.architecture": "qwen2"}))

    assert {"architecture", "tensors_fit_config"} <= made.failures()


def test_a_file_that_does_not_say_what_a_model_needs_is_told_by_name(made: Made) -> None:
    made.edit(lambda metadata: metadata.pop("llama.block_count"))

    assert {"architecture", "tensors_fit_config"} <= made.failures()


def test_tensors_that_do_not_fit_the_numbers_are_named(made: Made) -> None:
    made.edit(lambda metadata: metadata.update({"llama.feed_forward_length": 32}))

    checks = {check.name: check for check in made.prove().checks}
    assert checks["tensors_fit_config"].value[0] == "model.layers.0.mlp.gate_proj.weight"


def test_a_tensor_of_another_type_than_was_written_is_named(made: Made) -> None:
    other = write_gguf(made.folder, made.path, quantization="f32", name="tiny")

    checks = {check.name: check for check in made.prove().checks}

    assert not checks["tensor_types"].passed
    assert not checks["tensors_exact"].passed
    assert Made(made.folder, made.path, other).failures() == set()


def test_another_models_file_fails_by_its_tensors(made: Made, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "other")

    failures = {
        c.name for c in prove_gguf(made.path, folder, None, runtime=False).checks if not c.passed
    }

    assert {"tensors_within_bounds", "kl_nats", "token_ids"} <= failures


def test_a_model_of_another_size_fails_by_its_tensors(made: Made, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "other", hidden_size=64, tokenizer=byte_level("smollm"))

    failures = {
        c.name for c in prove_gguf(made.path, folder, None, runtime=False).checks if not c.passed
    }

    assert {"architecture", "tensors_within_bounds"} <= failures


def test_a_file_of_another_tool_is_held_to_the_bounds_of_its_types(tmp_path: Path) -> None:
    made = make(write_tiny_model(tmp_path / "model"), "q8_0")
    made.flip(3)

    parity = made.prove(foreign=True)

    assert "tensors_exact" not in {check.name for check in parity.checks}


def test_a_weight_that_is_no_number_is_told_by_name(tmp_path: Path) -> None:
    made = make(write_tiny_model(tmp_path / "model"), "f32")

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        blocks = tensors["blk.0.ffn_up.weight"].copy()
        blocks[0, :4] = np.frombuffer(np.float32("nan").tobytes(), np.uint8)
        tensors["blk.0.ffn_up.weight"] = blocks

    made.edit(tensors=spoil)

    parity = made.prove()
    checks = {check.name: check for check in parity.checks}
    assert checks["tensors_within_bounds"].value == {"F32": "not a number"}
    assert {"kl_nats", "tensors_exact", "largest_delta"} <= made.failures()


def test_a_family_that_gguf_does_not_hold_is_refused(made: Made) -> None:
    edit_config(made.folder, model_type="gpt2")

    with pytest.raises(ModelError, match="its family is 'gpt2'"):
        made.prove()


def test_a_torn_file_is_refused(made: Made) -> None:
    made.path.write_bytes(made.path.read_bytes()[:-1000])

    with pytest.raises(ModelError, match=r"cannot read model\.gguf as GGUF"):
        made.prove()
