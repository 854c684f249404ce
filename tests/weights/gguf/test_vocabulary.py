from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from nexa.core import events
from nexa.core.errors import ModelError, VocabularyError
from nexa.core.events import Event
from nexa.lm import gguf_read
from nexa.lm.gguf_splitters import SPLITTERS
from nexa.weights.gguf.vocabulary import describe
from nexa.weights.gguf.write import write_gguf
from tests.lm.templates import LLAMA3, tokenizer_for
from tests.weights.gguf.folders import (
    NASTY,
    byte_level,
    sentencepiece,
    wrapped,
    write_folder,
)

GGML = "tokenizer.ggml."
TOKENIZERS = {
    **{name: lambda name=name: byte_level(name) for name in SPLITTERS},
    "sentencepiece": sentencepiece,
    "sentencepiece without spaces": lambda: sentencepiece(spaces=False),
}


def told(tokenizer: PreTrainedTokenizerFast, **config: Any) -> dict[str, Any]:
    return describe(tokenizer, rows=320, config=config)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_llama_cpp_and_the_rebuilt_tokenizer_give_the_same_ids(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("xllamacpp")
    from nexa.lm.llama_cpp import LlamaCpp

    folder = write_folder(tmp_path / "m", tokenizer=TOKENIZERS[kind]())
    write_gguf(folder, tmp_path / "m.gguf", quantization="f16", name="t")
    source = AutoTokenizer.from_pretrained(folder)
    rebuilt = AutoTokenizer.from_pretrained(gguf_read.derive(tmp_path / "m.gguf"))
    with LlamaCpp.open(tmp_path / "m.gguf", positions=64) as runtime:
        for text in NASTY:
            wanted = source(text).input_ids
            assert rebuilt(text).input_ids == wanted, text
            assert runtime.tokenize(text, add_special=True) == wanted, text
    if kind in SPLITTERS:
        assert told(source)[GGML + "pre"] == kind


def test_every_row_of_the_embedding_has_a_name_and_a_type() -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens(["<think>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    found = told(tokenizer)
    tokens, types = found[GGML + "tokens"], found[GGML + "token_type"]
    assert len(tokens) == len(types) == 320
    kind = dict(zip(tokens, types, strict=True))
    assert kind["<|im_end|>"] == kind["<tool>"] == TokenType.CONTROL
    assert kind["<think>"] == TokenType.USER_DEFINED
    assert kind["a"] == TokenType.NORMAL
    assert kind["[PAD319]"] == TokenType.UNUSED
    found = told(sentencepiece())
    kind = dict(zip(found[GGML + "tokens"], found[GGML + "token_type"], strict=True))
    assert kind["<unk>"] == TokenType.UNKNOWN
    assert kind["<0x0A>"] == TokenType.BYTE
    assert kind["</s>"] == TokenType.CONTROL


def test_ids_beyond_the_embedding_are_refused() -> None:
    with pytest.raises(VocabularyError, match="from id 290 on"):
        describe(byte_level(), rows=290, config={})


def test_composing_characters_is_told_and_another_rewriting_refused() -> None:
    tokenizer = byte_level("qwen2")
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    heard: list[Event] = []
    with events.listening(heard.append):
        assert told(tokenizer)[GGML + "pre"] == "qwen2"
    assert any("NFC" in event["text"] for event in heard)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ModelError, match="Lowercase"):
        told(tokenizer)


@pytest.mark.parametrize(
    "splitter",
    [
        None,
        pre_tokenizers.Whitespace(),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel()]),
    ],
)
def test_a_splitter_that_is_not_known_is_refused(splitter: Any) -> None:
    tokenizer = byte_level()
    if splitter is None:
        backend = json.loads(tokenizer.backend_tokenizer.to_str()) | {"pre_tokenizer": None}
        tokenizer = wrapped(Tokenizer.from_str(json.dumps(backend)))
    else:
        tokenizer.backend_tokenizer.pre_tokenizer = splitter
    with pytest.raises(ModelError, match=r"(?s)no text splitter.*known: gpt-2, smollm"):
        told(tokenizer)


def test_another_kind_of_tokenizer_is_refused() -> None:
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    with pytest.raises(ModelError, match="Unigram"):
        told(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="a"))


def test_a_special_token_that_eats_spaces_is_refused() -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True)])
    with pytest.raises(ModelError, match="<mask>: lstrip"):
        told(tokenizer)


