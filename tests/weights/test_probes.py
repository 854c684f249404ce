from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from nexa.weights.probes import PROBE_TOKENS, PROBES, probe_prompts, probe_texts


def test_every_text_is_short_and_every_prompt_is_of_the_models_own_template(
    tiny_llama: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)

    texts, prompts = probe_texts(tokenizer), probe_prompts(tokenizer)

    assert len(texts) == len(prompts) == len(PROBES) == 8
    assert all(0 < len(ids) <= PROBE_TOKENS for ids in texts)
    told = str(tokenizer.decode(prompts[-1]))
    assert told.startswith("<|im_start|>user\nWhy is the sky blue?")
