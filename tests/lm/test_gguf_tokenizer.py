from __future__ import annotations

from typing import Any

import pytest

from nexa.core.errors import ModelError
from nexa.lm.gguf_tokenizer import backend_of, merges_of

GGML = "tokenizer.ggml."
BYTES: dict[str, Any] = {
    "general.architecture": "llama",
    GGML + "model": "gpt2",
    GGML + "pre": "gpt-2",
    GGML + "tokens": ["a", "b", "ab", "Ġ", "<|x y|>", "<think>", "[PAD6]", "[PAD7]"],
    GGML + "token_type": [1, 1, 1, 1, 3, 4, 5, 5],
    GGML + "merges": ["a b"],
}
SCORED: dict[str, Any] = {
    "general.architecture": "llama",
    GGML + "model": "llama",
    GGML + "tokens": ["<unk>", "<s>", "▁", "h", "i", "hi", "▁hi"],
    GGML + "token_type": [2, 3, 1, 1, 1, 1, 1],
    GGML + "scores": [0.0, 0.0, -9.0, -8.0, -7.0, -2.0, -1.0],
}


def test_special_tokens_stay_whole_whatever_letters_they_have() -> None:
    backend = backend_of(BYTES)
    assert backend.encode("ab<|x y|>a<think>").ids == [2, 4, 0, 5]
    assert backend.decode([2, 4, 0, 5], skip_special_tokens=True) == "aba<think>"


def test_names_that_only_fill_the_embedding_are_no_tokens() -> None:
    assert backend_of(BYTES).get_vocab_size() == 6
    unnamed = {key: value for key, value in BYTES.items() if not key.endswith("token_type")}
    assert backend_of(unnamed).get_vocab_size() == 8


def test_families_that_compose_characters_do() -> None:
    assert backend_of(BYTES).normalizer is None
    qwen = BYTES | {"general.architecture": "qwen3", GGML + "pre": "qwen2"}
    assert backend_of(qwen).normalizer.normalize_str("e\u0301") == "\u00e9"
    assert backend_of(qwen | {"general.architecture": "llama"}).normalizer is None


def test_whole_pieces_are_kept_where_the_splitter_says_so() -> None:
    assert backend_of(BYTES | {GGML + "pre": "llama3"}).model.ignore_merges
    assert not backend_of(BYTES).model.ignore_merges


def test_spaces_go_before_every_stretch_or_before_none() -> None:
    assert backend_of(SCORED).encode("hi<s>hi").ids == [6, 1, 6]
    bare = SCORED | {GGML + "add_space_prefix": False}
    assert backend_of(bare).encode("hi<s> hi").ids == [5, 1, 6]
    assert backend_of(SCORED).decode([6, 6]) == "hi hi"


def test_every_cut_of_a_token_is_a_merge_the_best_first() -> None:
    tokens = ["a", "b", "ab", "aab", "aa", "<s>"]
    types = [1, 1, 1, 1, 1, 3]
    scores = [0.0, 0.0, -2.0, -3.0, -1.0, 0.0]
    assert list(merges_of(tokens, types, scores)) == [
        ("a", "a"),
        ("a", "b"),
        ("a", "ab"),
        ("aa", "b"),
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({GGML + "tokens": None}, "no vocabulary"),
        ({GGML + "model": "t5"}, "tokenizer.ggml.model: t5"),
        ({GGML + "model": "llama"}, "no scores"),
        ({GGML + "merges": ["a c"]}, r"merges(.|\n)*a \+ c"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused(change: dict[str, Any], said: str) -> None:
    told = {key: value for key, value in (BYTES | change).items() if value is not None}
    with pytest.raises(ModelError, match=said):
        backend_of(told)
