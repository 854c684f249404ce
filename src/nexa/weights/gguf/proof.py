"""The proof that a GGUF file is the model folder that it was made from.

Everything is read back from the file. Its tensors are dequantised and compared with the source one
by one while both models compute short texts, a layer at a time; its tokenizer is rebuilt from the
file alone and asked for the ids of texts that are hard on tokenizers. Where llama.cpp is installed
it is asked too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nexa.core.errors import ModelError
from nexa.lm import gguf_splitters
from nexa.lm.decoder.shape import DecoderShape, UnsupportedDecoder, shape_of
from nexa.lm.folder import read_config
from nexa.lm.gguf_config import config_of, generation_config_of
from nexa.lm.gguf_file import GgufFile
from nexa.lm.gguf_names import FAMILIES, MODEL_TYPES
from nexa.lm.gguf_rope import TENSOR as ROPE
from nexa.lm.gguf_tokenizer import KEY, tokenizer_of
from nexa.lm.llama_cpp import Child
from nexa.lm.tokenizer import read_tokenizer, state_of
from nexa.weights.agreement import Limits, agreement_checks
from nexa.weights.checks import Check, Parity
from nexa.weights.gguf import limits
from nexa.weights.gguf.runtime import LIKELIEST, TEXTS, asking, runtime_checks, runtime_fact
from nexa.weights.gguf.tensor_look import TOLD, RowOrder, TensorLook
from nexa.weights.gguf.write import Written
from nexa.weights.logits import Model, fits, logits_of
from nexa.weights.probes import probe_texts
from nexa.weights.tensors import model_weights
from nexa.weights.text_checks import end_of_turn_check, template_ends, tokenizer_checks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prove_gguf(
    gguf: Path,
    folder: Path,
    written: Written | None,
    *,
    runtime: bool = True,
    child: Child | None = None,
) -> Parity:
    """Compare a GGUF file with the model folder that it was made from.

    `written` is what this project's writer told: every tensor then has to have the bytes that
    quantising the source again gives. Of a file that another tool made it is None: other
    quantisers round otherwise, so a tensor has to lie within its type's bounds. With `runtime`
    llama.cpp is asked too, where it is installed; in `child`, where that was begun before.

    Every check is made, also after one has failed: the list of failures is the diagnosis.

    Raises:
        ModelError: the file is no GGUF file or is torn, or the folder is of a family that GGUF
            does not hold.
    """
    file, tokenizer = GgufFile.open(gguf), read_tokenizer(folder)
    texts = probe_texts(tokenizer)
    both = _Configs.read(file, folder)
    look = TensorLook(file, model_weights(folder), both.order, tied=both.tied, written=written)
    kinds = [held.kind for held in file.tensors.values() if len(held.shape) > 1]
    with (
        asking(gguf, texts, wanted=runtime, child=child) as asked,
        ThreadPoolExecutor(1, thread_name_prefix="words") as pool,
    ):
        words = pool.submit(copy_context().run, _word_checks, file.metadata, tokenizer, both.rows)
        logits = _Logits.compute(look, both, folder, texts)
        checks = [
            *both.checks(),
            *words.result(),
            *look.checks(),
            *logits.checks(limits.of(kinds)),
            *runtime_checks(
                asked,
                tokenizer,
                texts,
                logits.file,
                kl_limit_nats=limits.runtime_kl_nats(kinds),
            ),
        ]
    facts = {
        "format": "gguf",
        "types": dict(sorted(Counter(kind.name for kind in kinds).items())),
        "fallbacks": dict(written.fallbacks) if written is not None else {},
        "rounding": "float32 to each tensor's type, once",
        "prompts": len(texts),
        "tokens": sum(map(len, texts)),
        "logits_by": logits.by,
        "runtime": runtime_fact(wanted=runtime),
    }
    if asked is not None:
        facts["runtime_kl"] = f"{min(TEXTS, len(texts))} texts, {LIKELIEST} likeliest tokens"
    return Parity(
        tuple(checks),
        facts,
        refusal=f"{gguf.name} is not the model it was made from",
        fix="nothing was kept; export it again, and report this if it fails again",
    )


# -- the numbers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Configs:
    """What file and folder say of the architecture."""

    source: Mapping[str, Any]
    file: Mapping[str, Any]
    """Empty where the file does not say what a model needs."""
    wrong: str | None
    """Why not."""
    rows: int

    @staticmethod
    def read(file: GgufFile, folder: Path) -> _Configs:
        source = read_config(folder)
        model_type = source.get("model_type")
        if model_type not in FAMILIES:
            raise ModelError(
                f"no GGUF file can be {folder.name}: its family is {model_type!r}",
                found="GGUF files are known of " + ", ".join(FAMILIES),
            )
        if _shape(source) is None:
            source = _whole_config(folder)
        rows = int(source["vocab_size"])
        wanted = FAMILIES[str(model_type)].gguf_architecture
        architecture = file.metadata.get("general.architecture")
        if architecture != wanted:
            return _Configs(source, {}, f"{architecture}, not {wanted}", rows)
        shapes = TensorLook.shapes_of(file)
        try:
            found = config_of(file.metadata, MODEL_TYPES[wanted], shapes, _divisors(file))
        except (ModelError, LookupError, TypeError, ValueError) as error:
            return _Configs(source, {}, str(error), rows)
        return _Configs(source, found, None, rows)

    @property
    def order(self) -> RowOrder:
        heads = int(self.source["num_attention_heads"])
        key_heads = int(self.source.get("num_key_value_heads") or heads)
        return RowOrder(str(self.source["model_type"]), heads, key_heads)

    @property
    def tied(self) -> bool:
        return bool(self.source.get("tie_word_embeddings"))

    @property
    def shapes(self) -> tuple[DecoderShape, DecoderShape] | None:
        """Of source and file; None where one of them is not computed here."""
        shapes = _shape(self.source), _shape(self.file)
        return None if shapes[0] is None or shapes[1] is None else (shapes[0], shapes[1])

    def checks(self) -> Iterator[Check]:
        """Every number that the model is computed with."""
        different: dict[str, Any] = {"general.architecture": self.wrong} if self.wrong else {}
        if self.file:
            different |= _differences(self.source, self.file)
        yield Check("architecture", not different, different or "equal", "equal to config.json")


# Beside what `DecoderShape` has.
NUMBERS = ("max_position_embeddings", "vocab_size")


def _differences(source: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Name -> [the file's, the source's] of what is unlike."""
    found = {name: [file.get(name), source.get(name)] for name in NUMBERS}
    shapes = [_shape(config) for config in (file, source)]
    if None not in shapes:
        names = [each.name for each in fields(DecoderShape) if each.name != "family"]
        found |= {name: [getattr(shape, name) for shape in shapes] for name in names}
    else:  # a rotation that is not computed here: yarn
        names = ["num_hidden_layers", "hidden_size", "num_attention_heads", "rms_norm_eps"]
        found |= {name: [file.get(name), source.get(name)] for name in names}
    return {name: [str(v) for v in pair] for name, pair in found.items() if pair[0] != pair[1]}


