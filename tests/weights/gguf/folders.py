"""Tiny model folders of every kind that is written as GGUF: families, splitters, vocabularies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nexa.lm import gguf_splitters
from tests.support.tiny import ARCHITECTURES, CHATML, TEXT

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
NASTY = [
    "",
    "Plain words, and 1234567 numbers.",
    "  two  spaces\n\n\nlines\t\ttabs  1.  2. \n",
    "def f(x: int) -> str:\r\n    return f'{x!r}'  # it's, WE'LL, don't\n\n\n",
    "naïve café, 日本語のテキスト, Привет, \u00a0\u2003 e\u0301 and \u00e9",
    "🙂🙃 👩‍👩‍👧‍👦 \u200b…—“q” ½ Ⅷ ٣٤",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "<|im_star t|> <|im_end| > <s></s> [PAD301] <0x0A> <unk>",
    '{"a": [1, 2.5, -3e-7], "b": null}',
    "\x00\x01\x7f" + "a" * 50,
]


def tiny_model(architecture: str = "llama", **options: Any) -> PreTrainedModel:
    """Two layers, width 32 unless told otherwise, seeded, every weight and bias random."""
    config_class, model_class = ARCHITECTURES[architecture]
    told: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        model = model_class(config_class(**told | options)).float().eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias") or "norm" in name:
                    parameter.normal_(0.5, 0.2)
                else:  # large enough that attention looks at some positions more than at others
                    parameter.normal_(0, 2 / parameter.shape[-1] ** 0.5)
        return model
    finally:
        torch.set_rng_state(state)


def byte_level(splitter: str = "gpt-2", *, words: int = 40) -> PreTrainedTokenizerFast:
    """A byte-level BPE that splits as this row of the table does."""
    row = gguf_splitters.SPLITTERS[splitter]
    backend = Tokenizer(models.BPE(ignore_merges=row.keeps_whole))
    backend.pre_tokenizer = gguf_splitters.pre_tokenizer(row)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=259 + words,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*TEXT, *NASTY], trainer)
    return wrapped(backend)


def sentencepiece(*, spaces: bool = True) -> PreTrainedTokenizerFast:
    """A BPE with byte fallback as SentencePiece makes one: every cut of a token is a merge."""
    letters = ["▁", *"abcdehilnorstwxy.,<>|_"]
    words = ["in", "er", "▁t", "th", "the", "▁the", "he", "ll", "el", "hell", "hello", "or", "wor"]
    words += ["ld", "world", "▁world", "▁hello", "▁▁", "▁▁▁▁", "st"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: i for i, token in enumerate([*tokens, *words, *letters])}
    merges = [
        (word[:at], word[at:])
        for word in words
        for at in range(1, len(word))
        if word[:at] in vocabulary and word[at:] in vocabulary
    ]
    backend = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    replaced = normalizers.Replace(" ", "▁")
    backend.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), replaced])
        if spaces
        else normalizers.Sequence([replaced])
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        add_bos_token=True,
    )


def wrapped(backend: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of transformers' around one of the tokenizers library's."""
    told: dict[str, Any] = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    made = PreTrainedTokenizerFast(tokenizer_object=backend, **told | options)
    made.chat_template = CHATML
    return made


def write_folder(
    folder: Path,
    architecture: str = "llama",
    *,
    tokenizer: PreTrainedTokenizerFast | None = None,
    **options: Any,
) -> Path:
    """A model folder; `options` are the configuration's."""
    tiny_model(architecture, **options).save_pretrained(folder)
    (tokenizer or byte_level()).save_pretrained(folder)
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; None takes one away."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(kept))
