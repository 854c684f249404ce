"""Which block type each tensor gets: llama.cpp's usual mixes, as one table.

A mix is named after the type most weights have. `_s`, `_m` and `_l` differ in how many of the
tensors that suffer most (values, the way back into the residual stream) get more bits, and where.
Vectors are always F32. Without an output matrix the embedding stands for it, and has its type.

Three things are this writer's own: the output of the plain types is Q8_0 where llama.cpp takes
Q6_K, so that the file is the same with and without the extra `gguf`; rows that do not divide by 32
become F16, where llama.cpp stops; and both are listed.

Source: llama.cpp's quantiser, the choice of a tensor's type and its fallbacks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from nexa.core.errors import UsageError, nearest

Kind = GGMLQuantizationType
# Which layers a rule is for: all, the `more` ones below, or the first eighth, sixteenth, two, four.
Layers = Literal["all", "more", "eighth", "sixteenth", "two", "four"]
Rule = tuple[Layers, Kind]


@dataclass(frozen=True)
class Mix:
    """One mix: its number in `general.file_type`, and the type of each kind of tensor."""

    file_type: LlamaFileType
    base: Kind
    output: Kind
    """Of the output matrix, or of an embedding that is the output too."""
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """Tensor kind -> what it gets in place of `base`; the first rule that fits its layer counts."""

    @property
    def needs_extra(self) -> bool:
        """Whether K-quants may be needed, which the extra `gguf` computes."""
        return self.base in FALLBACKS


F = LlamaFileType
DOWN, VALUE, OUT = "ffn_down", "attn_v", "attn_output"
MIXES: dict[str, Mix] = {
    "f32": Mix(F.ALL_F32, Kind.F32, Kind.F32),
    "f16": Mix(F.MOSTLY_F16, Kind.F16, Kind.F16),
    "bf16": Mix(F.MOSTLY_BF16, Kind.BF16, Kind.BF16),
    "q8_0": Mix(F.MOSTLY_Q8_0, Kind.Q8_0, Kind.Q8_0),
    "q4_0": Mix(F.MOSTLY_Q4_0, Kind.Q4_0, Kind.Q8_0),
    "q4_1": Mix(F.MOSTLY_Q4_1, Kind.Q4_1, Kind.Q8_0),
    "q5_0": Mix(F.MOSTLY_Q5_0, Kind.Q5_0, Kind.Q8_0),
    "q5_1": Mix(F.MOSTLY_Q5_1, Kind.Q5_1, Kind.Q8_0),
    "q2_k": Mix(
        F.MOSTLY_Q2_K,
        Kind.Q2_K,
        Kind.Q6_K,
        {
            VALUE: (("all", Kind.Q3_K),),  # Q4_K where four heads or more share a value
            DOWN: (("all", Kind.Q3_K),),
            OUT: (("all", Kind.Q3_K),),
        },
    ),
    "q3_k_s": Mix(F.MOSTLY_Q3_K_S, Kind.Q3_K, Kind.Q6_K),
    "q3_k_m": Mix(
        F.MOSTLY_Q3_K_M,
        Kind.Q3_K,
        Kind.Q6_K,
        {
            VALUE: (("two", Kind.Q5_K), ("all", Kind.Q4_K)),
            DOWN: (("sixteenth", Kind.Q5_K), ("all", Kind.Q4_K)),
            OUT: (("all", Kind.Q4_K),),
        },
    ),
    "q3_k_l": Mix(
        F.MOSTLY_Q3_K_L,
        Kind.Q3_K,
        Kind.Q6_K,
        {part: (("all", Kind.Q5_K),) for part in (VALUE, DOWN, OUT)},
    ),
    "q4_k_s": Mix(
        F.MOSTLY_Q4_K_S,
        Kind.Q4_K,
        Kind.Q6_K,
        {VALUE: (("four", Kind.Q5_K),), DOWN: (("eighth", Kind.Q5_K),)},
    ),
    "q4_k_m": Mix(
        F.MOSTLY_Q4_K_M,
        Kind.Q4_K,
        Kind.Q6_K,
        {VALUE: (("more", Kind.Q6_K),), DOWN: (("more", Kind.Q6_K),)},
    ),
    "q5_k_s": Mix(F.MOSTLY_Q5_K_S, Kind.Q5_K, Kind.Q6_K),
    "q5_k_m": Mix(
        F.MOSTLY_Q5_K_M,
        Kind.Q5_K,
        Kind.Q6_K,
        {VALUE: (("more", Kind.Q6_K),), DOWN: (("more", Kind.Q6_K),)},
    ),
    "q6_k": Mix(F.MOSTLY_Q6_K, Kind.Q6_K, Kind.Q6_K),
}
# What stands in for a K-quant where a row is no whole number of blocks of 256.
FALLBACKS: dict[Kind, Kind] = {
    Kind.Q2_K: Kind.Q4_0,
    Kind.Q3_K: Kind.Q4_0,
    Kind.Q4_K: Kind.Q5_0,
    Kind.Q5_K: Kind.Q5_1,
    Kind.Q6_K: Kind.Q8_0,
}
LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class Model:
    """What the choice depends on beside a tensor's own name and shape."""

    layers: int
    heads: int
    key_heads: int
    tied: bool


