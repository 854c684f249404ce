from __future__ import annotations

import contextlib
import math

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)
from transformers.masking_utils import (
    create_causal_mask,
    create_chunked_causal_mask,
    create_sliding_window_causal_mask,
)

from nexa.lm import attention
from nexa.lm.attention import UnsupportedAttention, attend, per_document
from tests.support.tiny import ARCHITECTURES, tiny_model

LENGTHS = [5, 1, 9, 3]


def heads() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = sum(LENGTHS)
    q, k, v = (torch.randn(n, tokens, 8, generator=generator) for n in (4, 2, 2))
    return q, k, v


# -- Masks ---------------------------------------------------------------------------------------


def asked_mask(
    create: object, config: object, lengths: list[int], *, padding: Tensor | None = None
) -> Tensor:
    """What transformers' own mask code gives for a flat batch under Nexa's name."""
    torch_config = config
    torch_config._attn_implementation = attention.NAME  # type: ignore[attr-defined]
    mask = create(  # type: ignore[operator]
        config=torch_config,
        inputs_embeds=torch.zeros(1, sum(lengths), 4),
        attention_mask=padding,
        past_key_values=None,
        position_ids=torch.cat([torch.arange(n) for n in lengths])[None],
    )
    assert isinstance(mask, Tensor)
    return mask


@pytest.fixture(autouse=True)
def _registered() -> None:
    with per_document(tiny_model()):
        pass


@pytest.mark.parametrize("lengths", [[5, 1, 9, 3], [7], [1], [2, 2]])
def test_documents_are_read_off_the_mask_of_transformers(lengths: list[int]) -> None:
    mask = asked_mask(create_causal_mask, LlamaConfig(), lengths)
    assert mask.flatten().tolist() == [0, *lengths]


@pytest.mark.parametrize(("window", "seen"), [(4, 4), (9, 0), (100, 0)])
def test_a_window_is_read_off_the_mask_where_it_is_shorter_than_a_document(
    window: int, seen: int
) -> None:
    config = MistralConfig(sliding_window=window)
    mask = asked_mask(create_sliding_window_causal_mask, config, LENGTHS)
    assert mask.flatten().tolist() == [seen, *LENGTHS]


def test_a_chunk_is_a_document_of_its_own() -> None:
    config = LlamaConfig()
    config.attention_chunk_size = 4
    mask = asked_mask(create_chunked_causal_mask, config, LENGTHS)
    assert mask.flatten().tolist() == [0, 4, 1, 1, 4, 4, 1, 3]


def test_a_mask_that_hides_every_second_token_is_refused() -> None:
    def mask(_b: Tensor, _h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & ((query - key) % 2 == 0) | (key == query - 1)

    described = attention.describe_mask(1, 9, 9, mask_function=mask)
    assert described.flatten()[0] == attention.OTHER
    q, k, v = (x[None, :, :9] for x in heads())
    with pytest.raises(UnsupportedAttention, match="not causal inside each document"):
        attend(Causal(), q, k, v, described)


def test_a_mask_that_loses_a_document_is_refused() -> None:
    config = LlamaConfig()
    with attention.documents([5, 1, 9, 3]):
        asked_mask(create_causal_mask, config, LENGTHS)
    with (
        attention.documents([5, 1, 4, 5, 3]),
        pytest.raises(UnsupportedAttention, match="see the one before it"),
    ):
        asked_mask(create_causal_mask, config, LENGTHS)


def test_a_bidirectional_mask_is_refused() -> None:
    config = LlamaConfig()
    config.is_causal = False
    mask = asked_mask(create_causal_mask, config, LENGTHS)
    assert mask.flatten()[0] == attention.OTHER


def test_a_padded_batch_is_refused() -> None:
    padding = torch.ones(1, sum(LENGTHS), dtype=torch.long)
    with pytest.raises(UnsupportedAttention, match="no mask of its own"):
        asked_mask(create_causal_mask, LlamaConfig(), LENGTHS, padding=padding)


# -- The function of the table -------------------------------------------------------------------


class Causal(nn.Module):
    is_causal = True


class Bidirectional(nn.Module):
    is_causal = False


def layout(window: int = 0) -> Tensor:
    return torch.tensor([window, *LENGTHS]).view(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"softcap": 50.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"dropout": 0.1}, "dropout"),
        ({"is_causal": False}, "is_causal"),
    ],
)
def test_more_than_causal_attention_is_refused_by_name(
    extra: dict[str, object], named: str
) -> None:
    q, k, v = (x[None] for x in heads())
    with pytest.raises(UnsupportedAttention, match=named):
        attend(Causal(), q, k, v, layout(), **extra)  # type: ignore[arg-type]


