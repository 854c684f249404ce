from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nexa.lm.decoder import kernels
from nexa.lm.decoder.functions import Norm, final_norm, split_heads
from nexa.lm.decoder.kernels import Kernels


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype)


@pytest.mark.parametrize("block", [1 << 18, 40, 1])
def test_blocks_of_any_size_give_the_same_bits(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = random(11, 16), random(16)
    whole, inverse = torch.empty_like(x), torch.empty(11, 1)
    kernels.norm(whole, inverse, x, weight, 1e-6)
    monkeypatch.setattr(kernels, "BLOCK_VALUES", block)
    parts, parts_inverse = torch.empty_like(x), torch.empty(11, 1)
    Kernels().run(kernels.norm, (parts, parts_inverse), (x,), weight, 1e-6)
    assert torch.equal(parts, whole)
    assert torch.equal(parts_inverse, inverse)


def test_the_norm_is_that_of_torch_and_can_be_had_again() -> None:
    x, update, weight = random(5, 16), random(5, 16, dtype=torch.bfloat16), random(16)
    total, normed, again = torch.empty(5, 16), torch.empty(5, 16), torch.empty(5, 16)
    inverse = torch.empty(5, 1)
    kernels.add_norm(total, normed, inverse, x, update, weight, 1e-6)
    assert torch.equal(total, x + update)
    expected = torch.nn.functional.rms_norm(total, (16,), weight, 1e-6)
    assert torch.allclose(normed, expected, atol=1e-6)
    kernels.normed_again(again, total, inverse, weight)
    assert torch.equal(again, normed)


def test_the_norms_backward_equals_autograd() -> None:
    x, weight = random(5, 16).requires_grad_(), random(16)
    out = final_norm(Kernels(), x, Norm(weight, 1e-6), torch.float32)
    mixture = torch.linspace(-1, 1, out.numel()).view_as(out)
    (ours,) = torch.autograd.grad((out * mixture).sum(), x)
    plain = torch.nn.functional.rms_norm(x, (16,), weight, 1e-6)
    (theirs,) = torch.autograd.grad((plain * mixture).sum(), x)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_norm_is_rounded_once() -> None:
    x, weight = random(64, 32), random(32)
    normed, inverse = torch.empty(64, 32, dtype=torch.bfloat16), torch.empty(64, 1)
    kernels.norm(normed, inverse, x, weight, 1e-6)
    exact = torch.nn.functional.rms_norm(x, (32,), weight, 1e-6)
    assert torch.equal(normed, exact.bfloat16())


def test_swiglu_and_its_backward_equal_autograd() -> None:
    gate_up = random(7, 12).requires_grad_()
    gate, up = gate_up.chunk(2, -1)
    plain = torch.nn.functional.silu(gate) * up
    g = torch.linspace(-1, 1, plain.numel()).view_as(plain)
    (theirs,) = torch.autograd.grad((plain * g).sum(), gate_up)
    out, again, grad = torch.empty(7, 6), torch.empty(7, 6), torch.empty(7, 12)
    with torch.no_grad():
        kernels.swiglu(out, gate_up)
        kernels.swiglu_backward(grad, again, g, gate_up)
    assert torch.equal(out, plain)
    assert torch.equal(again, out)
    assert torch.allclose(grad, theirs, atol=1e-6)


def test_turning_back_undoes_turning() -> None:
    x, radians = random(6, 3, 8), random(6, 1, 4)
    cos, sin = radians.cos(), radians.sin()
    there, back = torch.empty_like(x), torch.empty_like(x)
    kernels.rotate(there, x, cos, sin, 1)
    kernels.rotate(back, there, cos, sin, -1)
    assert torch.allclose(back, x, atol=1e-6)
    pairs = torch.view_as_complex(torch.stack(x.chunk(2, -1), -1).contiguous())
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(radians), radians))
    assert torch.allclose(there, torch.cat(turned.unbind(-1), -1), atol=1e-6)


@pytest.mark.parametrize("with_norm", [True, False])
def test_heads_and_their_gradient_equal_autograd(with_norm: bool) -> None:
    heads, key_heads, width = 4, 2, 8
    qkv, radians = random(5, 64).requires_grad_(), random(5, 1, 4)
    angles = radians.cos(), radians.sin()
    norm = Norm(random(6, width), 1e-6) if with_norm else None
    ours = split_heads(Kernels(), qkv, (heads, key_heads), angles, norm)

    every = qkv.view(5, 8, width)
    turned, value = every.split([6, 2], 1)
    if norm is not None:
        turned = torch.nn.functional.rms_norm(turned, (width,), None, 1e-6) * norm.weight
    first, second = turned.chunk(2, -1)
    cos, sin = angles
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    theirs = (*turned.split([heads, key_heads], 1), value)

    def mixed(parts: tuple[Tensor, ...]) -> Tensor:
        return sum(
            ((i + 1) * p * torch.linspace(-1, 1, p.numel()).view_as(p)).sum()
            for i, p in enumerate(parts)
        )  # type: ignore[return-value]

    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    (g_ours,) = torch.autograd.grad(mixed(ours), qkv)
    (g_theirs,) = torch.autograd.grad(mixed(theirs), qkv)
    assert torch.allclose(g_ours, g_theirs, atol=1e-5)


def test_compiling_happens_at_the_first_call_of_each_formula(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That the compiled ones give the same numbers is a slow test of the whole decoder."""
    compiled = []

    def note(formula: kernels.Formula, dynamic: bool) -> kernels.Formula:
        compiled.append((formula, dynamic))
        return formula

    monkeypatch.setattr(torch, "compile", note)
    run = Kernels(compiled=True)
    gate_up, out = random(7, 12), torch.empty(7, 6)
    run.run(kernels.swiglu, (out,), (gate_up,))
    run.run(kernels.swiglu, (out,), (gate_up,))
    expected = torch.empty(7, 6)
    kernels.swiglu(expected, gate_up)
    assert torch.equal(out, expected)
    assert compiled == [(kernels.swiglu, True)]
