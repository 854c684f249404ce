from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nexa.lm import documents
from nexa.lm.documents import (
    CPU_ATTENTION,
    GPU_ATTENTION,
    Attention,
    Documents,
    attention_on,
    documents_attention,
    visible,
)

LENGTHS = (5, 1, 9, 3)
ALONE = Documents(LENGTHS)
SHARED = Documents(LENGTHS, prefix=5)  # the first piece is what the three others go on from
EXACT = 1e-12  # in float64


def slow(q: Tensor, k: Tensor, v: Tensor, pieces: Documents, window: int, scale: float) -> Tensor:
    """One query at a time: softmax over the keys that it may see."""
    heads, group = q.shape[0], q.shape[0] // k.shape[0]
    out = []
    for rows, seen in pieces.pieces():
        for i in range(rows.start, rows.stop):
            visible_rows = [*range(seen), *range(rows.start, i + 1)]
            visible_rows = visible_rows[-window:] if window else visible_rows
            row = []
            for h in range(heads):
                keys, values = k[h // group, visible_rows], v[h // group, visible_rows]
                row.append(torch.softmax(keys @ q[h, i] * scale, 0) @ values)
            out.append(torch.stack(row))
    return torch.stack(out)


def heads(
    tokens: int = sum(LENGTHS), *, value_width: int = 8, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, tokens, 8), (2, tokens, 8), (2, tokens, value_width))
    q, k, v = (torch.randn(s, generator=generator, dtype=dtype) for s in shapes)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def with_gradients(out: Tensor, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The output, and the gradients of a fixed mixture of it."""
    mixture = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad((out * mixture).sum(), inputs)]


@pytest.fixture(params=[256, 4, 1])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole documents, blocks of three or four queries, and one query at a time."""
    monkeypatch.setattr(documents, "QUERY_BLOCK", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("pieces", [ALONE, SHARED])
@pytest.mark.parametrize("window", [0, 4, 100])
@pytest.mark.parametrize("attention", [Attention(keep_up_to=n) for n in (1024, 8, 0)])
def test_outputs_and_gradients_equal_a_slow_formula(
    attention: Attention, window: int, pieces: Documents
) -> None:
    q, k, v = heads()
    theirs = with_gradients(slow(q, k, v, pieces, window, 0.3), (q, k, v))
    out = documents_attention(q, k, v, pieces, window, 0.3, attention)
    for a, b in zip(with_gradients(out, (q, k, v)), theirs, strict=True):
        assert torch.allclose(a, b, atol=EXACT)


@pytest.mark.parametrize("pieces", [ALONE, SHARED])
@pytest.mark.parametrize("window", [0, 4])
def test_torchs_own_kernel_gives_the_same(window: int, pieces: Documents) -> None:
    """What a GPU computes with, here on the processor."""
    q, k, v = heads(dtype=torch.float32)
    ours = with_gradients(documents_attention(q, k, v, pieces, window, 0.3), (q, k, v))
    out = documents_attention(q, k, v, pieces, window, 0.3, GPU_ATTENTION)
    for a, b in zip(with_gradients(out, (q, k, v)), ours, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kept_and_recomputed_probabilities_give_the_same_bits(dtype: torch.dtype) -> None:
    pieces = Documents((300, 520))
    q, k, v = heads(820, dtype=dtype)
    results = [
        with_gradients(documents_attention(q, k, v, pieces, 0, 0.35, way), (q, k, v))
        for way in (Attention(keep_up_to=1024), Attention(keep_up_to=400), Attention(keep_up_to=0))
    ]
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def saved_bytes(tokens: int, attention: Attention) -> int:
    """Of different tensors that one document of `tokens` tokens keeps for its backward pass."""
    q, k, v = heads(tokens, dtype=torch.bfloat16)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = documents_attention(q, k, v, Documents((tokens,)), 0, 0.35, attention)
    del out
    return sum(kept.values())


def test_memory_of_a_long_document_grows_with_its_length() -> None:
    """4,096 tokens keep query, key and value; with their probabilities it would be 70 MB more."""
    own = 4096 * 8 * 8 * 2  # bytes of four query heads, two keys, two values
    assert saved_bytes(4096, CPU_ATTENTION) == own
    assert saved_bytes(2048, CPU_ATTENTION) == own // 2
    triangle = 4 * 4096 * (4096 + 256) // 2 * 2
    assert saved_bytes(4096, Attention(keep_up_to=4096)) == own + triangle
    assert saved_bytes(512, CPU_ATTENTION) > own // 8  # short ones keep theirs


def test_values_may_have_a_width_of_their_own() -> None:
    q, k, v = heads(value_width=6)
    theirs = with_gradients(slow(q, k, v, ALONE, 0, 0.3), (q, k, v))
    ours = with_gradients(documents_attention(q, k, v, ALONE, 0, 0.3), (q, k, v))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=EXACT)


def test_bfloat16_is_as_near_to_float32_as_rounding_allows() -> None:
    q, k, v = heads()
    expected = documents_attention(q, k, v, ALONE, 0, 0.3)
    short = documents_attention(*(x.bfloat16() for x in (q, k, v)), ALONE, 0, 0.3)
    assert short.dtype == torch.bfloat16
    assert (short.double() - expected).abs().max() < 0.03


def test_pieces_after_a_prefix_see_it_and_not_each_other() -> None:
    assert list(SHARED.pieces()) == [
        (slice(0, 5), 0),
        (slice(5, 6), 5),
        (slice(6, 15), 5),
        (slice(15, 18), 5),
    ]
    assert [seen for _, seen in ALONE.pieces()] == [0, 0, 0, 0]


def test_the_last_query_is_the_last_key() -> None:
    assert visible(2, 4, 0).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert visible(2, 4, 2).int().tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]


def test_the_record_says_how_a_runs_longest_document_is_computed() -> None:
    assert CPU_ATTENTION.told(1024) == "probabilities kept"
    assert CPU_ATTENTION.told(1025) == "probabilities kept up to 1024 tokens"
    assert GPU_ATTENTION.told(10) == "sdpa"
    assert attention_on(torch.device("cpu")) is CPU_ATTENTION
    assert attention_on(torch.device("cuda")) is GPU_ATTENTION


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("pieces", [ALONE, SHARED])
def test_a_gpu_gives_what_the_processor_gives(pieces: Documents) -> None:
    q, k, v = heads(dtype=torch.float32)
    ours = with_gradients(documents_attention(q, k, v, pieces, 0, 0.3), (q, k, v))
    there = [x.detach().cuda().requires_grad_() for x in (q, k, v)]
    out = documents_attention(there[0], there[1], there[2], pieces, 0, 0.3, GPU_ATTENTION)
    mixture = torch.linspace(-1, 1, out.numel(), device="cuda").view_as(out)
    theirs = [out, *torch.autograd.grad((out * mixture).sum(), there)]
    for a, b in zip(theirs, ours, strict=True):
        assert torch.allclose(a.cpu(), b, atol=1e-4)
