"""Tiny models of families that only transformers computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, GraniteConfig, GraniteForCausalLM

from tests.support.tiny import tiny_tokenizer


def write_granite(folder: Path, *, tied: bool = True) -> Path:
    """A Granite: a Llama whose embeddings, attention and logits are multiplied besides."""
    config = GraniteConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        embedding_multiplier=4.0,
        logits_scaling=2.0,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    return _write(folder, GraniteForCausalLM, config)


def write_gpt_neox(folder: Path, *, tied: bool = False) -> Path:
    """A GPT-NeoX: its head is `embed_out` in the file and `lm_head` in the module."""
    config = GPTNeoXConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    return _write(folder, GPTNeoXForCausalLM, config)


def _write(folder: Path, family: Any, config: Any) -> Path:
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        model = family(config).float().eval()
    finally:
        torch.set_rng_state(state)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