def _shape(config: Mapping[str, Any]) -> DecoderShape | None:
    try:
        shape = shape_of(config)
    except UnsupportedDecoder:
        return None
    # GGUF holds no window; one that no text of the model reaches changes nothing.
    reaches = shape.window < int(config.get("max_position_embeddings") or 0)
    return shape if reaches else replace(shape, window=0)


def _whole_config(folder: Path) -> dict[str, Any]:
    """config.json with the family's defaults for what it leaves out."""
    # Only here: importing it takes longer than most proofs.
    from transformers import AutoConfig

    found: dict[str, Any] = AutoConfig.from_pretrained(folder).to_dict()
    return found


def _divisors(file: GgufFile) -> Any:
    return file.read(ROPE).view("<f4").reshape(-1) if ROPE in file.tensors else None


# -- the tokenizer --------------------------------------------------------------------------------


def _word_checks(
    metadata: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, rows: int
) -> list[Check]:
    """All that is asked of the tokenizer."""
    return [
        *_vocabulary_checks(metadata, tokenizer, rows=rows),
        *_text_checks(metadata, tokenizer),
    ]


def _vocabulary_checks(
    metadata: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, *, rows: int
) -> Iterator[Check]:
    """Every token by its id, the merges in their order, the splitter's name, the special ids."""
    tokens = list(metadata.get(KEY + "tokens") or ())
    wanted = {number: token for token, number in tokenizer.get_vocab().items()}
    wrong = [i for i, token in sorted(wanted.items()) if i >= len(tokens) or tokens[i] != token]
    told: dict[str, Any] = {"ids": wrong[:TOLD]} if wrong else {}
    if len(tokens) != rows:
        told["tokens"] = [len(tokens), rows]
    state = state_of(tokenizer)
    if metadata.get(KEY + "model") == "gpt2":
        merges = [" ".join(pair) for pair in state["model"]["merges"]]
        if list(metadata.get(KEY + "merges") or ()) != merges:
            told["merges"] = "others"
        yield _splitter_check(metadata, state)
    yield Check("vocabulary", not told, told or "equal", "equal to the tokenizer's")
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    found = {name: metadata.get(f"{KEY}{name}_token_id") for name in ids}
    same = all(found[name] == number for name, number in ids.items() if number is not None)
    yield Check("special_tokens", same, found, ids)


