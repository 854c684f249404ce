"""A GGUF file's vocabulary -> the tokenizer files of a model folder.

Two kinds are known: `gpt2`, a byte-level BPE with its merges, and `llama`, SentencePiece's BPE
with scores. Both are rebuilt to give the ids that llama.cpp gives. Apart from the rest, because it
needs transformers, which reading a copy that is there does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gguf import TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from nexa.core import events
from nexa.core.errors import ModelError
from nexa.lm import gguf_splitters

TOKEN_IDS: dict[str, str] = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
KEY = "tokenizer.ggml."
SPACE = "▁"  # what SentencePiece writes for a space
# Families whose tokenizer composes characters first, which a GGUF file cannot say.
COMPOSING = {"qwen2", "qwen3"}
# Rows of the embedding that no text has: never the outcome of a merge.
NOT_MERGED = {TokenType.CONTROL, TokenType.UNKNOWN, TokenType.UNUSED, TokenType.BYTE}


def write_tokenizer(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template.

    Raises:
        ModelError: the file has no vocabulary, or of a kind that cannot be rebuilt.
    """
    tokenizer_of(metadata).save_pretrained(folder)
    _name_class(folder / "tokenizer_config.json")


def tokenizer_of(metadata: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer of a GGUF file, with its special tokens and its chat template.

    Raises:
        ModelError: the file has no vocabulary, or of a kind that cannot be rebuilt.
    """
    architecture = metadata["general.architecture"]
    backend = backend_of(metadata)
    tokens = metadata[KEY + "tokens"]
    options: dict[str, Any] = {}
    for name, key in TOKEN_IDS.items():
        token_id = metadata.get(KEY + key)
        options[name] = None if token_id is None else tokens[token_id]
    for name in ("add_bos_token", "add_eos_token"):
        if KEY + name in metadata:
            options[name] = bool(metadata[KEY + name])
    if metadata[KEY + "model"] == "llama":
        # llama.cpp begins a sentencepiece text with BOS unless the file says otherwise.
        options.setdefault("add_bos_token", True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=int(metadata[f"{architecture}.context_length"]),
        clean_up_tokenization_spaces=False,
        **options,
    )
    if "tokenizer.chat_template" in metadata:
        tokenizer.chat_template = metadata["tokenizer.chat_template"]
    return tokenizer


def backend_of(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a GGUF file's metadata stand for, without BOS and EOS.

    Raises:
        ModelError: there is no vocabulary, or one of a kind that cannot be rebuilt.
    """
    if KEY + "tokens" not in metadata:
        raise ModelError("this GGUF file has no vocabulary", found="no tokenizer.ggml.tokens")
    kind = metadata.get(KEY + "model")
    if kind not in ("gpt2", "llama"):
        raise ModelError(
            "cannot rebuild this GGUF file's tokenizer",
            found=f"tokenizer.ggml.model: {kind}; known are gpt2 and llama",
            fix="use the model's safetensors: a folder or a Hub id",
        )
    if kind == "llama" and KEY + "scores" not in metadata:
        raise ModelError("this GGUF file's vocabulary has no scores", found="no " + KEY + "scores")
    tokens, types = _without_padding(metadata)
    backend = (
        _byte_level(metadata, tokens) if kind == "gpt2" else _sentencepiece(metadata, tokens, types)
    )
    special = _of_type(tokens, types, TokenType.CONTROL)
    told = _of_type(tokens, types, TokenType.USER_DEFINED)
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    backend.add_tokens([AddedToken(t, special=False, normalized=False) for t in told])
    return backend


def merges_of(
    tokens: Sequence[str], types: Sequence[int], scores: Sequence[float]
) -> Iterator[tuple[str, str]]:
    """The merges that a scored vocabulary implies, the best first.

    llama.cpp joins two neighbours whenever the outcome is a token, and takes the outcome with the
    highest score first: so every way to cut a token into two tokens is a merge.
    """
    ids = {token: i for i, token in enumerate(tokens)}
    whole = [i for i, kind in enumerate(types) if kind not in NOT_MERGED and len(tokens[i]) > 1]
    for i in sorted(whole, key=lambda i: (-scores[i], i)):
        token = tokens[i]
        cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
        pairs = [pair for pair in cuts if pair[0] in ids and pair[1] in ids]
        yield from sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))


def _byte_level(metadata: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer:
    name = metadata.get(KEY + "pre", "default")
    splitter = gguf_splitters.find(name)
    if splitter is None:
        events.emit("note", text=f"the text splitter {name!r} is not known here: GPT-2's is taken")
        splitter = gguf_splitters.SPLITTERS["gpt-2"]
    ids = {token: i for i, token in enumerate(tokens)}
    merges = [_pair(merge) for merge in metadata.get(KEY + "merges", ())]
    lost = next((pair for pair in merges if not {*pair, "".join(pair)} <= ids.keys()), None)
    if lost is not None:
        raise ModelError(
            "this GGUF file's merges are not those of its vocabulary", found=" + ".join(lost)
        )
    backend = Tokenizer(models.BPE(ids, merges, ignore_merges=splitter.keeps_whole))
    if metadata["general.architecture"] in COMPOSING and name == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = gguf_splitters.pre_tokenizer(splitter)
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(
    metadata: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]
) -> Tokenizer:
    unknown = metadata.get(KEY + "unknown_token_id", 0)
    backend = Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(tokens)},
            list(merges_of(tokens, types, metadata[KEY + "scores"])),
            unk_token=tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces: normalizers.Normalizer = normalizers.Replace(" ", SPACE)
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.get(KEY + "add_space_prefix", True):
        # Before every stretch between special tokens, as llama.cpp has it.
        spaces = normalizers.Sequence([normalizers.Prepend(SPACE), spaces])
        steps.append(decoders.Strip(" ", 1, 0))
    backend.normalizer = spaces
    backend.decoder = decoders.Sequence(steps)
    return backend


def _without_padding(metadata: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    """Tokens and their types, without the names that only fill the embedding's last rows."""
    tokens = list(metadata[KEY + "tokens"])
    types = list(metadata.get(KEY + "token_type") or [TokenType.NORMAL] * len(tokens))
    while tokens and types[-1] == TokenType.UNUSED and tokens[-1] == f"[PAD{len(tokens) - 1}]":
        tokens.pop()
        types.pop()
    return tokens, types


def _of_type(tokens: Sequence[str], types: Sequence[int], kind: TokenType) -> list[str]:
    return [token for token, is_kind in zip(tokens, types, strict=True) if is_kind == kind]


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _name_class(path: Path) -> None:
    """Name the class as transformers before 5 does too; version 5 knows both names."""
    config = json.loads(path.read_bytes())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
