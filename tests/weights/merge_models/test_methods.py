"""The methods against their formulas, number by number, in plain Python and numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from nexa.core.errors import ModelError, UsageError
from nexa.weights.merge_models.methods import METHODS, Method, Options, combine, mask_generator
from nexa.weights.merge_models.trimming import BLOCK

Vector = NDArray[np.float64]

SHAPE = (7, 5)
DENSE = Options(weights=(0.7, 0.4, -0.3), densities=(1.0, 1.0, 1.0), normalize=False)
SPARSE = replace(DENSE, densities=(0.3, 0.55, 0.8))
TASK_METHODS: tuple[Method, ...] = ("task_arithmetic", "ties", "dare_linear", "dare_ties")
COMMUTE: tuple[Method, ...] = ("linear", "task_arithmetic", "ties")


def tensors(count: int, *shape: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape or SHAPE, generator=generator) for _ in range(count)]


def doubles(*given: Tensor) -> list[Vector]:
    return [tensor.double().numpy() for tensor in given]


def near(found: Tensor, wanted: Vector) -> bool:
    return found.dtype == torch.float32 and np.allclose(found.numpy(), wanted, 1e-6, 1e-6)


# -- the formulas --------------------------------------------------------------------------------


def slow_trim(delta: Vector, density: float) -> Vector:
    """Numbers one by one, from the largest; of equals the one that comes first."""
    flat = delta.reshape(-1)
    order = sorted(range(len(flat)), key=lambda i: (-abs(flat[i]), i))
    kept = np.zeros_like(flat)
    for i in order[: max(1, int(density * len(flat)))]:
        kept[i] = flat[i]
    return kept.reshape(delta.shape)


def slow_agreement(
    deltas: Sequence[Vector], weights: Sequence[float], *, normalize: bool
) -> Vector:
    """For each number: the sign of more mass, then the sum (or mean) of those that have it."""
    merged = np.zeros_like(deltas[0])
    for place in np.ndindex(merged.shape):
        pulls = [(w * d[place], w) for d, w in zip(deltas, weights, strict=True)]
        up = sum(pull for pull, _ in pulls if pull > 0)
        down = sum(-pull for pull, _ in pulls if pull < 0)
        part = [(p, w) for p, w in pulls if (p > 0 if up >= down else p < 0)]
        divisor = sum(w for _, w in part) if normalize else 1.0
        merged[place] = sum(p for p, _ in part) / (divisor or 1.0)
    return merged


def slow_slerp(a: Vector, b: Vector, t: float) -> Vector:
    """Along the great circle: by a rotation in the plane of the two, not by sines of angles."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    x, y = a / lengths[0], b / lengths[1]
    across = y - (x * y).sum() * x
    across /= np.linalg.norm(across)
    angle = math.acos((x * y).sum())

    def at(turn: float) -> Vector:
        """What share of x and of y a unit vector at this angle has: solved in the plane."""
        target = np.array([math.cos(turn), math.sin(turn)])
        plane = np.array([[1.0, math.cos(angle)], [0.0, math.sin(angle)]])
        found: Vector = np.linalg.solve(plane, target)
        return found

    share = at(t * angle)
    merged: Vector = share[0] * a + share[1] * b
    return merged


def test_every_method_has_its_row() -> None:
    assert set(METHODS) == set(get_args(Method))


@pytest.mark.parametrize("normalize", [True, False])
def test_linear_is_the_weighted_sum_or_mean(normalize: bool) -> None:
    given = tensors(3)
    options = replace(DENSE, normalize=normalize)

    merged = combine("linear", given, None, options, name="w")

    divisor = 0.8 if normalize else 1.0
    x, y, z = doubles(*given)
    assert near(merged, (0.7 * x + 0.4 * y - 0.3 * z) / divisor)


@pytest.mark.parametrize("normalize", [True, False])
def test_task_arithmetic_adds_weighted_task_vectors_to_the_base(normalize: bool) -> None:
    base, *given = tensors(4)
    options = replace(DENSE, normalize=normalize, scale=0.6)

    merged = combine("task_arithmetic", given, base, options, name="w")

    b, x, y, z = doubles(base, *given)
    total = 0.7 * (x - b) + 0.4 * (y - b) - 0.3 * (z - b)
    assert near(merged, b + 0.6 * total / (0.8 if normalize else 1.0))


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_slerp_turns_the_first_towards_the_second(t: float) -> None:
    first, second = tensors(2)

    merged = combine("slerp", [first, second], None, Options(t=t), name="w")

    assert near(merged, slow_slerp(*doubles(first, second), t))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("models", [1, 2, 3])
