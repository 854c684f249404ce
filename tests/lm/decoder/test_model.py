from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from transformers import PreTrainedModel

from nexa.lm.decoder.kernels import Kernels
from nexa.lm.decoder.linear import Pair
from nexa.lm.decoder.model import Decoder, Laid, projections
from nexa.lm.documents import GPU_ATTENTION, Attention, Documents
from tests.lm.decoder.references import (
    CASES,
    config_of,
    decoder_of,
    merge,
    own_gradients,
    pair_gradients,
    plain,
    random_pairs,
)

PREFIX = 5
LABELS = (9, 7, 6, 12)  # where each document's answer begins


def documents() -> list[list[int]]:
    """Four documents that begin alike."""
    generator = torch.Generator().manual_seed(2)
    begin = torch.randint(3, 97, (PREFIX,), generator=generator).tolist()
    lengths = (9, 17, 4, 30)
    return [begin + torch.randint(3, 97, (n,), generator=generator).tolist() for n in lengths]


def lay(rows: Sequence[tuple[list[int], int]], prefix: int = 0) -> tuple[Laid, Tensor, Tensor]:
    """A flat batch of (ids, where the answer begins), its label positions and targets."""
    pieces = [rows[0][0][:prefix]] if prefix else []
    begins, targets, positions = [0] * len(pieces), list[int](), list[int]()
    for ids, label in rows:
        begin = sum(map(len, pieces)) - prefix
        positions += range(begin + label - 1, begin + len(ids) - 1)
        targets += ids[label:]
        pieces.append(ids[prefix:])
        begins.append(prefix)
    places = zip(begins, pieces, strict=True)
    laid = Laid(
        torch.tensor([token for piece in pieces for token in piece]),
        torch.cat([torch.arange(begin, begin + len(piece)) for begin, piece in places]),
        Documents(tuple(map(len, pieces)), prefix),
    )
    return laid, torch.tensor(positions), torch.tensor(targets)


def ours(decoder: Decoder, pairs: Mapping[str, Pair], prefix: int = 0) -> dict[str, Tensor]:
    """The loss of all rows together, and every adapter gradient."""
    laid, positions, targets = lay(list(zip(documents(), LABELS, strict=True)), prefix)
    logits = linear(decoder(laid, positions), decoder.head).float()
    loss = cross_entropy(logits, targets, reduction="sum")
    loss.backward()
    return {"loss": loss.detach(), **own_gradients(pairs)}


def theirs(model: PreTrainedModel, pairs: Mapping[str, Pair]) -> dict[str, Tensor]:
    """The same by transformers, each row alone."""
    merge(model, pairs)
    total = torch.zeros(())
    for ids, label in zip(documents(), LABELS, strict=True):
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        total = total + cross_entropy(
            logits[label - 1 : -1], torch.tensor(ids[label:]), reduction="sum"
        )
    total.backward()
    return {"loss": total.detach(), **pair_gradients(model, pairs)}


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    far = {n: float((a[n] - b[n]).norm() / b[n].norm()) for n in a}
    assert max(far.values()) <= tolerance, max(far.items(), key=lambda item: item[1])


@pytest.mark.parametrize("case", CASES)
def test_loss_and_every_gradient_equal_plain_transformers(case: str) -> None:
    model = plain(**CASES[case])
    pairs = random_pairs(model)
    decoder = decoder_of(model, pairs)
    together, shared = ours(decoder, pairs), ours(decoder, pairs, PREFIX)
    expected = theirs(model, pairs)
    assert_equal(together, expected)
    assert_equal(shared, expected)


@pytest.mark.parametrize("case", ["llama", "qwen3"])
def test_rows_together_equal_rows_alone(case: str) -> None:
    model = plain(**CASES[case])
    decoder = decoder_of(model)
    rows = list(zip(documents(), LABELS, strict=True))
    laid, positions, _ = lay(rows)
    alone = [lay([row]) for row in rows]
    with torch.no_grad():
        together = decoder(laid, positions)
        each = torch.cat([decoder(one, where) for one, where, _ in alone])
    assert torch.allclose(together, each, atol=1e-5)


@pytest.mark.parametrize(
    "targets", [("q_proj", "v_proj"), ("down_proj",), ("k_proj", "gate_proj", "o_proj")]
)
def test_some_projections_may_carry_no_adapter(targets: tuple[str, ...]) -> None:
    model = plain(**CASES["llama with biases"])
    pairs = random_pairs(model, targets)
    together = ours(decoder_of(model, pairs), pairs)
    assert_equal(together, theirs(model, pairs))


@pytest.mark.parametrize("case", ["qwen3", "mistral with a window"])
def test_checkpointing_keeps_less_and_changes_no_bit(case: str) -> None:
    model = plain(**CASES[case])
    pairs = random_pairs(model)
    decoder = decoder_of(model, pairs)
    kept = ours(decoder, pairs, PREFIX), saved_bytes(decoder)
    decoder.running.checkpointing = True
    again = ours(decoder, pairs, PREFIX), saved_bytes(decoder)
    assert all(torch.equal(again[0][name], kept[0][name]) for name in kept[0])
    assert again[1] < 0.4 * kept[1]