def _splitter_check(metadata: Mapping[str, Any], state: Mapping[str, Any]) -> Check:
    """The pre-tokenizer's name stands for what the tokenizer does."""
    told = str(metadata.get(KEY + "pre", "default"))
    keeps_whole = bool(state["model"].get("ignore_merges"))
    wanted = gguf_splitters.name_of(state.get("pre_tokenizer"), keeps_whole=keeps_whole)
    known = None if wanted is None else gguf_splitters.find(wanted)
    same = known is not None and gguf_splitters.find(told) == known
    return Check("pre_tokenizer", same, told, wanted)


def _text_checks(
    metadata: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> Iterator[Check]:
    """A tokenizer made of the file alone, and where answers end."""
    try:
        rebuilt = tokenizer_of(metadata)
    except (ModelError, LookupError, TypeError, ValueError) as error:
        yield Check("token_ids", False, str(error), "a tokenizer")
    else:
        yield from tokenizer_checks(rebuilt, tokenizer)
    ends = generation_config_of(metadata).get("eos_token_id")
    stops = ends if isinstance(ends, list) else [ends]
    yield end_of_turn_check(stops, template_ends(tokenizer))


# -- the logits -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Logits:
    """What source and file say, `[T, V]`; `file` is None where it cannot be computed."""

    source: Tensor | None
    file: Tensor | None
    by: str
    unfit: list[str]
    """The tensors because of which."""

    @staticmethod
    def compute(look: TensorLook, both: _Configs, folder: Path, texts: list[list[int]]) -> _Logits:
        if not both.file:
            return _Logits(None, None, "none", [both.wrong or ""])
        if both.shapes is None:
            # Only here: importing it takes longer than most proofs.
            from nexa.weights.generic_logits import refilled_logits

            pair = refilled_logits(folder, texts, lambda name: look.read(name)[1])
            return _Logits(*pair, "transformers: a rotation that Nexa does not compute", [])
        source, file = both.shapes
        shapes = TensorLook.shapes_of(look.file)
        unfit = fits(file, shapes) or fits(replace(source, tied=True), shapes)
        if unfit:
            return _Logits(None, None, "none", unfit)
        found = logits_of([Model(source, 0), Model(file, 1)], texts, look.read)
        return _Logits(found[0], found[1], "nexa", [])

    def checks(self, allowed: Limits) -> Iterator[Check]:
        """Next-token distributions of the dequantised weights against the source's."""
        yield Check("tensors_fit_config", not self.unfit, self.unfit[:TOLD] or "all", "all")
        if self.source is None or self.file is None:
            return
        yield from agreement_checks(self.file, self.source, allowed)