def test_ties_trims_elects_and_merges_what_agrees(models: int, normalize: bool) -> None:
    base, *given = tensors(models + 1)
    options = Options(
        weights=SPARSE.weights[:models],
        densities=SPARSE.densities[:models],
        normalize=normalize,
        scale=0.6,
    )

    merged = combine("ties", given, base, options, name="w")

    b, *others = doubles(base, *given)
    pairs = zip(others, options.densities, strict=True)
    deltas = [slow_trim((x - b).astype(np.float32).astype(np.float64), d) for x, d in pairs]
    wanted = b + 0.6 * slow_agreement(deltas, options.weights, normalize=normalize)
    assert near(merged, wanted)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_is_its_formula_with_the_same_masks(method: Method, rescale: bool) -> None:
    base, *given = tensors(4)
    options = replace(SPARSE, rescale=rescale, seed=3, scale=0.6)

    merged = combine(method, given, base, options, name="layers.0.w")

    b, *others = doubles(base, *given)
    deltas = []
    for place, (x, density) in enumerate(zip(others, options.densities, strict=True)):
        generator = mask_generator(3, place, "layers.0.w")
        mask = (torch.rand(SHAPE, generator=generator) < density).numpy()
        deltas.append(mask * (x - b) / (density if rescale else 1.0))
    if method == "dare_linear":
        total = sum(w * d for w, d in zip(options.weights, deltas, strict=True))
    else:
        total = slow_agreement(deltas, options.weights, normalize=False)
    assert near(merged, b + 0.6 * total)


def test_passthrough_is_the_tensor_or_a_multiple_of_it() -> None:
    (given,) = tensors(1)
    assert torch.equal(combine("passthrough", [given], None, Options(), name="w"), given)
    half = combine("passthrough", [given], None, Options(scale=0.5), name="w")
    assert torch.equal(half, given / 2)


# -- properties ----------------------------------------------------------------------------------

EIGHTHS = st.integers(-16, 16).map(lambda i: i / 8)  # exact sums, and many that are equal
WEIGHTS = st.sampled_from([0.25, 0.5, 1.0, 2.0])


@given(st.data(), st.permutations(range(3)), st.sampled_from(COMMUTE))
def test_the_order_of_the_models_does_not_matter(
    data: st.DataObject, order: list[int], method: Method
) -> None:
    numbers = data.draw(st.lists(st.tuples(*[EIGHTHS] * 4), min_size=1, max_size=12))
    base, *given = (torch.tensor(column) for column in zip(*numbers, strict=True))
    weights = data.draw(st.tuples(WEIGHTS, WEIGHTS, WEIGHTS))
    options = Options(weights=weights, densities=(0.5, 0.75, 1.0))
    shuffled = replace(
        options,
        weights=tuple(weights[i] for i in order),
        densities=tuple(options.densities[i] for i in order),
    )

    merged = combine(method, given, base, options, name="w")
    again = combine(method, [given[i] for i in order], base, shuffled, name="w")

    assert torch.allclose(merged, again, rtol=1e-6, atol=1e-6)


@given(st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1), WEIGHTS, st.booleans())
def test_ties_of_one_whole_model_is_task_arithmetic(
    numbers: list[tuple[float, float]], weight: float, normalize: bool
) -> None:
    base, model = (torch.tensor(column) for column in zip(*numbers, strict=True))
    options = Options(weights=(weight,), densities=(1.0,), normalize=normalize, scale=0.5)
    both = [combine(m, [model], base, options, name="w") for m in ("ties", "task_arithmetic")]
    assert torch.equal(*both)


@given(st.lists(EIGHTHS, min_size=1), st.lists(EIGHTHS, min_size=1))
def test_slerp_begins_at_the_first_and_ends_at_the_second(
    first: list[float], second: list[float]
) -> None:
    count = min(len(first), len(second))
    a, b = torch.tensor(first[:count]), torch.tensor(second[:count])
    for t, end in ((0.0, a), (1.0, b)):
        assert torch.allclose(
            combine("slerp", [a, b], None, Options(t=t), name="w"), end, atol=1e-6
        )


def test_slerp_keeps_the_length_of_equally_long_vectors() -> None:
    first, second = (tensor / tensor.norm() for tensor in tensors(2, 100))
    for t in (0.1, 0.5, 0.8):
        merged = combine("slerp", [first, second], None, Options(t=t), name="w")
        assert float(merged.norm()) == pytest.approx(1.0, abs=1e-6)