def changed(change: dict[str, Any], *, merges: Any = None) -> PreTrainedTokenizerFast:
    tokenizer = sentencepiece()
    backend = json.loads(tokenizer.backend_tokenizer.to_str()) | change
    if merges is not None:
        backend["model"]["merges"] = merges(backend["model"]["merges"])
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)), eos_token="</s>", bos_token="<s>"
    )


@pytest.mark.parametrize(
    ("merges", "said"),
    [
        (lambda found: found[1:], "no merge for i \\+ n"),
        (lambda found: [pair for pair in found if pair != ["t", "he"]] + [["t", "he"]], "apart"),
    ],
)
def test_merges_that_scores_cannot_order_are_refused(merges: Any, said: str) -> None:
    with pytest.raises(ModelError, match=rf"(?s)SentencePiece.*{said}"):
        told(changed({}, merges=merges))


def test_scores_follow_the_merges() -> None:
    found = told(changed({}, merges=lambda pairs: [*pairs[1:], pairs[0]]))
    score = dict(zip(found[GGML + "tokens"], found[GGML + "scores"], strict=True))
    assert score["er"] == 0.0
    assert score["in"] == min(score.values()) + 1  # letters come last of all
    assert score["</s>"] == score["<0x0A>"] == 0.0


@pytest.mark.parametrize(
    ("change", "prefix"),
    [
        (
            {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}},
            None,
        ),
        (
            {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}},
            False,
        ),
    ],
)
def test_spaces_before_the_first_word_alone_are_refused(
    change: dict[str, Any], prefix: bool | None
) -> None:
    change["pre_tokenizer"]["split"] = False
    tokenizer = changed(change | {"normalizer": None})
    if prefix is None:
        with pytest.raises(ModelError, match=r"every stretch of text or before none"):
            told(tokenizer)
    else:
        assert told(tokenizer)[GGML + "add_space_prefix"] is prefix


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("ends", [False, True])
def test_bos_and_eos_are_seen_on_a_text(begins: bool, ends: bool) -> None:
    tokenizer = byte_level()
    tokenizer.bos_token = "<|im_start|>"
    single = "<|im_start|> " * begins + "$A" + " <|im_end|>" * ends
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
    )
    found = told(tokenizer)
    assert found[GGML + "add_bos_token"] is begins
    assert found[GGML + "add_eos_token"] is ends
    assert found[GGML + "bos_token_id"] == 1


def test_other_tokens_around_a_text_are_refused() -> None:
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    with pytest.raises(ModelError, match="puts around a text"):
        told(tokenizer)


def test_the_end_of_a_turn_is_the_templates() -> None:
    found = told(tokenizer_for(LLAMA3))
    tokens = found[GGML + "tokens"]
    assert tokens[found[GGML + "eos_token_id"]] == "<|end_of_text|>"
    assert tokens[found[GGML + "eot_token_id"]] == "<|eot_id|>"


def test_the_end_of_a_message_is_kept_where_the_model_ends_at_it() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|eom_id|>"]})
    eom = tokenizer.convert_tokens_to_ids("<|eom_id|>")
    assert GGML + "eom_token_id" not in told(tokenizer, eos_token_id=2)
    assert told(tokenizer, eos_token_id=[2, eom])[GGML + "eom_token_id"] == eom


def test_a_tokenizer_without_eos_takes_the_templates_end() -> None:
    tokenizer = wrapped(byte_level().backend_tokenizer, eos_token=None)
    assert told(tokenizer)[GGML + "eos_token_id"] == 2
    tokenizer.chat_template = None
    heard: list[Event] = []
    with events.listening(heard.append), pytest.raises(ModelError, match="ends a text"):
        told(tokenizer)
    assert any("no end of turn" in event["text"] for event in heard)


def test_every_template_is_kept_byte_for_byte() -> None:
    tokenizer = byte_level()
    template = tokenizer.chat_template
    assert told(tokenizer)["tokenizer.chat_template"] == template
    tokenizer.chat_template = {"default": template, "tool_use": "{{ 1 }}"}
    found = told(tokenizer)
    assert found["tokenizer.chat_template"] == template
    assert found["tokenizer.chat_template.tool_use"] == "{{ 1 }}"
    assert found["tokenizer.chat_templates"] == ["tool_use"]
    tokenizer.chat_template = {"tool_use": "{{ 1 }}"}
    assert "tokenizer.chat_template" not in told(tokenizer)
    tokenizer.chat_template = None
    assert not any("chat_template" in key for key in told(tokenizer))
    tokenizer.chat_template = {"default": template}
    assert "tokenizer.chat_templates" not in told(tokenizer)
