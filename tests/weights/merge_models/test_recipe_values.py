from __future__ import annotations

import pytest

from nexa.weights.merge_models.recipe_values import Value, between


@pytest.mark.parametrize(
    ("points", "at", "value"),
    [
        ((0.5,), 0.0, 0.5),
        ((0.5,), 1.0, 0.5),
        ((0.0, 1.0), 0.25, 0.25),
        ((0.0, 1.0), 1.0, 1.0),
        # Four points: a third of the way between each two; 0.5 is halfway from the second on.
        ((0.0, 0.3, 0.9, 1.0), 0.5, 0.6),
        # Layer 1 of 4 among five points: 1/3 of four steps is a third past the second.
        ((0.0, 0.5, 0.3, 0.7, 1.0), 1 / 3, 0.5 + (0.3 - 0.5) / 3),
    ],
)
def test_a_gradient_is_linear_between_equal_steps(
    points: tuple[float, ...], at: float, value: float
) -> None:
    assert between(points, at) == pytest.approx(value, abs=1e-12)


def test_a_flag_is_never_half_true() -> None:
    assert [between((1.0, 0.0, 1.0), at, flag=True) for at in (0, 0.4, 0.5, 0.9, 1)] == [
        1.0,
        1.0,
        0.0,
        0.0,
        1.0,
    ]


def test_the_first_filter_that_fits_counts() -> None:
    value = Value((("mlp", (1.0,)), ("layers.1.", (2.0,)), (None, (3.0,))))
    assert value.points("model.layers.1.mlp.up_proj.weight") == (1.0,)
    assert value.points("model.layers.1.self_attn.q_proj.weight") == (2.0,)
    assert value.points("model.norm.weight") == (3.0,)
    assert Value((("mlp", (1.0,)),)).points("model.norm.weight") is None
