from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nexa.core import events
from nexa.core.errors import ModelError
from nexa.core.events import Event
from nexa.lm import gguf_read
from nexa.lm.gguf_config import generation_config_of
from nexa.lm.gguf_read import GgufModel
from tests.lm.gguf_models import write_gguf
from tests.support.tiny import ARCHITECTURES, CHATML, tiny_tokenizer, write_tiny_model

NASTY = [
    "Plain words, and 1234567 numbers.",
    "  two  spaces\n\n\nlines\t\ttabs  1.  2.",
    "naïve café, 日本語, Привет, 🙂🙃, e\u0301 and \u00e9",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    '{"a": [1, 2.5, -3e-7], "b": null}',
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tiny Llama as a user's folder."""
    return write_tiny_model(tmp_path / "source")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float_weights_come_back_bit_for_bit(tmp_path: Path, architecture: str, tied: bool) -> None:
    folder = write_tiny_model(tmp_path / "source", architecture, tied=tied)
    write_gguf(tmp_path / "m.gguf", folder)
    made = gguf_read.derive(tmp_path / "m.gguf")
    wanted = load_file(folder / "model.safetensors")
    found = load_file(made / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name
    ids = torch.arange(20)[None]
    models = [AutoModelForCausalLM.from_pretrained(path) for path in (folder, made)]
    with torch.no_grad():
        a, b = (model(ids).logits for model in models)
    assert torch.equal(a, b)


@pytest.mark.parametrize("kind", [Kind.Q4_1, Kind.Q8_0, Kind.F16, Kind.BF16])
def test_quantised_weights_are_exactly_what_their_blocks_stand_for(
    tmp_path: Path, source: Path, kind: Kind
) -> None:
    stands_for = write_gguf(tmp_path / "m.gguf", source, kind=kind, embedding=Kind.Q8_0)
    found = load_file(gguf_read.derive(tmp_path / "m.gguf") / "model.safetensors")
    assert found.keys() == stands_for.keys()
    for name, tensor in stands_for.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], tensor), name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("architecture", "splitter"),
    [("llama", "gpt-2"), ("llama", "llama-bpe"), ("qwen2", "qwen2")],
)
def test_it_equals_what_transformers_makes_of_the_same_file(
    tmp_path: Path, architecture: str, splitter: str
) -> None:
    folder = write_tiny_model(tmp_path / "source", architecture)
    write_gguf(tmp_path / "m.gguf", folder, kind=Kind.Q4_1, embedding=Kind.Q8_0, splitter=splitter)
    made = gguf_read.derive(tmp_path / "m.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="m.gguf", dtype=torch.float32
    ).state_dict()
    ours = AutoModelForCausalLM.from_pretrained(made).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    a = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    b = AutoTokenizer.from_pretrained(made)
    for text in NASTY:
        # transformers normalises for Qwen2 when it loads a folder, and not from the file itself.
        text = unicodedata.normalize("NFC", text) if architecture == "qwen2" else text
        assert a(text).input_ids == b(text).input_ids
    assert a.chat_template == b.chat_template == CHATML
    assert (a.bos_token_id, a.eos_token_id, a.pad_token_id) == (1, 2, 2)
    assert (b.bos_token_id, b.eos_token_id, b.pad_token_id) == (1, 2, 2)


def test_the_tokenizer_reads_text_as_the_source_does(tmp_path: Path, source: Path) -> None:
    write_gguf(tmp_path / "m.gguf", source)
    made = AutoTokenizer.from_pretrained(gguf_read.derive(tmp_path / "m.gguf"))
    for text in NASTY:
        ids = made(text).input_ids
        assert ids == tiny_tokenizer()(text).input_ids
        assert made.decode(ids) == text
    assert made.model_max_length == 512


def test_every_id_at_which_an_answer_ends_is_kept(tmp_path: Path, source: Path) -> None:
    more = {"tokenizer.ggml.eot_token_id": 0}
    write_gguf(tmp_path / "m.gguf", source, more=more)
    made = gguf_read.derive(tmp_path / "m.gguf")
    told = json.loads((made / "generation_config.json").read_text())
    assert told == {"bos_token_id": 1, "eos_token_id": [0, 2], "pad_token_id": 2}
    assert json.loads((made / "config.json").read_text())["eos_token_id"] == 2


def test_a_file_that_names_no_end_has_none(tmp_path: Path, source: Path) -> None:
    write_gguf(tmp_path / "m.gguf", source)
    metadata = dict(GgufModel.open(tmp_path / "m.gguf").metadata)
    del metadata["tokenizer.ggml.eos_token_id"]
    assert generation_config_of(metadata) == {"bos_token_id": 1, "pad_token_id": 2}


def test_a_file_is_turned_once_and_what_it_was_is_written_down(
    tmp_path: Path, source: Path
) -> None:
    write_gguf(tmp_path / "m.gguf", source, kind=Kind.Q8_0)
    heard: list[Event] = []
    with events.listening(heard.append):
        made = gguf_read.derive(tmp_path / "m.gguf")
        assert any(event["kind"] == "progress" for event in heard)
        heard.clear()
        assert gguf_read.derive(tmp_path / "m.gguf") == made
        assert heard == []
    marker = json.loads((made / "nexa.json").read_text())
    assert marker["quantisation"] == "Q8_0"
    assert set(marker["files"]) == {path.name for path in made.iterdir()} - {"nexa.json"}


def test_plain_floats_are_no_quantisation(tmp_path: Path, source: Path) -> None:
    write_gguf(tmp_path / "m.gguf", source, kind=Kind.F16)
    assert GgufModel.open(tmp_path / "m.gguf").quantisation is None


