"""How a byte-level vocabulary's text is split before its merges: GGUF's names, both ways.

A GGUF file names its splitter (`tokenizer.ggml.pre`), tokenizer.json spells it out. A row here says
that the two are the same function; what has no row is refused when a file is written, for a wrong
name gives other tokens and no error. llama.cpp also ties to the name whether a piece that is a
token as it stands is left unmerged.

Source: the expressions are those of the families' own tokenizer.json files; the names, and which
of them leave whole pieces unmerged, are those of llama.cpp's vocabulary loader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LLAMA3 = ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN2 = ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN35 = (
    ENDINGS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES
)
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES
)
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDINGS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDINGS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES
)


@dataclass(frozen=True)
class Splitter:
    """One way to split: `expression` (None is GPT-2's own), after single digits or not."""

    expression: str | None = None
    digits: bool = False
    """Every digit stands alone, before the expression is asked."""
    keeps_whole: bool = False
    """A piece that is a token is not merged at all: `ignore_merges` of tokenizer.json."""


# GGUF's name -> what it does. The first row that fits is the one a file is written with.
SPLITTERS: dict[str, Splitter] = {
    "gpt-2": Splitter(),
    "smollm": Splitter(digits=True),
    "llama-bpe": Splitter(LLAMA3, keeps_whole=True),
    "smaug-bpe": Splitter(LLAMA3),
    "qwen2": Splitter(QWEN2),
    "qwen35": Splitter(QWEN35),
    "tekken": Splitter(TEKKEN, keeps_whole=True),
    "gpt-4o": Splitter(GPT4O),
}
# Other names that llama.cpp treats as one of those; they are read, never written. Of `default`,
# which older files without a name have too, transformers takes GPT-2's, and so does this.
ALIASES: dict[str, str] = {
    **dict.fromkeys(("gpt2", "default", "phi-2", "mellum", "modern-bert", "exaone4"), "gpt-2"),
    **dict.fromkeys(("olmo", "mpt", "jais", "trillion", "granite-docling"), "gpt-2"),
    **dict.fromkeys(("starcoder", "refact", "command-r", "codeshell", "exaone"), "smollm"),
    **dict.fromkeys(("minerva-7b", "mellum2"), "smollm"),
    **dict.fromkeys(("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral"), "llama-bpe"),
    **dict.fromkeys(("midm-2.0", "lfm2", "jina-v5-nano"), "llama-bpe"),
    **dict.fromkeys(("dbrx", "glm4", "chatglm-bpe"), "smaug-bpe"),
    **dict.fromkeys(("deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2"), "qwen2"),
    **dict.fromkeys(("hunyuan", "solar-open", "grok-2"), "qwen2"),
    **dict.fromkeys(("llama4", "kanana2", "talkie", "minimax-m2"), "gpt-4o"),
}


def find(name: str) -> Splitter | None:
    """The splitter with this name in a GGUF file, None when it is not known."""
    return SPLITTERS.get(ALIASES.get(name, name))


def name_of(told: Mapping[str, Any] | None, *, keeps_whole: bool) -> str | None:
    """GGUF's name of tokenizer.json's `pre_tokenizer`; None when none does the same."""
    splitter = _splitter_of(told, keeps_whole=keeps_whole)
    return next((name for name, known in SPLITTERS.items() if known == splitter), None)


def pre_tokenizer(splitter: Splitter) -> PreTokenizer:
    """The splitter as the tokenizers library has it, down to GPT-2's letters for bytes."""
    from tokenizers import Regex, pre_tokenizers

    steps: list[PreTokenizer] = []
    if splitter.digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if splitter.expression is not None:
        steps.append(pre_tokenizers.Split(Regex(splitter.expression), behavior="isolated"))
    own = splitter.expression is None
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=own))
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def _splitter_of(told: Mapping[str, Any] | None, *, keeps_whole: bool) -> Splitter | None:
    """The steps of `pre_tokenizer` as one splitter, None when they are of another form."""
    steps = list(_steps(told))
    if not steps or not _is_bytes(steps[-1]):
        return None
    own = bool(steps.pop().get("use_regex", True))
    digits = bool(steps) and _is_digits(steps[0])
    rest = steps[1:] if digits else steps
    if own:
        return None if rest else Splitter(None, digits, keeps_whole)
    expression = _expression(rest[0]) if len(rest) == 1 else None
    return None if expression is None else Splitter(expression, digits, keeps_whole)


def _steps(told: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if told is None:
        return []
    if told.get("type") != "Sequence":
        return [told]
    return [step for part in told["pretokenizers"] for step in _steps(part)]


def _is_bytes(step: Mapping[str, Any]) -> bool:
    return step.get("type") == "ByteLevel" and not step.get("add_prefix_space")


def _is_digits(step: Mapping[str, Any]) -> bool:
    return step.get("type") == "Digits" and bool(step.get("individual_digits"))


def _expression(step: Mapping[str, Any]) -> str | None:
    """The expression of a split that keeps every piece; None for any other step.

    Each expression known here matches every character, so that to keep the matches and to drop
    what lies between them is the same.
    """
    kept = (step.get("behavior"), bool(step.get("invert")))
    if step.get("type") != "Split" or kept not in (("Isolated", False), ("Removed", True)):
        return None
    found: str | None = step["pattern"].get("Regex")
    return found