# -- edges ---------------------------------------------------------------------------------------


def test_slerp_interpolates_parallel_and_opposite_vectors_linearly() -> None:
    (vector,) = tensors(1)
    for other in (vector * 3, -vector, vector * -2):
        merged = combine("slerp", [vector, other], None, Options(t=0.25), name="w")
        assert torch.allclose(merged, 0.75 * vector + 0.25 * other, atol=1e-6)


def test_slerp_takes_a_zero_vector_as_orthogonal_to_every_other() -> None:
    (vector,) = tensors(1)
    merged = combine("slerp", [vector, vector * 0], None, Options(t=1 / 3), name="w")
    assert torch.allclose(merged, vector * math.cos(math.pi / 6), atol=1e-6)


def test_opposite_task_vectors_of_equal_weight_elect_plus() -> None:
    base = torch.zeros(3)
    given = [torch.tensor([1.0, -2.0, 0.0]), torch.tensor([-1.0, 2.0, 0.0])]
    options = Options(weights=(1.0, 1.0), densities=(1.0, 1.0), normalize=True)
    assert combine("ties", given, base, options, name="w").tolist() == [1.0, 2.0, 0.0]


def test_weights_of_those_that_agree_may_cancel_each_other_out() -> None:
    given = [torch.tensor([1.0]), torch.tensor([-3.0])]
    options = Options(weights=(1.0, -1.0), densities=(1.0, 1.0), normalize=True)
    assert combine("ties", given, torch.zeros(1), options, name="w").tolist() == [4.0]


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("shape", [(0,), (), (1,), (3, 0), (2, 3, 4)])
def test_any_shape_comes_out_as_it_went_in(method: Method, shape: tuple[int, ...]) -> None:
    count = METHODS[method].models[0]
    base, *given = (torch.ones(shape) * i for i in range(1, count + 2))
    options = Options(weights=(1.0,) * count, densities=(0.5,) * count)
    merged = combine(method, given, base, options, name="w")
    assert (merged.shape, merged.dtype) == (shape, torch.float32)
    assert merged.isfinite().all()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_bfloat16_goes_in_as_its_exact_values_and_nothing_that_goes_in_changes(
    method: Method,
) -> None:
    count = METHODS[method].models[0]
    stored = [tensor.bfloat16() for tensor in tensors(count + 1)]
    copies = [tensor.clone() for tensor in stored]
    options = Options(weights=(0.3,) * count, densities=(0.5,) * count)

    merged = combine(method, stored[1:], stored[0], options, name="w")

    base, *given = (tensor.float() for tensor in stored)
    assert torch.equal(merged, combine(method, given, base, options, name="w"))
    assert all(torch.equal(a, b) for a, b in zip(stored, copies, strict=True))


def test_a_transposed_tensor_is_read_by_place_not_by_memory() -> None:
    first, second = tensors(2, 4, 6)
    options = Options(weights=(1.0, 3.0))
    turned = combine("linear", [first.T, second.T], None, options, name="w")
    assert torch.equal(turned, combine("linear", [first, second], None, options, name="w").T)


# -- DARE's chance -------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_dare_keeps_that_share_and_its_expectation_is_the_task_vector(density: float) -> None:
    """Over 400 seeds of 250 numbers: within five standard errors of both."""
    (delta,) = tensors(1, 250)
    base, seeds = torch.zeros(250), 400
    drawn = torch.stack(
        [
            combine(
                "dare_linear",
                [delta],
                base,
                Options(weights=(1.0,), densities=(density,), normalize=False, seed=seed),
                name="w",
            )
            for seed in range(seeds)
        ]
    )
    share = float((drawn != 0).double().mean())
    assert abs(share - density) < 5 * math.sqrt(density * (1 - density) / (seeds * 250))
    spread = delta.abs() * math.sqrt((1 - density) / density / seeds)
    assert ((drawn.mean(0) - delta).abs() <= 5 * spread).all()


def dare(seed: int = 0, name: str = "w", *, place: int = 0) -> Tensor:
    """What is kept of ones, as 2 or 0, by the model at that place."""
    given = [torch.zeros(500)] * place + [torch.ones(500)]
    options = Options(
        weights=(1.0,) * len(given), densities=(0.5,) * len(given), normalize=False, seed=seed
    )
    return combine("dare_linear", given, torch.zeros(500), options, name=name)