def test_an_unknown_splitter_is_told(tmp_path: Path, source: Path) -> None:
    write_gguf(tmp_path / "m.gguf", source, splitter="kaleidoscope")
    heard: list[Event] = []
    with events.listening(heard.append):
        gguf_read.derive(tmp_path / "m.gguf")
    assert "kaleidoscope" in next(event["text"] for event in heard if event["kind"] == "note")


def test_a_sentencepiece_vocabulary_begins_with_bos(tmp_path: Path, source: Path) -> None:
    """As llama.cpp does when the file does not say; byte fallback and merges from the scores."""
    from gguf import GGUFReader

    from nexa.lm.gguf_tokenizer import write_tokenizer

    write_gguf(tmp_path / "m.gguf", source)
    fields = GGUFReader(tmp_path / "m.gguf").fields
    metadata = {name: field.contents() for name, field in fields.items()}
    for key in ("merges", "add_bos_token", "padding_token_id"):
        del metadata[f"tokenizer.ggml.{key}"]
    tokens = ["<unk>", "<s>", "</s>", "▁", "h", "i", "hi", "▁hi"]
    metadata |= {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -9.0, -8.0, -7.0, -2.0, -1.0],
        "tokenizer.ggml.token_type": [2, 3, 3, 1, 1, 1, 1, 1],
    }
    (tmp_path / "made").mkdir()
    write_tokenizer(tmp_path / "made", metadata)
    made = AutoTokenizer.from_pretrained(tmp_path / "made")
    assert made("hi").input_ids == [1, 7]
    assert made.pad_token is None


@pytest.mark.parametrize(
    ("architecture", "said"),
    [("gemma3", "gemma3"), ("qwen4", "nearest: qwen")],
)
def test_another_family_is_refused_with_the_nearest(
    tmp_path: Path, architecture: str, said: str
) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", architecture)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=said):
        gguf_read.derive(tmp_path / "m.gguf")


def test_a_torn_file_is_refused(tmp_path: Path, source: Path) -> None:
    write_gguf(tmp_path / "m.gguf", source)
    os.truncate(tmp_path / "m.gguf", (tmp_path / "m.gguf").stat().st_size // 2)
    with pytest.raises(ModelError, match=r"cannot read m\.gguf"):
        gguf_read.derive(tmp_path / "m.gguf")
    (tmp_path / "no.gguf").write_bytes(b"no model at all")
    with pytest.raises(ModelError, match="cannot read"):
        gguf_read.derive(tmp_path / "no.gguf")


def test_tensors_that_have_no_place_are_named(tmp_path: Path, source: Path) -> None:
    extra = {f"blk.{i}.ffn_gate_exps.weight": np.ones((2, 2), np.float32) for i in range(7)}
    write_gguf(tmp_path / "m.gguf", source, extra=extra)
    with pytest.raises(ModelError, match=r"ffn_gate_exps.* and 2 more"):
        gguf_read.derive(tmp_path / "m.gguf")


def test_scaled_rotations_are_refused_and_unscaled_ones_are_nothing(
    tmp_path: Path, source: Path
) -> None:
    ones = np.ones(4, np.float32)
    write_gguf(tmp_path / "ones.gguf", source, extra={"rope_freqs.weight": ones})
    assert gguf_read.derive(tmp_path / "ones.gguf").is_dir()
    write_gguf(tmp_path / "scaled.gguf", source, extra={"rope_freqs.weight": 8 * ones})
    with pytest.raises(ModelError, match="rotary factors"):
        gguf_read.derive(tmp_path / "scaled.gguf")
    write_gguf(tmp_path / "yarn.gguf", source, more={"llama.rope.scaling.type": "yarn"})
    with pytest.raises(ModelError, match="yarn"):
        gguf_read.derive(tmp_path / "yarn.gguf")


def test_a_file_that_leaves_out_what_a_model_needs_is_refused(tmp_path: Path, source: Path) -> None:
    from dataclasses import replace

    write_gguf(tmp_path / "m.gguf", source)
    model = GgufModel.open(tmp_path / "m.gguf")
    (tmp_path / "made").mkdir()
    for key, said in (
        ("llama.block_count", "block_count"),
        ("llama.attention.layer_norm_rms_epsilon", "layer_norm_rms_epsilon"),
        ("tokenizer.ggml.tokens", "no vocabulary"),
        ("tokenizer.ggml.model", "tokenizer"),
    ):
        metadata = {name: value for name, value in model.metadata.items() if name != key}
        with pytest.raises(ModelError, match=said):
            replace(model, metadata=metadata).write(tmp_path / "made")
    plans = tuple(plan for plan in model.plans if "q_proj" not in plan.name)
    with pytest.raises(ModelError, match="q_proj"):
        replace(model, plans=plans).write(tmp_path / "made")


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_head_count(4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match="no tensors"):
        gguf_read.derive(tmp_path / "m.gguf")


def test_the_bytes_of_the_copy_are_the_tensors_in_the_files_own_order(
    source: Path, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "m.gguf", source)
    model = GgufModel.open(tmp_path / "m.gguf")
    made = tmp_path / "made"
    made.mkdir()

    model.write(made)

    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for plan in model.plans:
        values = plan.read().astype("<f4").tobytes()
        offsets = [len(data), len(data) + len(values)]
        header[plan.name] = {"dtype": "F32", "shape": [*plan.shape], "data_offsets": offsets}
        data += values
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    assert (made / "model.safetensors").read_bytes() == (
        len(text).to_bytes(8, "little") + text + data
    )
