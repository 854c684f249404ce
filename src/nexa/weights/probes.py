"""The fixed texts that parity is measured on: short, unlike each other, and hard on tokenizers.

Eight of at most 32 tokens: enough to see a dropped, doubled or wrongly tied weight at any layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexa.lm.chat import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBES = (
    "List three facts about the element iron, each on a line of its own.",
    'Fill in the record as JSON: {"name": "tin", "symbol": null, "melting_point_k": null}',
    "def area(radius):\n    return 3.14159 * radius ** 2\n\nWhat does `area(2.5)` return?",
    "Überprüfe bitte: 1.234,56 € + 7 % = ? Antworte in einem Satz.",
    "水的沸点是多少？用一句话回答。",  # noqa: RUF001 - other scripts are the point of it
    "a\tb\n\n  c   d\r\n…“quotes” — dashes – and 🙂🧪 emoji, 1e-9, 0x1F, ½, ①",  # noqa: RUF001
    "The sample was annealed at 450 °C for 2 h, quenched, and indexed in space group Fm-3m.",
    "Why is the sky blue?",
)
PROBE_TOKENS = 32


def probe_texts(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The texts as they stand, each cut to PROBE_TOKENS ids: what the logits are compared on."""
    return [
        tokenizer(text, add_special_tokens=False)["input_ids"][:PROBE_TOKENS] for text in PROBES
    ]


def probe_prompts(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The texts as prompts under the tokenizer's own chat template, uncut."""
    template = ChatTemplate(tokenizer)
    return [template.prompt([{"role": "user", "content": text}]) for text in PROBES]
