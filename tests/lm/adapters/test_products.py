from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from nexa.lm.adapters import Adapter, AttachedLora, LoraSpec, delta, row_norms
from tests.lm.adapters.twins import SPEC, logits, stirred
from tests.support.tiny import tiny_model


def carry(adapter: Adapter, spec: LoraSpec = SPEC) -> AttachedLora:
    """One layer's adapter, as attaching it leaves it."""
    lora = AttachedLora(tiny_model(), spec, {"layer": adapter})
    lora._put_on()
    return lora


def adapted(layer: nn.Linear, *, dora: bool, scale: float = 2.0) -> Adapter:
    """Rank 3, all of it random."""
    out, width = layer.weight.shape
    a, b = nn.Parameter(torch.randn(3, width)), nn.Parameter(torch.randn(out, 3) / 4)
    return Adapter(layer, a, b, scale, nn.Parameter(torch.rand(out) + 1) if dora else None)


def plainly(x: Tensor, dropped: Tensor, adapter: Adapter) -> Tensor:
    """The formulas as the papers have them, term by term, for autograd to differentiate."""
    layer = adapter.layer
    assert isinstance(layer, nn.Linear)
    base = linear(x, layer.weight, layer.bias)
    update = adapter.scale * linear(linear(dropped, adapter.a), adapter.b)
    if adapter.magnitude is None:
        return base + update
    norms = (layer.weight + adapter.scale * adapter.b @ adapter.a).norm(dim=1).detach()
    ratio = adapter.magnitude / norms
    return base + (ratio - 1) * linear(dropped, layer.weight) + ratio * update


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_the_products_are_the_papers_formulas_with_their_gradients(
    training: bool, dora: bool, bias: bool
) -> None:
    torch.manual_seed(3)
    layer = nn.Linear(6, 5, bias=bias).train(training)
    adapter = adapted(layer, dora=dora)
    x = torch.randn(2, 4, 6, requires_grad=True)
    inputs = (x, *adapter.parameters)
    torch.manual_seed(0)
    expected = plainly(x, nn.functional.dropout(x, 0.5, training=training), adapter)
    theirs = torch.autograd.grad(expected.square().sum(), inputs)
    carry(adapter, LoraSpec(rank=3, alpha=6.0, dropout=0.5))
    torch.manual_seed(0)
    out = layer(x)
    ours = torch.autograd.grad(out.square().sum(), inputs)
    assert torch.allclose(out, expected, atol=1e-5)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_small_update_survives_bfloat16() -> None:
    """Added after rounding, an update below half a unit in the last place is lost every time."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 64, bias=False).bfloat16().requires_grad_(False)
    adapter = Adapter(
        layer, nn.Parameter(torch.randn(4, 64)), nn.Parameter(torch.full((64, 4), 2e-4)), 1.0
    )
    x = torch.randn(4096, 64).bfloat16()
    base = layer(x).float()
    update = linear(linear(x, adapter.a.bfloat16()), adapter.b.bfloat16())
    exact = linear(x.float(), layer.weight.float()) + update.float()
    carry(adapter)
    inside = (layer(x).float() - exact).mean(0).abs().mean()
    after = ((base.bfloat16() + update).float() - exact).mean(0).abs().mean()
    assert inside <= after
    assert layer(x).dtype == torch.bfloat16


def test_a_small_change_of_a_magnitude_survives_bfloat16() -> None:
    """Rows longer by 1/1000: within a bfloat16 weight's or result's rounding, and yet there."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 64, bias=False).bfloat16().requires_grad_(False)
    weight = layer.weight.float()
    a, b = nn.Parameter(torch.randn(4, 64)), nn.Parameter(torch.zeros(64, 4))
    magnitude = nn.Parameter(row_norms(layer.weight, a, b, 1.0) * 1.001)
    assert torch.equal((weight * 1.001).bfloat16(), layer.weight)
    x = torch.randn(4096, 64).bfloat16()
    base = linear(x.float(), weight)

    def grown(out: Tensor) -> float:
        return float((out.float() * base).sum() / base.square().sum()) - 1

    assert abs(grown(layer(x))) < 1e-4
    carry(Adapter(layer, a, b, 1.0, magnitude))
    out = layer(x).detach()
    assert out.dtype == torch.bfloat16
    assert abs(grown(out) - 0.001) < 1e-4


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("dora", [False, True])
def test_float32_inputs_of_a_bfloat16_layer_get_float32_gradients(
    dora: bool, dropout: float
) -> None:
    model = tiny_model().bfloat16().train()
    lora = stirred(model, LoraSpec(rank=4, alpha=8.0, dropout=dropout, dora=dora))
    adapter = next(iter(lora.adapters.values()))
    x = torch.randn(3, adapter.layer.in_features, requires_grad=True)
    out = adapter.layer(x)  # type: ignore[operator]
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in adapter.parameters)


@pytest.mark.parametrize("dora", [False, True])
def test_in_bfloat16_the_gradients_are_float32s_but_for_rounding(dora: bool) -> None:
    torch.manual_seed(5)
    layer = nn.Linear(96, 80).requires_grad_(False).bfloat16()
    adapter = adapted(layer, dora=dora, scale=0.5)
    x = torch.randn(256, 96).bfloat16()
    carry(adapter)
    layer(x).float().square().sum().backward()
    ours = [p.grad for p in adapter.parameters]
    exact = nn.Linear(96, 80).requires_grad_(False)
    exact.load_state_dict(layer.float().state_dict())
    twin = Adapter(exact, adapter.a, adapter.b, 0.5, adapter.magnitude)
    theirs = torch.autograd.grad(
        plainly(x.float(), x.float(), twin).square().sum(), adapter.parameters
    )
    for a, b in zip(ours, theirs, strict=True):
        assert a is not None
        assert (a - b).norm() <= 0.02 * b.norm()


def test_delta_is_what_the_adapter_adds_to_the_weight() -> None:
    model = tiny_model()
    lora = stirred(model)
    tuned = logits(model)
    lora.detach()
    with torch.no_grad():
        for adapter in lora.adapters.values():
            assert isinstance(adapter.layer, nn.Linear)
            adapter.layer.weight += delta(adapter.a, adapter.b, adapter.scale)
    assert torch.allclose(logits(model), tuned, atol=1e-5)


def test_a_row_of_zeros_gives_zeros_and_no_nan() -> None:
    layer = nn.Linear(6, 5, bias=False).requires_grad_(False)
    layer.weight[2] = 0
    a, b = torch.randn(3, 6), torch.zeros(5, 3)
    magnitude = nn.Parameter(row_norms(layer.weight, a, b, 1.0))
    magnitude.data[2] = 0
    adapter = Adapter(layer, nn.Parameter(a), nn.Parameter(b), 1.0, magnitude)
    carry(adapter)
    out = layer(torch.randn(7, 6))
    out.sum().backward()
    assert not out[:, 2].any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in adapter.parameters)
