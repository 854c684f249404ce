"""Tiny random models with a real tokenizer, made in a second: what fast tests train and merge."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = [
    "The density of iron is 7.87 grams per cubic centimetre.",
    '{"element": "iron", "symbol": "Fe", "melting_point_k": 1811.0, "lattice": "BCC"}',
    "Return the record as JSON. What colour is the sky? It is blue, 1234567890.",
]
ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def tiny_tokenizer(*, chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 300 entries with ChatML's special tokens; any text round-trips."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    fast.chat_template = chat_template
    return fast


def tiny_model(architecture: str = "llama", *, tied: bool = True, seed: int = 0) -> PreTrainedModel:
    """Two layers, width 32, four heads on two key heads, float32, seeded."""
    config_class, model_class = ARCHITECTURES[architecture]
    config = config_class(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        return model_class(config).float().eval()
    finally:
        torch.set_rng_state(state)


def write_tiny_model(
    folder: Path,
    architecture: str = "llama",
    *,
    tied: bool = True,
    seed: int = 0,
    chat_template: str | None = CHATML,
) -> Path:
    """A model folder as a user would have it: config, safetensors, tokenizer, chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_model(architecture, tied=tied, seed=seed).save_pretrained(folder)
    tiny_tokenizer(chat_template=chat_template).save_pretrained(folder)
    return folder