def saved_bytes(decoder: Decoder) -> int:
    """Of different tensors that a pass keeps for its backward pass, the weights aside."""
    own = {buffer.untyped_storage().data_ptr() for buffer in decoder.buffers()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    laid, positions, _ = lay(list(zip(documents(), LABELS, strict=True)))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = decoder(laid, positions)
    del hidden
    return sum(kept.values())


def test_a_pass_keeps_what_is_counted() -> None:
    """Of each token and layer: two residuals, q k v, what o takes, gate and up, and x A^T."""
    model = plain(**CASES["llama"], num_hidden_layers=8)
    pairs = random_pairs(model)
    decoder = decoder_of(model, pairs)
    decoder.running.attention = Attention(keep_up_to=0)
    laid, *_ = lay(list(zip(documents(), LABELS, strict=True)))
    tokens, layers, width, heads, mlp, ranks = len(laid.input_ids), 8, 32, 32 + 2 * 16, 2 * 48, 28
    values = 2 * (width + 1) + heads + width + mlp + ranks
    counted = 4 * tokens * layers * values
    assert 0.9 * counted < saved_bytes(decoder) < counted  # the last layer keeps labels only


def test_bfloat16_is_as_near_to_float32_as_rounding_allows() -> None:
    model = plain(**CASES["llama"])
    pairs = random_pairs(model)
    exact = ours(decoder_of(model, pairs), pairs)
    short = ours(decoder_of(model, pairs, torch.bfloat16), pairs)
    assert short["loss"] == pytest.approx(float(exact["loss"]), rel=5e-3)
    assert_equal(short, exact, tolerance=0.08)
    assert all(grad.dtype == torch.float32 for grad in short.values())


def test_an_update_below_the_last_place_of_a_product_is_not_lost() -> None:
    """One product rounds once: what a rounded `x W^T` could not show still moves the loss."""
    model = plain(**CASES["llama"])
    pairs = random_pairs(model)
    with torch.no_grad():
        for pair in pairs.values():
            pair.b.mul_(1e-3)
    short = decoder_of(model.bfloat16(), pairs, torch.bfloat16)
    laid, positions, _ = lay(list(zip(documents(), LABELS, strict=True)))
    with torch.no_grad():
        moved = short(laid, positions).float()
        plain_hidden = decoder_of(model, dtype=torch.bfloat16)(laid, positions).float()
    assert not torch.equal(moved, plain_hidden)


def test_equal_weights_and_batches_give_equal_bits() -> None:
    model = plain(**CASES["qwen2"])
    pairs = random_pairs(model)
    decoder = decoder_of(model, pairs, torch.bfloat16)
    first, second = ours(decoder, pairs), ours(decoder, pairs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_torchs_own_attention_gives_the_same() -> None:
    model = plain(**CASES["mistral with a window"])
    pairs = random_pairs(model)
    decoder = decoder_of(model, pairs)
    own = ours(decoder, pairs, PREFIX)
    decoder.running.attention = GPU_ATTENTION
    assert_equal(ours(decoder, pairs, PREFIX), own)


def test_what_the_optimiser_did_is_taken_over() -> None:
    model = plain(**CASES["llama"])
    pairs = random_pairs(model)
    decoder = decoder_of(model, pairs)
    with torch.no_grad():
        for pair in pairs.values():
            pair.a.mul_(0.5)
            pair.b.add_(0.01)
    decoder.refresh()
    assert_equal(ours(decoder, pairs), ours(decoder_of(model, pairs), pairs), tolerance=0.0)


def test_weights_that_changed_before_the_backward_pass_are_refused() -> None:
    model = plain(**CASES["llama"])
    pairs = random_pairs(model)
    decoder = decoder_of(model, pairs)
    laid, positions, _ = lay(list(zip(documents(), LABELS, strict=True)))
    hidden = decoder(laid, positions)
    decoder.refresh()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        hidden.sum().backward()


def test_projections_stand_in_the_models_own_order() -> None:
    model = plain(**CASES["qwen3"])
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    ]
    decoder = decoder_of(model)
    assert projections(decoder.shape) == names
    assert [name for name, _, _ in decoder.linears()] == names
    assert decoder.device == torch.device("cpu")
    assert config_of(model)["model_type"] == decoder.shape.family


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when its compiler loads
def test_compiled_kernels_give_the_same() -> None:
    model = plain(**CASES["qwen3"])
    pairs = random_pairs(model)
    decoder = decoder_of(model, pairs)
    own = ours(decoder, pairs, PREFIX)
    decoder.running.kernels = Kernels(compiled=True)
    assert_equal(ours(decoder, pairs, PREFIX), own)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_processor_gives() -> None:
    model = plain(**CASES["qwen3"])
    pairs = random_pairs(model)
    own = ours(decoder_of(model, pairs), pairs)
    decoder = decoder_of(model, pairs).cuda()
    decoder.running.attention = GPU_ATTENTION
    laid, positions, targets = lay(list(zip(documents(), LABELS, strict=True)))
    there = Laid(laid.input_ids.cuda(), laid.position_ids.cuda(), laid.documents)
    logits = linear(decoder(there, positions.cuda()), decoder.head)
    loss = cross_entropy(logits, targets.cuda(), reduction="sum")
    assert float(loss) == pytest.approx(float(own["loss"]), rel=1e-4)


def test_the_decoder_imports_no_model_library() -> None:
    modules = "nexa.lm.decoder.weights, nexa.lm.documents, nexa.train.fused"
    program = f"import sys, {modules}; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
