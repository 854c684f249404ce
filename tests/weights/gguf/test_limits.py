from __future__ import annotations

from gguf import GGMLQuantizationType as Kind

from nexa.weights.gguf import limits
from nexa.weights.gguf.mixes import MIXES


def test_a_file_is_held_to_what_its_coarsest_type_may_cost() -> None:
    assert limits.of([Kind.F16, Kind.Q4_0]) == limits.LIMITS[Kind.Q4_0].logits
    assert limits.of([]) == limits.LIMITS[Kind.F32].logits
    assert limits.of([Kind.IQ2_XXS]) == limits.LIMITS[Kind.Q2_K].logits
    assert limits.error_of(Kind.IQ2_XXS) == limits.error_of(Kind.Q2_K)


def test_every_type_that_is_written_has_limits_and_more_bits_are_held_to_less() -> None:
    written = {mix.base for mix in MIXES.values()} | {mix.output for mix in MIXES.values()}
    assert written <= set(limits.LIMITS)
    order = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q6_K, Kind.Q5_0, Kind.Q4_0, Kind.Q3_K]
    errors = [limits.error_of(kind) for kind in order]
    assert errors == sorted(errors)


def test_the_runtime_is_held_to_the_types_that_it_rounds_to() -> None:
    assert limits.runtime_kl_nats([Kind.F32]) < limits.runtime_kl_nats([Kind.F32, Kind.F16])
    assert limits.runtime_kl_nats([Kind.Q4_K]) == limits.RUNTIME_KL_QUANTISED_NATS
    assert limits.runtime_kl_nats([]) == 0
