from __future__ import annotations

import torch
from torch import Tensor, nn

from nexa.lm.decoder.functions import product
from nexa.lm.decoder.linear import AdaptedLinear, Pair

SIZES, WIDTH, TOKENS = (6, 4, 5), 8, 7


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def layer(ranks: dict[int, int], *, bias: bool) -> tuple[AdaptedLinear, dict[int, Pair]]:
    """Three parts of one product; those in `ranks` carry an adapter."""
    made = AdaptedLinear(
        SIZES,
        WIDTH,
        bias=bias,
        ranks=[ranks.get(part, 0) for part in range(3)],
        dtype=torch.float32,
    )
    for weight, offset in made.parts():
        weight.copy_(random(*weight.shape))
        if offset is not None:
            offset.copy_(random(*offset.shape))
    pairs = {
        part: Pair(
            nn.Parameter(random(rank, WIDTH)), nn.Parameter(random(SIZES[part], rank)), 0.5 + part
        )
        for part, rank in ranks.items()
    }
    made.carry(pairs)
    return made, pairs


def plain(x: Tensor, made: AdaptedLinear, pairs: dict[int, Pair]) -> Tensor:
    """Each part by itself, its update added."""
    outs = []
    for part, (weight, offset) in enumerate(made.parts()):
        out = nn.functional.linear(x, weight, offset)
        if part in pairs:
            pair = pairs[part]
            out = out + pair.scale * (x @ pair.a.T) @ pair.b.T
        outs.append(out)
    return torch.cat(outs, 1)


def test_one_product_is_each_part_with_its_update_and_so_are_its_gradients() -> None:
    for ranks in ({}, {1: 3}, {0: 2, 1: 2, 2: 2}, {2: 4, 0: 1}):
        for bias in (True, False):
            made, pairs = layer(ranks, bias=bias)
            x = random(TOKENS, WIDTH).requires_grad_()
            inputs = [x, *made.parameters_in_order()]
            ours, theirs = product(x, made), plain(x, made, pairs)
            assert torch.allclose(ours, theirs, atol=1e-5)
            assert torch.equal(made(x.detach()), ours)
            mixture = torch.linspace(-1, 1, ours.numel()).view_as(ours)
            own = torch.autograd.grad((ours * mixture).sum(), inputs)
            other = torch.autograd.grad((theirs * mixture).sum(), inputs)
            for a, b in zip(own, other, strict=True):
                assert torch.allclose(a, b, atol=1e-4)


def test_room_that_nobody_uses_changes_nothing() -> None:
    made, _ = layer({}, bias=False)
    roomy = AdaptedLinear(SIZES, WIDTH, bias=False, ranks=(2, 0, 3), dtype=torch.float32)
    for (place, _), (weight, _) in zip(roomy.parts(), made.parts(), strict=True):
        place.copy_(weight)
    x = random(TOKENS, WIDTH)
    assert torch.allclose(roomy(x), made(x), atol=1e-6)


def test_the_weights_are_there_once() -> None:
    made, _ = layer({0: 2, 2: 3}, bias=True)
    whole = made.weight.untyped_storage()
    assert all(w.untyped_storage().data_ptr() == whole.data_ptr() for w, _ in made.parts())
    assert whole.nbytes() == 4 * sum(SIZES) * (WIDTH + 5)
    assert made.state_dict() == {}  # the base is nobody's to save
