from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from nexa.weights.probes import PROBE_TOKENS, PROBES, probe_ids


def test_every_probe_is_a_prompt_of_the_models_own_template_within_the_limit(
    tiny_llama: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)

    ids = probe_ids(tokenizer)

    assert len(ids) == len(PROBES) == 8
    assert all(0 < len(row) <= PROBE_TOKENS for row in ids)
    assert tokenizer.decode(ids[-1]).startswith("<|im_start|>user\nWhy is the sky blue?")