@dataclass(frozen=True)
class Chosen:
    """A tensor's type, and why it is not the mix's own, where it is not."""

    kind: Kind
    fallback: str | None = None


def mix(name: str) -> Mix:
    """The mix of this name.

    Raises:
        UsageError: there is none; says the nearest one.
    """
    found = MIXES.get(name)
    if found is None:
        near = nearest(name, MIXES)
        raise UsageError(
            f"there is no quantisation {name!r}",
            found="known: " + ", ".join(MIXES),
            fix=f"--quantization {near}" if near else None,
        )
    return found


def choose(mix: Mix, name: str, shape: tuple[int, ...], model: Model) -> Chosen:
    """The type of a tensor by GGUF's name; `shape` is `[..., row]`."""
    if len(shape) < 2 or name.endswith("_norm.weight"):
        return Chosen(Kind.F32)
    wanted = _wanted(mix, name, model)
    row, kind = shape[-1], wanted
    if row % GGML_QUANT_SIZES[kind][0]:
        kind = FALLBACKS.get(kind, Kind.F16)
    if row % GGML_QUANT_SIZES[kind][0]:
        kind = Kind.F16
    if kind == wanted:
        return Chosen(kind)
    block = GGML_QUANT_SIZES[wanted][0]
    why = f"{kind.name}: rows of {row} do not divide by {wanted.name}'s blocks of {block}"
    return Chosen(kind, why)


def _wanted(mix: Mix, name: str, model: Model) -> Kind:
    """What the mix names, whether it fits or not."""
    part = name.split(".")[-2]
    if part == "output" or (part == "token_embd" and model.tied):
        return mix.output
    layer = LAYER.match(name)
    kind = mix.base
    if layer is not None:
        rules = mix.rules.get(part, ())
        number = int(layer[1])
        kind = next((to for where, to in rules if _fits(where, number, model.layers)), kind)
    if part == VALUE and mix.needs_extra:
        return _shared_value(mix, kind, model)
    return kind


def _fits(where: Layers, layer: int, layers: int) -> bool:
    eighth = layers // 8
    match where:
        case "all":
            return True
        case "more":  # the first eighth, the last one, and every third between them
            return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
        case "eighth":
            return layer < eighth
        case "sixteenth":
            return layer < layers // 16
        case "two":
            return layer < 2
        case _:
            return layer < 4


def _shared_value(mix: Mix, kind: Kind, model: Model) -> Kind:
    """More bits for a value matrix that many heads share: small, and all of them need it."""
    if mix.base == Kind.Q2_K and model.heads // model.key_heads >= 4:
        return Kind.Q4_K
    seventy_billion = model.layers == 80 and model.heads != model.key_heads
    if seventy_billion and kind in (Kind.Q3_K, Kind.Q4_K):
        return Kind.Q5_K
    return kind