def test_a_bidirectional_module_is_refused() -> None:
    q, k, v = (x[None] for x in heads())
    with pytest.raises(UnsupportedAttention, match="is_causal"):
        attend(Bidirectional(), q, k, v, layout())


@pytest.mark.parametrize("mask", [None, torch.zeros(1, 1, 18, 18)])
def test_a_mask_of_another_making_is_refused(mask: Tensor | None) -> None:
    q, k, v = (x[None] for x in heads())
    with pytest.raises(UnsupportedAttention, match="transformers' own mask"):
        attend(Causal(), q, k, v, mask)


def test_a_window_that_the_layer_does_not_name_is_refused() -> None:
    q, k, v = (x[None] for x in heads())
    with pytest.raises(UnsupportedAttention, match="window"):
        attend(Causal(), q, k, v, layout(4))


def test_the_scale_is_the_heads_own_unless_the_layer_gives_one() -> None:
    q, k, v = (x[None] for x in heads())
    own, _ = attend(Causal(), q, k, v, layout(), use_cache=False)
    given, _ = attend(Causal(), q, k, v, layout(), scaling=1 / math.sqrt(8))
    assert torch.allclose(own, given)
    assert own.shape == (1, 18, 4, 8)


# -- Models --------------------------------------------------------------------------------------


def flat_logits(model: PreTrainedModel, documents: list[Tensor]) -> Tensor:
    positions = torch.cat([torch.arange(len(d)) for d in documents])[None]
    with per_document(model), torch.no_grad():
        ids = torch.cat(documents)[None]
        out = model(input_ids=ids, position_ids=positions, use_cache=False)
    return out.logits[0]


def alone_logits(model: PreTrainedModel, documents: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(input_ids=d[None], use_cache=False).logits[0] for d in documents])


def documents() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, 300, (n,), generator=generator) for n in (17, 4, 30, 1)]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_documents_end_to_end_give_the_logits_of_each_alone(architecture: str) -> None:
    model = tiny_model(architecture)
    theirs = alone_logits(model, documents())
    assert torch.allclose(flat_logits(model, documents()), theirs, atol=1e-5)
    assert torch.equal(alone_logits(model, documents()), theirs)  # and the model is as it was


SMALL = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "sliding_window": 6,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def test_a_sliding_window_is_respected() -> None:
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SMALL)).eval()
    theirs = alone_logits(model, documents())
    assert torch.allclose(flat_logits(model, documents()), theirs, atol=1e-5)


def test_layers_with_and_without_a_window_may_alternate() -> None:
    torch.manual_seed(0)
    config = Qwen2Config(**SMALL, use_sliding_window=True, max_window_layers=1)
    assert set(config.layer_types) == {"full_attention", "sliding_attention"}
    model = Qwen2ForCausalLM(config).eval()
    theirs = alone_logits(model, documents())
    assert torch.allclose(flat_logits(model, documents()), theirs, atol=1e-5)


def test_a_mask_that_no_layer_uses_is_not_held_against_a_model() -> None:
    """Qwen2-MoE makes one with a window of 0 for sliding layers that it does not have."""
    torch.manual_seed(0)
    config = Qwen2MoeConfig(**{**SMALL, "num_experts": 4, "moe_intermediate_size": 16})
    model = Qwen2MoeForCausalLM(config).eval()
    theirs = alone_logits(model, documents())
    assert torch.allclose(flat_logits(model, documents()), theirs, atol=1e-5)


def test_an_architecture_without_the_table_is_refused() -> None:
    config = BloomConfig(vocab_size=320, hidden_size=32, n_layer=1, n_head=4)
    with (
        pytest.raises(UnsupportedAttention, match="BloomForCausalLM"),
        per_document(BloomForCausalLM(config)),
    ):
        pass


def test_the_models_own_attention_comes_back_after_an_error() -> None:
    model = tiny_model()
    before = model.config._attn_implementation
    with contextlib.suppress(KeyError), per_document(model):
        assert model.config._attn_implementation == attention.NAME
        raise KeyError
    assert model.config._attn_implementation == before
