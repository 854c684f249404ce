"""The formulas of the proof and the arithmetic of the merge, which share nothing, agree."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nexa.weights.merge_models.formulas import FORMULAS, Expected, Parts, expected
from nexa.weights.merge_models.methods import METHODS, Method, Options, combine

LONG = (600, 700)  # more than the merge works on at once
OPTIONS = Options(
    weights=(0.7, 0.4, -0.3), densities=(0.3, 1.0, 0.8), scale=0.9, normalize=False, seed=5
)


def inputs(method: Method, *shape: int, dtype: torch.dtype = torch.float32) -> Parts:
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(shape, generator=generator)
    _, most = METHODS[method].models
    count = min(3, most or 3)
    tensors = [base + 0.1 * torch.randn(shape, generator=generator) for _ in range(count)]
    return Parts(
        "a",
        [tensor.to(dtype) for tensor in tensors],
        base.to(dtype) if METHODS[method].base else None,
        replace(OPTIONS, weights=OPTIONS.weights[:count]),
        None,
    )


def merged(method: Method, parts: Parts) -> Tensor:
    return combine(method, parts.tensors, parts.base, parts.options, name=parts.name)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", FORMULAS)
def test_a_merge_is_what_the_formula_says_rounded_once(method: Method, stored: torch.dtype) -> None:
    parts = inputs(method, *LONG, dtype=torch.bfloat16)
    found = expected(method, parts)

    right = merged(method, parts).to(stored)

    assert found.holds(right)
    assert float(found.slack.isinf().double().mean()) < 1e-2  # votes of bfloat16 may be a tie
    off = right.clone()
    off[3, 4] *= 1 + max(2 * torch.finfo(stored).eps, 1e-3)
    assert not found.holds(off)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("method", FORMULAS)
def test_every_option_is_in_both(method: Method, normalize: bool, rescale: bool) -> None:
    parts = inputs(method, 40, 30)
    options = replace(parts.options, normalize=normalize, rescale=rescale, t=0.2)
    parts = replace(parts, options=options)

    assert expected(method, parts).holds(merged(method, parts))


@pytest.mark.parametrize("method", FORMULAS)
def test_some_rows_are_those_of_the_whole(method: Method) -> None:
    parts = inputs(method, *LONG)
    first = replace(parts, rows=torch.arange(50))

    found = expected(method, first)

    assert found.values.shape == (50, LONG[1])
    assert found.holds(merged(method, parts)[:50])


def test_rows_from_anywhere_have_the_threshold_of_all() -> None:
    parts = inputs("ties", *LONG)
    rows = torch.tensor([2, 77, 599])

    found = expected("ties", replace(parts, rows=rows))

    assert found.holds(merged("ties", parts)[rows])


def test_of_equals_at_the_threshold_the_first_are_kept() -> None:
    base = torch.zeros(4, 3)
    tensor = torch.tensor([[1.0, -1.0, 0.5], [1.0, 0.1, -1.0], [1.0, 0.0, 0.0], [2.0, 1.0, 1.0]])
    options = Options(weights=(1.0,), densities=(0.35,), normalize=False)
    parts = Parts("a", [tensor], base, options, torch.tensor([0, 1, 3]))

    found = expected("ties", parts)

    wanted = torch.tensor([[1.0, -1.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    assert torch.equal(found.values.float(), wanted)
    assert found.holds(merged("ties", parts)[parts.rows])


def test_parallel_tensors_are_interpolated_linearly_and_at_the_edge_nothing_is_claimed() -> None:
    first = torch.zeros(1, 100_000)
    first[0, 0] = 1.0
    edge = first.clone()
    edge[0, 1] = (1 / 0.9995**2 - 1) ** 0.5  # the cosine is 0.9995

    known = expected("slerp", Parts("a", [first, 3 * first], None, Options(t=0.25), None))
    unknown = expected("slerp", Parts("a", [first, edge], None, Options(t=0.25), None))

    assert float(known.values[0, 0]) == pytest.approx(1.5)
    assert bool(unknown.slack.isinf().all())
    assert unknown.holds(torch.full((1, 100_000), 7.0))


def test_a_tensor_of_zeros_has_no_direction() -> None:
    zeros, ones = torch.zeros(3, 3), torch.ones(3, 3)
    parts = Parts("a", [zeros, ones], None, Options(t=0.5), None)

    assert expected("slerp", parts).holds(merged("slerp", parts))


def test_votes_that_are_a_tie_are_not_claimed() -> None:
    base, up = torch.zeros(1, 2), torch.tensor([[1.0, 1.0]])
    down = torch.tensor([[-1.0 - 1e-7, -0.5]])
    options = Options(weights=(1.0, 1.0), densities=(1.0, 1.0))

    found = expected("ties", Parts("a", [up, down], base, options, None))

    assert found.slack.isinf().tolist() == [[True, False]]


def test_weights_that_cancel_each_other_out_are_not_claimed() -> None:
    base, up, down = torch.zeros(1, 1), torch.ones(1, 1), torch.full((1, 1), -3.0)
    options = Options(weights=(0.3, -0.3), densities=(1.0, 1.0))

    found = expected("ties", Parts("a", [up, down], base, options, None))

    assert bool(found.slack.isinf().all())


def test_what_is_no_number_is_never_what_is_expected() -> None:
    found = Expected(torch.ones(2).double(), torch.ones(2).double())

    assert found.holds(torch.tensor([0.5, 1.5]))
    assert not found.holds(torch.tensor([0.5, float("nan")]))
