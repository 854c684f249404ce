"""The fixed prompts that parity is measured on: short, unlike each other, and hard on tokenizers.

Eight of at most 64 tokens: enough to see a dropped, doubled or wrongly tied weight at any layer,
and four passes over them cost a 135M model about three seconds in float32 on two cores.
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
PROBE_TOKENS = 64


def probe_ids(
    tokenizer: PreTrainedTokenizerBase, *, count: int = len(PROBES), tokens: int = PROBE_TOKENS
) -> list[list[int]]:
    """The probes as prompts under the tokenizer's own chat template, each cut to `tokens` ids."""
    template = ChatTemplate(tokenizer)
    return [
        template.prompt([{"role": "user", "content": text}])[:tokens] for text in PROBES[:count]
    ]
