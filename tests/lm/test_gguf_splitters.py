from __future__ import annotations

import json

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from nexa.lm import gguf_splitters
from nexa.lm.gguf_splitters import ALIASES, LLAMA3, SPLITTERS


def told(splitter: pre_tokenizers.PreTokenizer) -> dict[str, object]:
    """A splitter as tokenizer.json has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    found: dict[str, object] = json.loads(tokenizer.to_str())["pre_tokenizer"]
    return found


@pytest.mark.parametrize("name", SPLITTERS)
def test_each_row_is_known_again_by_what_it_makes(name: str) -> None:
    row = SPLITTERS[name]
    made = told(gguf_splitters.pre_tokenizer(row))
    assert gguf_splitters.name_of(made, keeps_whole=row.keeps_whole) == name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transformers_knows_the_same_expressions_by_the_same_names() -> None:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    for name, expression in GGUF_PRE_TOKENIZER_SPLITS.items():
        row = gguf_splitters.find(name)
        assert row is not None
        assert row.expression == expression


def test_an_alias_names_a_row_and_nothing_else_is_found() -> None:
    assert set(ALIASES.values()) <= set(SPLITTERS)
    assert gguf_splitters.find("starcoder") == SPLITTERS["smollm"]
    assert gguf_splitters.find("kaleidoscope") is None


def test_pieces_are_split_as_the_names_say() -> None:
    def split(name: str, text: str) -> list[str]:
        splitter = gguf_splitters.pre_tokenizer(SPLITTERS[name])
        return [piece for piece, _ in splitter.pre_tokenize_str(text)]

    assert split("gpt-2", "ab 1234") == ["ab", "Ġ1234"]
    assert split("smollm", "ab 12") == ["ab", "Ġ", "1", "2"]
    assert split("llama-bpe", "ab 1234") == ["ab", "Ġ", "123", "4"]
    assert split("qwen2", "ab 12") == ["ab", "Ġ", "1", "2"]
    assert split("tekken", "aB") == ["a", "B"]


def test_keeping_the_matches_is_dropping_what_lies_between() -> None:
    removed = pre_tokenizers.Split(Regex(LLAMA3), behavior="removed", invert=True)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made = told(pre_tokenizers.Sequence([removed, bytes_]))
    assert gguf_splitters.name_of(made, keeps_whole=True) == "llama-bpe"
    assert gguf_splitters.name_of(made, keeps_whole=False) == "smaug-bpe"


@pytest.mark.parametrize(
    "splitter",
    [
        pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA3), behavior="merged_with_next"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=False),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        ),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(" ", behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    ],
)
def test_another_build_has_no_name(splitter: pre_tokenizers.PreTokenizer) -> None:
    assert gguf_splitters.name_of(told(splitter), keeps_whole=False) is None


def test_no_splitter_has_no_name() -> None:
    assert gguf_splitters.name_of(None, keeps_whole=False) is None
