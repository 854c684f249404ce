"""The teachers and judges that have a short name: which API, which model, what it costs.

Prices are dollars for a million tokens, without discounts for batches or cached prompts; who asks
with a budget on newer prices gives them with the request. A model whose price rises with the length
of the prompt is not in the table: name it `openai:MODEL` or `anthropic:MODEL`, with its price.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nexa.lm.client import Price

Provider = Literal["openai", "anthropic"]
SOURCE = "list price on 2026-11-22, as the package genai-prices 0.2.3 has it"


@dataclass(frozen=True)
class Teacher:
    """A model behind an API; `context_tokens` holds prompt and answer together."""

    provider: Provider
    model: str
    context_tokens: int
    price: Price


def _row(provider: Provider, model: str, context: int, dollars: tuple[float, float]) -> Teacher:
    return Teacher(provider, model, context, Price(*dollars, source=SOURCE))


TEACHERS: dict[str, Teacher] = {
    row.model: row
    for row in (
        _row("openai", "gpt-4o", 128_000, (2.50, 10.00)),
        _row("openai", "gpt-4o-mini", 128_000, (0.15, 0.60)),
        _row("openai", "gpt-4.1", 1_000_000, (2.00, 8.00)),
        _row("openai", "gpt-4.1-mini", 1_000_000, (0.40, 1.60)),
        _row("openai", "gpt-4.1-nano", 1_000_000, (0.10, 0.40)),
        _row("openai", "gpt-5.4-mini", 400_000, (0.75, 4.50)),
        _row("anthropic", "claude-haiku-4-5", 200_000, (1.00, 5.00)),
        _row("anthropic", "claude-sonnet-4-6", 1_000_000, (3.00, 15.00)),
        _row("anthropic", "claude-sonnet-5", 1_000_000, (2.00, 10.00)),
        _row("anthropic", "claude-sonnet-5-5", 1_000_000, (2.00, 10.00)),
        _row("anthropic", "claude-opus-5", 1_000_000, (5.00, 25.00)),
        _row("anthropic", "claude-opus-5-5", 1_000_000, (4.00, 20.00)),
    )
}
