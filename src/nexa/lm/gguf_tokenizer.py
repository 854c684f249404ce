"""A GGUF file's vocabulary -> the tokenizer files of a model folder.

Apart from the rest, because it needs transformers, which reading a copy that is there does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import (
    GGUF_PRE_TOKENIZER_SPLITS,
    GGUF_TOKENIZER_MAPPING,
    convert_gguf_tokenizer,
)

from nexa.core import events
from nexa.core.errors import ModelError

TOKEN_IDS: dict[str, str] = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
# Pre-tokenizers that split text as GPT-2's does, which is what transformers takes for any name
# that it does not know.
AS_GPT2 = {"gpt-2", "gpt2", "default"}


def write_tokenizer(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template.

    Tokenises as transformers' own reading of the same file does. For Qwen2, transformers puts the
    family's NFC normalisation in front when it loads the folder, as it does for the Hub's model.

    Raises:
        ModelError: the file has no vocabulary, or of a kind that cannot be rebuilt.
    """
    told = {
        group: {
            ours: metadata[f"tokenizer.{key}"]
            for key, ours in renames.items()
            if f"tokenizer.{key}" in metadata
        }
        for group, renames in GGUF_TOKENIZER_MAPPING.items()
    }
    vocabulary, options = told["tokenizer"], told["tokenizer_config"]
    if "tokens" not in vocabulary:
        raise ModelError("this GGUF file has no vocabulary", found="no tokenizer.ggml.tokens")
    if vocabulary.get("tokenizer_type") == "llama":
        # llama.cpp begins a sentencepiece text with BOS unless the file says otherwise.
        options.setdefault("add_bos_token", True)
    for name, key in TOKEN_IDS.items():
        token_id = metadata.get(f"tokenizer.ggml.{key}")
        options[name] = None if token_id is None else vocabulary["tokens"][token_id]
    _tell_unknown_split(vocabulary)
    architecture = metadata["general.architecture"]
    try:
        backend, _ = convert_gguf_tokenizer(architecture, vocabulary)
    except (ValueError, KeyError) as error:
        raise ModelError("cannot rebuild this GGUF file's tokenizer", found=str(error)) from error
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=int(metadata[f"{architecture}.context_length"]),
        clean_up_tokenization_spaces=False,
        **options,
    )
    tokenizer.save_pretrained(folder)
    _name_class(folder / "tokenizer_config.json")


def _name_class(path: Path) -> None:
    """Name the class as transformers before 5 does too; version 5 knows both names."""
    config = json.loads(path.read_bytes())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _tell_unknown_split(vocabulary: Mapping[str, Any]) -> None:
    split = vocabulary.get("pre_tokenizer_type", "default")
    known = split in AS_GPT2 or split in GGUF_PRE_TOKENIZER_SPLITS
    if vocabulary.get("tokenizer_type") == "gpt2" and not known:
        events.emit(
            "note",
            text=f"transformers does not know the text splitter {split!r}: GPT-2's is taken",
        )
