from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import GPT2Config, GPT2Model, PreTrainedModel

from nexa.train import losses
from nexa.train.losses import LabelHead, label_head
from tests.support.tiny import tiny_model

SIZES = [(1.0, None), (0.25, None), (1.0, 3.0), (2.0, 5.0)]


def parts(
    seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight, bias = (
        torch.randn(shape, generator=generator).to(dtype).requires_grad_()
        for shape in ((37, 16), (50, 16), (50,))
    )
    return hidden, weight, bias, torch.randint(0, 50, (37,), generator=generator)


def plain(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    scale: float,
    cap: float | None,
) -> Tensor:
    """Whole logits, and torch's own loss."""
    logits = linear(hidden, weight, bias) * scale
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    return cross_entropy(logits, targets, reduction="sum")


@pytest.fixture(params=[1 << 24, 500, 1])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows at once, ten at a time, one at a time."""
    monkeypatch.setattr(losses, "CHUNK_LOGITS", request.param)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("scale", "softcap"), SIZES)
def test_loss_and_gradients_equal_torchs_own(
    with_bias: bool, scale: float, softcap: float | None
) -> None:
    hidden, weight, bias, targets = parts()
    given = bias if with_bias else None
    inputs = (hidden, weight, bias) if with_bias else (hidden, weight)
    theirs = plain(hidden, weight, given, targets, scale, softcap)
    expected = torch.autograd.grad(theirs / 7, inputs)
    ours = LabelHead(weight, given, scale, softcap).loss_sum(hidden, targets)
    assert torch.allclose(ours, theirs, rtol=1e-6)
    for a, b in zip(torch.autograd.grad(ours / 7, inputs), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, bias, targets = parts()
    frozen = LabelHead(weight.detach(), bias.detach())
    frozen.loss_sum(hidden, targets).backward()
    assert hidden.grad is not None
    frozen_hidden = LabelHead(weight).loss_sum(hidden.detach(), targets)
    frozen_hidden.backward()
    assert weight.grad is not None


def test_bfloat16_is_near_float32() -> None:
    hidden, weight, _, targets = parts(dtype=torch.bfloat16)
    exact = plain(hidden.float(), weight.float(), None, targets, 1.0, None)
    (expected,) = torch.autograd.grad(exact, hidden)
    loss = LabelHead(weight).loss_sum(hidden, targets)
    (grad,) = torch.autograd.grad(loss, hidden)
    assert loss.dtype == torch.float32
    assert abs(loss.item() / exact.item() - 1) < 0.01
    assert (grad.float() - expected.float()).norm() < 0.02 * expected.float().norm()


def test_under_autocast_products_are_bfloat16_and_gradients_float32() -> None:
    hidden, weight, bias, targets = parts()
    exact = plain(hidden, weight, bias, targets, 1.0, None)
    expected = torch.autograd.grad(exact, (hidden, weight, bias))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = LabelHead(weight, bias).loss_sum(hidden, targets)
        assert LabelHead(weight, bias).logits(hidden).dtype == torch.float32
    for grad, exact_grad in zip(
        torch.autograd.grad(loss, (hidden, weight, bias)), expected, strict=True
    ):
        assert grad.dtype == torch.float32
        assert (grad - exact_grad).norm() < 0.02 * exact_grad.norm()


def test_the_head_of_a_model_gives_the_models_own_logits() -> None:
    model = tiny_model(tied=False)
    ids = torch.tensor([[5, 6, 7]])
    head = label_head(model)
    assert head is not None
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids)[0][0]
        assert torch.allclose(head.logits(hidden), model(input_ids=ids).logits[0], atol=1e-6)


class Scaled:
    """As much of a model as a head is read from."""

    def __init__(self, **settings: Any) -> None:
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(**settings))
        self.head = nn.Linear(4, 9)

    def get_output_embeddings(self) -> nn.Linear:
        return self.head


@pytest.mark.parametrize(
    ("settings", "scale", "softcap"),
    [
        ({}, 1.0, None),
        ({"logit_scale": 0.0625}, 0.0625, None),
        ({"logits_scaling": 8.0}, 0.125, None),
        ({"final_logit_softcapping": 30.0}, 1.0, 30.0),
    ],
)
def test_scale_and_cap_come_from_the_configuration(
    settings: dict[str, float], scale: float, softcap: float | None
) -> None:
    head = label_head(Scaled(**settings))  # type: ignore[arg-type]
    assert head is not None
    assert (head.scale, head.softcap) == (scale, softcap)


def test_a_model_without_a_head_has_none() -> None:
    model: PreTrainedModel = GPT2Model(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2))
    assert label_head(model) is None
