from __future__ import annotations

import math

import pytest

from nexa.lm.adapters import LoraSpec


def test_the_scale_is_alpha_over_the_rank_or_over_its_root() -> None:
    assert LoraSpec(16, 32.0).scale == 2.0
    assert LoraSpec(16, 32.0, rslora=True).scale == 8.0
    assert LoraSpec(16, 32.0, dora=True).scale == 2.0


def test_the_first_pattern_that_fits_the_end_of_a_name_counts() -> None:
    spec = LoraSpec(
        rank=8,
        alpha=16.0,
        rank_pattern={r"layers\.1\.mlp\.up_proj": 2, "up_proj": 4},
        alpha_pattern={"q_proj|v_proj": 4.0},
    )
    assert spec.rank_of("model.layers.1.mlp.up_proj") == 2
    assert spec.rank_of("model.layers.0.mlp.up_proj") == 4
    assert spec.rank_of("model.layers.0.mlp.startup_proj") == 8
    assert spec.scale_of("model.layers.0.self_attn.v_proj") == 0.5
    assert spec.scale_of("model.layers.0.mlp.up_proj") == 4.0
    assert spec.scale_of("model.layers.0.mlp.down_proj") == spec.scale == 2.0


def test_a_rank_of_its_own_has_a_scale_of_its_own_under_rslora() -> None:
    spec = LoraSpec(rank=4, alpha=8.0, rslora=True, rank_pattern={"q_proj": 2})
    assert math.isclose(spec.scale_of("q_proj"), 8 / math.sqrt(2))


@pytest.mark.parametrize(
    ("dora", "rslora", "variant"),
    [
        (False, False, None),
        (False, True, "rslora"),
        (True, False, "dora"),
        (True, True, "dora+rslora"),
    ],
)
def test_a_kind_has_one_word(dora: bool, rslora: bool, variant: str | None) -> None:
    assert LoraSpec(dora=dora, rslora=rslora).variant == variant


def test_specs_are_told_apart_and_can_be_kept_in_sets() -> None:
    assert LoraSpec(rank_pattern={"q_proj": 2}) != LoraSpec()
    assert len({LoraSpec(), LoraSpec(), LoraSpec(rank=2)}) == 2