def test_the_masks_of_a_large_tensor_are_one_stream_over_all_blocks() -> None:
    count = 2 * BLOCK + 5
    options = Options(weights=(1.0,), densities=(0.25,), normalize=False, seed=9)
    merged = combine("dare_ties", [torch.ones(count)], torch.zeros(count), options, name="w")
    drawn = torch.rand(count, generator=mask_generator(9, 0, "w"))
    assert torch.equal(merged, (drawn < 0.25) * 4.0)


def test_masks_differ_by_seed_by_name_and_by_model_and_else_are_equal() -> None:
    drawn = [dare(), dare(seed=1), dare(name="v"), dare(place=1)]
    assert torch.equal(dare(), drawn[0])
    for i, one in enumerate(drawn):
        for other in drawn[i + 1 :]:
            assert 0.3 < float((one != other).float().mean()) < 0.7


@pytest.mark.parametrize("method", sorted(METHODS))
def test_threads_and_their_order_change_nothing(method: Method) -> None:
    count = max(2, METHODS[method].models[0])
    count = min(count, METHODS[method].models[1] or count)
    options = Options(weights=(0.5,) * count, densities=(0.4,) * count, seed=7)
    work: list[Callable[[], Tensor]] = []
    for seed in range(12):
        base, *given = tensors(count + 1, 40, 30, seed=seed)
        work.append(
            lambda base=base, given=given, seed=seed: combine(  # type: ignore[misc]
                method, given, base, options, name=f"w{seed}"
            )
        )
    one_by_one = [job() for job in work]
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(job) for job in reversed(work)]
        together = [future.result() for future in reversed(futures)]
    assert all(map(torch.equal, one_by_one, together))


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "models", "told"),
    [
        ("slerp", 1, "slerp takes 2 models"),
        ("slerp", 3, "slerp takes 2 models"),
        ("passthrough", 2, "passthrough takes 1 model"),
        ("linear", 0, "linear takes at least 1 model"),
        ("ties", 0, "ties takes at least 1 model beside the base"),
    ],
)
def test_a_wrong_number_of_models_is_refused(method: Method, models: int, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        combine(method, tensors(models), torch.zeros(SHAPE), Options(), name="w")


@pytest.mark.parametrize("method", TASK_METHODS)
def test_task_vectors_without_a_base_are_refused(method: Method) -> None:
    with pytest.raises(UsageError, match=f"{method} needs the base"):
        combine(method, tensors(2), None, DENSE, name="w")


@pytest.mark.parametrize("densities", [(0.5,), (0.5, 0.0), (0.5, 1.1), (-0.1, 1.0)])
@pytest.mark.parametrize("method", ["ties", "dare_linear", "dare_ties"])
def test_a_density_that_is_no_share_is_refused(
    method: Method, densities: tuple[float, ...]
) -> None:
    base, *given = tensors(3)
    options = Options(weights=(1.0, 1.0), densities=densities)
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        combine(method, given, base, options, name="w")


@pytest.mark.parametrize("weights", [(), (1.0,), (1.0, math.nan), (1.0, math.inf)])
def test_weights_that_are_missing_or_no_numbers_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="one weight a model: 2"):
        combine("linear", tensors(2), None, Options(weights=weights), name="w")


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "dare_linear"])
def test_weights_that_sum_to_zero_cannot_be_normalised(method: Method) -> None:
    base, *given = tensors(3)
    options = Options(weights=(1.0, -1.0), densities=(1.0, 1.0))
    with pytest.raises(UsageError, match="sum to zero"):
        combine(method, given, base, options, name="w")
    plain = replace(options, normalize=False)
    assert combine(method, given, base, plain, name="w").isfinite().all()


@pytest.mark.parametrize("number", [{"t": math.nan}, {"scale": math.inf}])
def test_numbers_that_are_not_finite_are_refused(number: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be finite"):
        combine("slerp", tensors(2), None, Options(**number), name="w")


def test_tensors_of_unlike_shapes_or_of_whole_numbers_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"layers\.0\.w: its shape") as refused:
        combine("slerp", [torch.zeros(2), torch.zeros(3)], None, Options(), name="layers.0.w")
    assert refused.value.found == "(2,), (3,)"
    with pytest.raises(ModelError, match="floating-point") as refused:
        combine("passthrough", [torch.zeros(2, dtype=torch.int8)], None, Options(), name="w")
    assert refused.value.found == "torch.int8"
