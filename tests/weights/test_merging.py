from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nexa.core.errors import ParityError
from nexa.lm.adapters import PREFIX, LoraSpec
from nexa.weights.merging import Change, MergedWeights, TrainedWeights, read_changes

TIED = {"lm_head.weight": "embed.weight"}


class InMemory:
    def __init__(self, **tensors: Tensor) -> None:
        self.tensors = {name.replace("__", "."): tensor for name, tensor in tensors.items()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.tensors))

    def tensor(self, name: str) -> Tensor:
        return self.tensors[name]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)


def matrices(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, generator=generator), torch.randn(6, 2, generator=generator)


def test_a_merged_weight_is_base_plus_scale_times_b_times_a_entry_by_entry() -> None:
    a, b = matrices(0)
    base = InMemory(fc__weight=torch.arange(24.0).view(6, 4), norm__weight=torch.ones(4))
    adapter = {f"{PREFIX}fc.lora_A.weight": a, f"{PREFIX}fc.lora_B.weight": b}

    merged = MergedWeights(base, read_changes(adapter, LoraSpec(rank=2, alpha=4.0)), tied={})

    slow = [
        [4 * i + j + 2.0 * sum(float(b[i, k] * a[k, j]) for k in range(2)) for j in range(4)]
        for i in range(6)
    ]
    assert torch.allclose(merged.tensor("fc.weight"), torch.tensor(slow), rtol=1e-6)
    assert torch.equal(merged.tensor("norm.weight"), torch.ones(4))
    assert merged.names == ("fc.weight", "norm.weight")


def test_a_weight_merged_with_dora_has_rows_of_the_learned_length() -> None:
    a, b = matrices(0)
    weight = torch.arange(24.0).view(6, 4)
    magnitude = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    adapter = {
        f"{PREFIX}fc.lora_A.weight": a,
        f"{PREFIX}fc.lora_B.weight": b,
        f"{PREFIX}fc.lora_magnitude_vector": magnitude,
    }
    changes = read_changes(adapter, LoraSpec(rank=2, alpha=4.0, dora=True))

    merged = MergedWeights(InMemory(fc__weight=weight), changes, tied={})

    tensor = merged.tensor("fc.weight")
    plain = weight + 2.0 * b @ a
    for row, length in enumerate(magnitude):
        assert torch.isclose(tensor[row].norm(), length)
        assert torch.allclose(tensor[row] / length, plain[row] / plain[row].norm(), atol=1e-6)
    before, after = merged.pair("fc.weight")
    assert torch.equal(before, weight)
    assert torch.equal(after, tensor)


def test_each_layer_is_scaled_by_its_own_rank_and_alpha() -> None:
    spec = LoraSpec(
        rank=2, alpha=4.0, rslora=True, rank_pattern={"fc": 9}, alpha_pattern={"fc": 6.0}
    )
    wide = torch.ones(9, 4), torch.ones(6, 9)
    narrow = matrices(0)
    adapter = {
        f"{PREFIX}{name}.lora_{side}.weight": tensor
        for name, pair in (("fc", wide), ("out", narrow))
        for side, tensor in zip("AB", pair, strict=True)
    }

    changes = read_changes(adapter, spec)

    assert changes["fc.weight"].scale == 6 / 3
    assert changes["out.weight"].scale == 4 / 2**0.5


def test_an_adapter_tensor_that_fits_no_weight_is_named() -> None:
    a, b = matrices(0)

    with pytest.raises(ParityError, match=r"base_model\.model\.gone\.lora_A\.weight is not used"):
        MergedWeights(
            InMemory(fc__weight=torch.ones(6, 4)), {"gone.weight": Change(a, b, 1.0)}, tied={}
        )


def test_an_adapter_tensor_of_another_shape_is_named() -> None:
    a, b = matrices(0)

    with pytest.raises(ParityError, match=r"it changes \(6, 4\), the base has \(5, 4\)"):
        MergedWeights(
            InMemory(fc__weight=torch.ones(5, 4)), {"fc.weight": Change(a, b, 1.0)}, tied={}
        )


def test_tied_embeddings_stay_tied_when_neither_changes() -> None:
    merged = MergedWeights(InMemory(embed__weight=torch.ones(6, 4)), {}, tied=TIED)

    assert merged.tie
    assert merged.names == ("embed.weight",)


def test_a_head_that_changes_alone_is_untied() -> None:
    a, b = matrices(0)
    base = InMemory(embed__weight=torch.ones(6, 4))

    merged = MergedWeights(base, {"lm_head.weight": Change(a, b, 1.0)}, tied=TIED)

    assert not merged.tie
    assert merged.names == ("embed.weight", "lm_head.weight")
    assert torch.equal(merged.tensor("embed.weight"), torch.ones(6, 4))


def test_tied_embeddings_that_change_alike_stay_tied() -> None:
    a, b = matrices(0)
    both = {name: Change(a, b, 1.0) for name in ("embed.weight", "lm_head.weight")}

    merged = MergedWeights(InMemory(embed__weight=torch.ones(6, 4)), both, tied=TIED)

    assert merged.tie
    assert torch.equal(merged.tensor("lm_head.weight"), merged.tensor("embed.weight"))


def test_a_trained_model_that_lost_a_weight_is_refused_by_its_name() -> None:
    base = InMemory(embed__weight=torch.ones(6, 4), fc__weight=torch.ones(2, 2))

    with pytest.raises(ParityError, match=r"fc\.weight is not used") as caught:
        TrainedWeights(InMemory(embed__weight=torch.ones(6, 4)), base, tied=TIED)

    assert "the checkpoint has no such weight" in str(caught.value)


def test_a_trained_model_with_a_weight_too_many_is_refused_by_its_name() -> None:
    base = InMemory(embed__weight=torch.ones(6, 4))
    trained = InMemory(embed__weight=torch.ones(6, 4), extra__weight=torch.ones(1))

    with pytest.raises(ParityError, match=r"the base has no such weight"):
        TrainedWeights(trained, base, tied=TIED)
