"""Whether two tokenizers are one: ids of texts that are hard on tokenizers, the chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexa.core.errors import TemplateError
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.lm.chat import GOLDEN, ChatTemplate
from nexa.weights.checks import Check
from nexa.weights.probes import NASTY, PROBES, nasty_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOLD = 3  # texts in a failed check
TOLD_CHARACTERS = 40


def tokenizer_checks(
    got: PreTrainedTokenizerBase, wanted: PreTrainedTokenizerBase
) -> Iterator[Check]:
    """Token ids, the template byte for byte, and a conversation rendered by it."""
    pairs = zip(NASTY, nasty_ids(got), nasty_ids(wanted), strict=True)
    changed = [text for text, ours, theirs in pairs if ours != theirs]
    # With what the tokenizer begins and ends a text with.
    changed += [text for text in PROBES if got(text)["input_ids"] != wanted(text)["input_ids"]]
    yield ids_check("token_ids", changed)
    templates = [sha256_bytes(canonical_json(each.chat_template)) for each in (got, wanted)]
    yield Check("template", templates[0] == templates[1], *templates)
    rendered = [sha256_bytes(canonical_json(_conversation(each))) for each in (got, wanted)]
    yield Check("conversation", rendered[0] == rendered[1], *rendered)


def ids_check(name: str, changed: Iterable[str]) -> Check:
    """A check that is passed when no text is told to have other ids."""
    told = list(dict.fromkeys(text[:TOLD_CHARACTERS] for text in changed))
    return Check(name, not told, told[:TOLD] or "equal", f"equal on {len(NASTY)} texts")


def end_of_turn_check(stops: Iterable[int | None], wanted: Iterable[int]) -> Check:
    """Whether answers end wherever they should; more ends are no fault."""
    found, needed = sorted({stop for stop in stops if stop is not None}), sorted(set(wanted))
    return Check("end_of_turn", set(needed) <= set(found), found, needed)


def listed_ends(folder: Path) -> list[int]:
    """The ids at which a model folder says that answers end."""
    for name in ("generation_config.json", "config.json"):
        told: Mapping[str, Any] = {}
        if (folder / name).is_file():
            told = json.loads((folder / name).read_bytes())
        eos = told.get("eos_token_id")
        if eos is not None:
            return list(eos) if isinstance(eos, list) else [eos]
    return []


def template_ends(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids at which an answer ends under the tokenizer's template; of none, its eos."""
    try:
        return list(ChatTemplate(tokenizer).stop_ids)
    except TemplateError:
        eos = tokenizer.eos_token_id
        return [] if eos is None else [int(eos)]


def _conversation(tokenizer: PreTrainedTokenizerBase) -> Any:
    """The ids of a fixed conversation, and of the prompt before its answer."""
    try:
        template = ChatTemplate(tokenizer)
        return [template.render(GOLDEN[:2]).ids, template.prompt(GOLDEN[:1])]
    except TemplateError as error:  # then both sides have to refuse it alike
        return error.what
