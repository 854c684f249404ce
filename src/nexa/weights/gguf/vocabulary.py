"""A tokenizer -> the vocabulary of a GGUF file: tokens, merges, splitter, special tokens, template.

Everything is asked of the tokenizer as it is loaded, for that is the one the model was trained
with: whether it begins a text with BOS is seen by encoding one. What a GGUF file cannot say, or
llama.cpp would read otherwise, is refused.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from gguf import TokenType
from transformers import PreTrainedTokenizerBase

from nexa.core.errors import ModelError, TemplateError, VocabularyError
from nexa.core.events import emit
from nexa.lm import gguf_splitters
from nexa.lm.chat import ChatTemplate
from nexa.lm.gguf_tokenizer import KEY, NOT_MERGED, SPACE, TOKEN_IDS, merges_of
from nexa.lm.tokenizer import state_of
from nexa.weights.gguf.architecture import Metadata

SAFETENSORS = "nexa export --format safetensors"
END_OF_MESSAGE = "<|eom_id|>"


def describe(
    tokenizer: PreTrainedTokenizerBase, *, rows: int, config: Mapping[str, Any]
) -> Metadata:
    """The `tokenizer.*` keys; `rows` are those of the embedding, which names every one of them.

    `config` is the model's generation_config.json or config.json, asked for ids that the tokenizer
    does not name.

    Raises:
        ModelError: a kind of tokenizer that GGUF does not hold; says which part.
        VocabularyError: the tokenizer has ids that the embedding does not.
    """
    told = state_of(tokenizer)
    _require_bpe(told)
    tokens, types = _tokens(told, rows)
    if told["model"].get("byte_fallback"):
        own = _sentencepiece(told, tokens, types)
    else:
        own = _byte_level(told)
    return {
        **own,
        KEY + "tokens": tokens,
        KEY + "token_type": [int(kind) for kind in types],
        **_special_ids(tokenizer, config),
        **_added(tokenizer),
        **_template(tokenizer),
    }


def _require_bpe(told: Mapping[str, Any]) -> None:
    kind = told["model"]["type"]
    if kind != "BPE":
        raise ModelError(
            f"GGUF does not hold a tokenizer of the kind {kind} for these families",
            found="it holds BPE: byte-level, or SentencePiece's with byte fallback",
            fix=SAFETENSORS,
        )
    for token in told["added_tokens"]:
        odd = [name for name in ("single_word", "lstrip", "rstrip") if token[name]]
        if odd:
            raise ModelError(
                "GGUF does not hold how this tokenizer finds one of its special tokens",
                found=f"{token['content']}: {', '.join(odd)}",
                fix=SAFETENSORS,
            )


def _tokens(told: Mapping[str, Any], rows: int) -> tuple[list[str], list[TokenType]]:
    """A name and a type for every row of the embedding; rows without a token are `[PADn]`."""
    ids: dict[str, int] = told["model"]["vocab"]
    kinds = dict.fromkeys(ids.values(), TokenType.NORMAL)
    named = {number: token for token, number in ids.items()}
    if told["model"].get("byte_fallback"):
        kinds |= {ids[token]: TokenType.BYTE for token in _byte_tokens() if token in ids}
    for token in told["added_tokens"]:
        named[token["id"]] = token["content"]
        kinds[token["id"]] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    unknown = ids.get(told["model"].get("unk_token"))
    if unknown is not None:
        kinds[unknown] = TokenType.UNKNOWN
    beyond = sum(number >= rows for number in named)
    if beyond:
        raise VocabularyError(
            "the tokenizer has ids that the model's embedding does not",
            found=f"{beyond} tokens from id {rows} on, in a vocabulary of {len(named)}",
        )
    tokens = [named.get(i, f"[PAD{i}]") for i in range(rows)]
    return tokens, [kinds.get(i, TokenType.UNUSED) for i in range(rows)]


def _byte_tokens() -> Iterator[str]:
    return (f"<0x{byte:02X}>" for byte in range(256))


def _byte_level(told: Mapping[str, Any]) -> Metadata:
    model = told["model"]
    normalizer = told.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise ModelError(
            "GGUF does not hold this tokenizer's way to rewrite texts first",
            found=f"normalizer: {json.dumps(normalizer)[:120]}",
            fix=SAFETENSORS,
        )
    name = gguf_splitters.name_of(
        told.get("pre_tokenizer"), keeps_whole=bool(model.get("ignore_merges"))
    )
    if name is None:
        raise ModelError(
            "no text splitter of llama.cpp is known to do what this tokenizer's does",
            found=f"{json.dumps(told.get('pre_tokenizer'))[:300]}, "
            f"ignore_merges: {bool(model.get('ignore_merges'))}\n"
            "known: " + ", ".join(gguf_splitters.SPLITTERS),
            fix=SAFETENSORS,
        )
    if normalizer is not None:
        emit("note", text="the tokenizer composes characters first (NFC); llama.cpp does not")
    return {
        KEY + "model": "gpt2",
        KEY + "pre": name,
        KEY + "merges": [" ".join(pair) for pair in model["merges"]],
        KEY + "add_space_prefix": False,
    }


def _sentencepiece(told: Mapping[str, Any], tokens: list[str], types: list[TokenType]) -> Metadata:
    """Scores in the order of the merges, which llama.cpp joins neighbours by."""
    prefix = _space_prefix(told)
    merges = [tuple(pair) for pair in told["model"]["merges"]]
    first: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        first.setdefault("".join(pair), rank)
    scores = [float(-first.get(token, len(merges))) for token in tokens]
    joined = set(merges)
    # A pair that llama.cpp would join and the tokenizer would not.
    lost = next((pair for pair in merges_of(tokens, types, scores) if pair not in joined), None)
    if lost is not None or not _kept_together(merges):
        raise ModelError(
            "this tokenizer's merges are not those of a SentencePiece vocabulary, which is how "
            "llama.cpp reads one with byte fallback",
            found=f"no merge for {' + '.join(lost)}" if lost else "those of a token stand apart",
            fix=SAFETENSORS,
        )
    return {
        KEY + "model": "llama",
        KEY + "pre": "default",
        KEY + "scores": [
            0.0 if kind in NOT_MERGED else score for kind, score in zip(types, scores, strict=True)
        ],
        KEY + "add_space_prefix": prefix,
    }


def _kept_together(merges: list[tuple[str, ...]]) -> bool:
    """Whether all merges with the same outcome stand in a row."""
    outcomes = ["".join(pair) for pair in merges]
    return len([outcome for outcome, _ in itertools.groupby(outcomes)]) == len(set(outcomes))


def _space_prefix(told: Mapping[str, Any]) -> bool:
    """Whether each stretch of text is begun with a space.

    Raises:
        ModelError: only the first one is, or spaces are treated in another way.
    """
    normalizer, splitter = told.get("normalizer"), told.get("pre_tokenizer")
    steps = (normalizer or {}).get("normalizers", [normalizer] if normalizer else [])
    kinds = [step["type"] for step in steps]
    replaces = bool(steps) and steps[-1] == _replace()
    if splitter is None and replaces and kinds == ["Prepend", "Replace"]:
        return bool(steps[0]["prepend"] == SPACE)
    if splitter is None and replaces and kinds == ["Replace"]:
        return False
    metaspace = splitter or {}
    never = (metaspace.get("type"), metaspace.get("prepend_scheme")) == ("Metaspace", "never")
    if not steps and never and not metaspace.get("split"):
        return False
    raise ModelError(
        "llama.cpp puts a space before every stretch of text or before none; this tokenizer does "
        "otherwise",
        found=f"normalizer: {json.dumps(normalizer)[:150]}\n"
        f"pre_tokenizer: {json.dumps(splitter)[:150]}",
        fix=SAFETENSORS,
    )


def _replace() -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}


def _special_ids(tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any]) -> Metadata:
    """BOS, EOS, unknown and padding; the end of a turn; the end of a message to a tool."""
    found: dict[str, int | None] = {
        key: getattr(tokenizer, f"{name}_id") for name, key in TOKEN_IDS.items()
    }
    bos = config.get("bos_token_id")
    if found["bos_token_id"] is None and isinstance(bos, int):
        found["bos_token_id"] = bos
    turn = _end_of_turn(tokenizer)
    found["eot_token_id"] = turn
    # Without one llama.cpp ends at id 11, whatever that is.
    if found["eos_token_id"] is None:
        found["eos_token_id"] = turn
    ends = config.get("eos_token_id")
    message = tokenizer.get_vocab().get(END_OF_MESSAGE)
    if message is not None and isinstance(ends, list) and message in ends:
        found["eom_token_id"] = message
    if found["eos_token_id"] is None:
        raise ModelError(
            "the tokenizer names no token that ends a text: llama.cpp would take another for it",
            fix="set eos_token in tokenizer_config.json",
        )
    return {KEY + key: int(value) for key, value in found.items() if value is not None}


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    try:
        return ChatTemplate(tokenizer).end_of_turn[-1]
    except TemplateError as error:
        emit("note", text=f"no end of turn is written: {error.what}")
        return None


def _added(tokenizer: PreTrainedTokenizerBase) -> Metadata:
    """Whether a text is begun with BOS and ended with EOS, as is seen on one."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for bos, eos in itertools.product((False, True), repeat=2):
        begin, end = [tokenizer.bos_token_id] * bos, [tokenizer.eos_token_id] * eos
        if whole == [*begin, *bare, *end]:
            return {KEY + "add_bos_token": bos, KEY + "add_eos_token": eos}
    raise ModelError(
        "GGUF does not hold the special tokens that this tokenizer puts around a text",
        found=" ".join(tokenizer.convert_ids_to_tokens(whole)),
        fix=SAFETENSORS,
    )


def _template(tokenizer: PreTrainedTokenizerBase) -> Metadata:
    template = tokenizer.chat_template
    if not template:
        return {}
    if isinstance(template, str):
        return {"tokenizer.chat_template": template}
    others = sorted(name for name in template if name != "default")
    found: Metadata = {f"tokenizer.chat_template.{name}": template[name] for name in others}
    if others:
        found["tokenizer.chat_templates"] = others
    if "default" in template:
        found["tokenizer.chat_template"] = template["default"]
    return found
