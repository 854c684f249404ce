"""How far a GGUF file may be from its source: by the types of its tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gguf import GGMLQuantizationType as Kind

from nexa.weights.agreement import Limits


@dataclass(frozen=True)
class TypeLimits:
    """What a type may cost: of one tensor, and of what the model says.

    `error` is the largest |dequantised - source| / |source| of one tensor.
    """

    error: float
    logits: Limits


def _of(error: float, kl_nats: float, top1: float, delta: float) -> TypeLimits:
    return TypeLimits(error, Limits(kl_nats, top1, delta))


# Measured on SmolLM2-135M, whose own weights were in Q4_1 before, 203 tokens (a file's types are
# mixed there, as few of its rows divide by 256):
#     F16      error 0.0002  KL 4e-6   top-1 1.00  largest delta 0.0007 of the span
#     BF16           0.002      8e-5         1.00                0.003
#     Q8_0           0.007      0.002        0.98                0.02
#     Q5_0           0.05       0.11         0.78                0.12
#     Q4_K_M         0.05       0.07         0.85                0.10
#     Q4_0           0.10       0.45         0.57                0.22
#     Q2_K           0.16       0.63         0.51                0.31
# The limits are two to ten times that: a tensor of another model has an error of 1.4, rows in
# another order as well.
LIMITS: dict[Kind, TypeLimits] = {
    Kind.F32: _of(0.0, 1e-6, 1.0, 1e-5),
    Kind.F16: _of(2**-11, 1e-3, 0.98, 0.01),
    Kind.BF16: _of(2**-8, 0.05, 0.9, 0.1),
    Kind.Q8_0: _of(0.02, 0.02, 0.9, 0.1),
    Kind.Q6_K: _of(0.05, 0.1, 0.8, 0.2),
    Kind.Q5_0: _of(0.1, 0.3, 0.6, 0.3),
    Kind.Q5_1: _of(0.1, 0.3, 0.6, 0.3),
    Kind.Q5_K: _of(0.1, 0.3, 0.6, 0.3),
    Kind.Q4_0: _of(0.2, 1.0, 0.4, 0.5),
    Kind.Q4_1: _of(0.2, 1.0, 0.4, 0.5),
    Kind.Q4_K: _of(0.2, 1.0, 0.4, 0.5),
    Kind.Q3_K: _of(0.4, 1.5, 0.3, 0.75),
    Kind.Q2_K: _of(0.6, 3.0, 0.2, 1.0),
}
# A type that no writer of Nexa's makes (IQ4_XS and so on) is held to the loosest.
UNKNOWN = LIMITS[Kind.Q2_K]
# Of llama.cpp against the same weights in float32. Measured there: F32 and F16 below 1e-5, BF16
# 1e-5, Q8_0 0.003, Q4_K_M 0.011, Q2_K 0.013.
RUNTIME_KL_NATS = {Kind.F32: 1e-4, Kind.F16: 0.01, Kind.BF16: 0.05}
RUNTIME_KL_QUANTISED_NATS = 0.1


def error_of(kind: Kind) -> float:
    """The largest relative error that a tensor of this type may have."""
    return LIMITS.get(kind, UNKNOWN).error


def of(kinds: Iterable[Kind]) -> Limits:
    """What a file with tensors of these types may cost: what the coarsest of them may."""
    found = [LIMITS.get(kind, UNKNOWN).logits for kind in {Kind.F32, *kinds}]
    return Limits(
        max(limits.kl_nats for limits in found),
        min(limits.top1 for limits in found),
        max(limits.delta for limits in found),
    )


def runtime_kl_nats(kinds: Iterable[Kind]) -> float:
    """How far llama.cpp may be from the same weights computed in float32.

    It rounds what a matrix is multiplied with to the matrix's own type, or to eight bits.
    """
    return max((RUNTIME_KL_NATS.get(kind, RUNTIME_KL_QUANTISED_NATS) for kind in kinds), default=0)
