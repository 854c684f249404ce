from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from nexa.core.errors import ModelError
from nexa.weights.gguf.architecture import OWN_DEFAULTS, describe
from tests.support.tiny import ARCHITECTURES
from tests.weights.gguf.folders import edit_config, write_folder

CARD = """---
license: apache-2.0
base_model:
- someone/base
- local
---
# A model
"""


def test_the_numbers_are_the_configurations(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "qwen3", head_dim=16, rms_norm_eps=1e-5)
    found = describe(folder, name="Tiny")
    assert found.metadata == {
        "general.type": "model",
        "general.name": "Tiny",
        "qwen3.context_length": 512,
        "qwen3.embedding_length": 32,
        "qwen3.block_count": 2,
        "qwen3.feed_forward_length": 64,
        "qwen3.attention.head_count": 4,
        "qwen3.attention.head_count_kv": 2,
        "qwen3.attention.layer_norm_rms_epsilon": 1e-5,
        "qwen3.attention.key_length": 16,
        "qwen3.attention.value_length": 16,
        "qwen3.rope.freq_base": 10_000.0,
        "qwen3.rope.dimension_count": 16,
        "qwen3.vocab_size": 320,
    }
    assert (found.layers, found.heads, found.key_heads, found.rows) == (2, 4, 2, 320)
    assert found.rope_divisors is None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_a_config_leaves_out_is_what_transformers_takes(
    tmp_path: Path, architecture: str
) -> None:
    folder = write_folder(tmp_path / "m", architecture, sliding_window=None)
    left_out = {"num_key_value_heads", "rms_norm_eps", "hidden_act", "tie_word_embeddings"}
    left_out |= {"rope_parameters", *OWN_DEFAULTS.get(architecture, ())}
    edit_config(folder, **dict.fromkeys(left_out), max_position_embeddings=512)
    found = describe(folder, name="Tiny")
    wanted = AutoConfig.from_pretrained(folder)
    assert found.key_heads == wanted.num_key_value_heads
    prefix = found.family.gguf_architecture
    assert found.metadata[f"{prefix}.attention.layer_norm_rms_epsilon"] == wanted.rms_norm_eps
    assert found.metadata[f"{prefix}.rope.freq_base"] == wanted.rope_parameters["rope_theta"]
    width = getattr(wanted, "head_dim", None) or 32 // 4
    assert found.metadata[f"{prefix}.attention.key_length"] == width
    assert found.tied is wanted.tie_word_embeddings


def test_a_config_that_transformers_cannot_read_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    edit_config(folder, num_key_value_heads=None, hidden_size="wide")
    with pytest.raises(ModelError, match=r"cannot read .*config\.json"):
        describe(folder, name="t")


def test_the_old_spelling_of_rotations_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    scaling = {"type": "linear", "factor": 2.0}
    edit_config(folder, rope_parameters=None, rope_theta=5e5, rope_scaling=scaling)
    found = describe(folder, name="t").metadata
    assert found["llama.rope.freq_base"] == 5e5
    assert found["llama.rope.scaling.type"] == "linear"
    assert found["llama.rope.scaling.factor"] == 2.0


@pytest.mark.parametrize(
    ("architecture", "changes", "said"),
    [
        ("llama", {"model_type": "gemma3"}, "family 'gemma3'"),
        ("llama", {"model_type": "qwen4"}, "nearest: qwen"),
        ("llama", {"hidden_act": "gelu"}, "silu alone"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor: 0.5"),
        ("mistral", {"sliding_window": 100}, "sliding_window: 100, in texts of up to 512"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8}, "window of a qwen2"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        (
            "qwen2",
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
            "no low_freq_factor, high_freq_factor",
        ),
        (
            "qwen2",
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                }
            },
            "for Llama and Mistral alone",
        ),
        (
            "qwen2",
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.5}},
            "attention_factor",
        ),
        (
            "qwen2",
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "truncate": False}},
            "truncate",
        ),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused_by_name(
    tmp_path: Path, architecture: str, changes: dict[str, Any], said: str
) -> None:
    folder = write_folder(tmp_path / "m", architecture)
    edit_config(folder, **changes)
    with pytest.raises(ModelError, match=said):
        describe(folder, name="t")


def test_a_window_as_wide_as_the_texts_changes_nothing(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "mistral", sliding_window=512)
    assert describe(folder, name="t").metadata["llama.context_length"] == 512
    edit_config(folder, sliding_window=4)
    config = {"use_sliding_window": False}
    edit_config(folder, **config)
    assert describe(folder, name="t").heads == 4


def test_licence_and_bases_are_the_cards(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    (folder / "README.md").write_text(CARD)
    found = describe(folder, name="t").metadata
    told = {key: value for key, value in found.items() if key.startswith("general.")}
    assert told == {
        "general.type": "model",
        "general.name": "t",
        "general.license": "apache-2.0",
        "general.base_model.count": 2,
        "general.base_model.0.name": "base",
        "general.base_model.0.organization": "someone",
        "general.base_model.0.repo_url": "https://huggingface.co/someone/base",
        "general.base_model.1.name": "local",
    }
    (folder / "README.md").write_text("---\nbase_model: one/two\n---\n")
    assert describe(folder, name="t").metadata["general.base_model.0.name"] == "two"


@pytest.mark.parametrize(
    "card",
    [
        "no front matter",
        "---\nbase_model: 3\n---\n",
        "---\nlicense: [\n---\n",
        "---\n- a list\n---\n",
        "---\nnever closed",
    ],
)
def test_a_card_that_says_nothing_is_no_obstacle(tmp_path: Path, card: str) -> None:
    folder = write_folder(tmp_path / "m")
    (folder / "README.md").write_text(card)
    assert "general.license" not in describe(folder, name="t").metadata
