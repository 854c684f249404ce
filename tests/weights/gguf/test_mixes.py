from __future__ import annotations

import pytest
from gguf import GGMLQuantizationType as Kind

from nexa.core.errors import UsageError
from nexa.weights.gguf.mixes import MIXES, Model, choose, mix

MODEL = Model(layers=32, heads=32, key_heads=32, tied=False)


def kinds(name: str, part: str, model: Model = MODEL) -> list[str]:
    """The type of one part in every layer."""
    return [
        choose(MIXES[name], f"blk.{layer}.{part}.weight", (512, 512), model).kind.name
        for layer in range(model.layers)
    ]


@pytest.mark.parametrize("name", MIXES)
def test_vectors_and_norms_are_always_f32(name: str) -> None:
    for tensor, shape in (
        ("blk.0.attn_norm.weight", (512,)),
        ("blk.0.attn_q.bias", (512,)),
        ("output_norm.weight", (512,)),
    ):
        assert choose(MIXES[name], tensor, shape, MODEL).kind == Kind.F32


@pytest.mark.parametrize("part", ["ffn_down", "attn_v"])
def test_more_bits_go_to_the_first_and_last_eighth_and_every_third_between(part: str) -> None:
    found = kinds("q4_k_m", part)
    more = {layer for layer, kind in enumerate(found) if kind == "Q6_K"}
    # Written down from the rule by hand, for 32 layers.
    assert more == {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}
    assert set(found) == {"Q4_K", "Q6_K"}
    assert set(kinds("q5_k_m", part)) == {"Q5_K", "Q6_K"}
    assert set(kinds("q5_k_s", part)) == {"Q5_K"}


def test_small_mixes_help_the_first_layers() -> None:
    assert kinds("q4_k_s", "attn_v") == ["Q5_K"] * 4 + ["Q4_K"] * 28
    assert kinds("q4_k_s", "ffn_down") == ["Q5_K"] * 4 + ["Q4_K"] * 28
    assert kinds("q3_k_m", "attn_v") == ["Q5_K"] * 2 + ["Q4_K"] * 30
    assert kinds("q3_k_m", "ffn_down") == ["Q5_K"] * 2 + ["Q4_K"] * 30
    assert set(kinds("q3_k_m", "attn_output")) == {"Q4_K"}
    assert set(kinds("q3_k_l", "attn_output")) == {"Q5_K"}
    assert set(kinds("q3_k_s", "ffn_down")) == {"Q3_K"}
    assert set(kinds("q2_k", "ffn_down")) == {"Q3_K"}
    assert set(kinds("q2_k", "attn_q")) == {"Q2_K"}


def test_values_that_many_heads_share_get_more_bits() -> None:
    assert set(kinds("q2_k", "attn_v")) == {"Q3_K"}
    assert set(kinds("q2_k", "attn_v", Model(32, 32, 8, tied=False))) == {"Q4_K"}
    assert set(kinds("q3_k_s", "attn_v", Model(80, 64, 8, tied=False))) == {"Q5_K"}
    assert set(kinds("q6_k", "attn_v", Model(80, 64, 8, tied=False))) == {"Q6_K"}


def test_the_output_has_a_type_of_its_own_and_so_has_the_embedding_in_its_place() -> None:
    tied = Model(32, 32, 32, tied=True)
    for name, embedding, output in (
        ("f16", "F16", "F16"),
        ("q4_0", "Q4_0", "Q8_0"),
        ("q4_k_m", "Q4_K", "Q6_K"),
    ):
        row = MIXES[name]
        assert choose(row, "output.weight", (9, 512), MODEL).kind.name == output
        assert choose(row, "token_embd.weight", (9, 512), MODEL).kind.name == embedding
        assert choose(row, "token_embd.weight", (9, 512), tied).kind.name == output


@pytest.mark.parametrize(
    ("name", "fallback"),
    [("q2_k", "Q4_0"), ("q3_k_s", "Q4_0"), ("q4_k_s", "Q5_0"), ("q5_k_s", "Q5_1")],
)
def test_rows_that_do_not_divide_by_256_or_32(name: str, fallback: str) -> None:
    row = MIXES[name]
    chosen = choose(row, "blk.9.attn_q.weight", (9, 576), MODEL)
    assert chosen.kind.name == fallback
    assert chosen.fallback is not None
    assert chosen.fallback.startswith(f"{fallback}: rows of 576 do not divide by {row.base.name}")
    assert choose(row, "blk.9.attn_q.weight", (9, 48), MODEL).kind == Kind.F16
    assert choose(row, "output.weight", (9, 576), MODEL).kind == Kind.Q8_0
    assert choose(row, "blk.9.attn_q.weight", (9, 512), MODEL).fallback is None


def test_a_name_that_is_no_mix() -> None:
    assert mix("q6_k") is MIXES["q6_k"]
    with pytest.raises(UsageError, match=r"known: f32, f16"):
        mix("zzz")
