from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from nexa.core.events import Event, listening
from nexa.lm.adapters import AttachedLora, LoraSpec, attach
from nexa.train.batches import TokenRow, lay
from nexa.train.engines import AllWeights
from nexa.train.generic import GenericExecutor, generic, padded_inputs
from tests.support.tiny import ARCHITECTURES, tiny_model
from tests.train.sample import random_rows

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

SPEC = LoraSpec(rank=4, alpha=8.0)
ROWS = random_rows(6)


def stirred(model: PreTrainedModel) -> AttachedLora:
    lora = attach(model, SPEC, seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for adapter in lora.adapters.values():
            adapter.b.normal_(0, 0.05, generator=generator)
    return lora


@contextmanager
def running(model: PreTrainedModel) -> Iterator[tuple[GenericExecutor, list[Event]]]:
    """The executor on an adapter that is not zero, and the events of its start."""
    events: list[Event] = []
    lora = stirred(model)
    try:
        with listening(events.append), generic(model, lora, ROWS) as executor:
            yield executor, events
    finally:
        lora.detach()


def loss_and_gradients(
    executor: GenericExecutor, parts: list[list[TokenRow]]
) -> tuple[float, list[Tensor]]:
    """Summed over the batches, as the loop does it."""
    total = sum(row.labels for part in parts for row in part)
    loss = 0.0
    for part in parts:
        part_loss, n = executor.forward_loss(lay(part))
        assert n == sum(row.labels for row in part)
        (part_loss / total).backward()
        loss += part_loss.item() / total
    grads = [p.grad for p in executor.adapters()]
    for parameter in executor.adapters():
        parameter.grad = None
    return loss, [g for g in grads if g is not None]


def assert_equal(
    ours: tuple[float, list[Tensor]], theirs: tuple[float, list[Tensor]], tolerance: float = 1e-5
) -> None:
    assert ours[0] == pytest.approx(theirs[0], rel=tolerance)
    assert len(ours[1]) == len(theirs[1])
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_flat_rows_equal_rows_alone_and_plain_peft(architecture: str, tied: bool) -> None:
    model = tiny_model(architecture, tied=tied)
    twin = peft.get_peft_model(
        copy.deepcopy(model),
        peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    with running(model) as (executor, events):
        assert executor.way.layout == "flat"
        assert executor.way.head == "label-only head"
        assert not events
        peft.set_peft_model_state_dict(twin, executor.state())
        together = loss_and_gradients(executor, [ROWS])
        alone = loss_and_gradients(executor, [[row] for row in ROWS])
        mixed = loss_and_gradients(executor, [ROWS[:2], ROWS[2:]])
    assert_equal(together, alone)
    assert_equal(together, mixed)
    assert_equal(together, plain_peft(twin))


def plain_peft(model: peft.PeftModel) -> tuple[float, list[Tensor]]:
    """Each row alone through transformers and PEFT, with torch's own loss on whole logits."""
    total = sum(row.labels for row in ROWS)
    loss = torch.zeros(())
    for row in ROWS:
        ids = torch.tensor([row.ids])
        labels = torch.tensor([i if t else -100 for i, t in zip(row.ids, row.trained, strict=True)])
        logits = model(input_ids=ids).logits[0, :-1]
        loss = loss + nn.functional.cross_entropy(logits, labels[1:], reduction="sum") / total
    loss.backward()
    named = [(name, p.grad) for name, p in model.named_parameters() if "lora_" in name]
    return loss.item(), [grad for _, grad in named if grad is not None]


# An architecture each for what keeps flat rows or the label-only head from being right.
SMALL = {"vocab_size": 320, "pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
LLAMA_LIKE: dict[str, Any] = {
    **SMALL,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def gemma2() -> PreTrainedModel:
    """Soft-capped attention and logits."""
    return Gemma2ForCausalLM(
        Gemma2Config(**LLAMA_LIKE, head_dim=8, query_pre_attn_scalar=8, sliding_window=16)
    )


def granite() -> PreTrainedModel:
    """Logits that are divided by a number."""
    return GraniteForCausalLM(
        GraniteConfig(**LLAMA_LIKE, logits_scaling=4.0, attention_multiplier=0.2)
    )


def bloom() -> PreTrainedModel:
    """ALiBi, and an attention that is in no table."""
    return BloomForCausalLM(BloomConfig(**SMALL, hidden_size=32, n_layer=2, n_head=4))


def falcon() -> PreTrainedModel:
    """An attention that is in no table, with position ids."""
    config = FalconConfig(**SMALL, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    return FalconForCausalLM(config)


def lfm2() -> PreTrainedModel:
    """Convolutions over neighbours, whichever document they are in."""
    return Lfm2ForCausalLM(Lfm2Config(**LLAMA_LIKE, layer_types=["conv", "full_attention"]))


def opt() -> PreTrainedModel:
    """Positions that are learned and counted from the attention mask."""
    config = OPTConfig(
        **SMALL,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=32,
        dropout=0.0,
    )
    return OPTForCausalLM(config)


class Drifting(LlamaForCausalLM):
    """Counts tokens from the beginning of the batch, whatever the position ids say."""

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **kwargs: Any) -> Any:
        out = super().forward(input_ids, position_ids=position_ids, **kwargs)
        count = torch.arange(input_ids.shape[1])[:, None] / 10
        out.logits = out.logits + count * torch.linspace(-1, 1, out.logits.shape[-1])
        return out


class Biased(LlamaForCausalLM):
    """Adds a number to each logit outside its head."""

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **kwargs: Any) -> Any:
        out = super().forward(input_ids, position_ids=position_ids, **kwargs)
        out.logits = out.logits + torch.linspace(-1, 1, out.logits.shape[-1])
        return out


class Squeezed(LlamaForCausalLM):
    """Halves its hidden states before its head."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.squeeze = nn.Linear(config.hidden_size, config.hidden_size // 2)
        self.lm_head = nn.Linear(config.hidden_size // 2, config.vocab_size)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **kwargs: Any) -> Any:
        hidden = self.model(input_ids, position_ids=position_ids, **kwargs)[0]
        return CausalLMOutput(logits=self.lm_head(self.squeeze(hidden)))


class Headless(LlamaForCausalLM):
    """Does not tell its head."""

    def get_output_embeddings(self) -> None:
        return None


class Rigid(LlamaForCausalLM):
    """Cannot compute its layers twice."""

    supports_gradient_checkpointing = False


def gpt2() -> PreTrainedModel:
    """Dropout by default, in the attention too."""
    return GPT2LMHeadModel(GPT2Config(**SMALL, n_embd=32, n_layer=2, n_head=4))


@pytest.mark.parametrize(
    ("make", "layout", "reason"),
    [
        (gemma2, "padded", "softcap"),
        (bloom, "padded", "takes no position ids"),
        (falcon, "padded", "does not look its attention up"),
        (lfm2, "padded", "a document changes the one after it"),
        (granite, "flat", ""),
        (opt, "padded", "lets a document see the one before it"),
    ],
)
def test_what_cannot_be_run_flat_is_run_padded_and_equals_rows_alone(
    make: Any, layout: str, reason: str
) -> None:
    torch.manual_seed(0)
    model = make().eval()
    before = model.config._attn_implementation
    with running(model) as (executor, events):
        assert executor.way.layout == layout
        assert reason in executor.way.layout_reason
        assert bool(events) == (layout == "padded")
        assert all("padded" in event["text"] for event in events)
        together = loss_and_gradients(executor, [ROWS])
        alone = loss_and_gradients(executor, [[row] for row in ROWS])
    assert_equal(together, alone)
    assert model.config._attn_implementation == before
    assert not model.training


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        (Biased, "alone differ"),
        (Squeezed, "do not go into its head as they are"),
        (Headless, "no linear output head"),
    ],
)
def test_logits_that_are_more_than_a_head_are_taken_whole(
    architecture: type[LlamaForCausalLM], reason: str
) -> None:
    torch.manual_seed(0)
    model = architecture(LlamaConfig(**LLAMA_LIKE)).eval()
    with running(model) as (executor, events):
        assert executor.way.layout == "flat"
        assert executor.way.head == "plain logits"
        assert reason in executor.way.head_reason
        assert ["in more memory" in event["text"] for event in events] == [True]
        together = loss_and_gradients(executor, [ROWS])
        alone = loss_and_gradients(executor, [[row] for row in ROWS])
    assert_equal(together, alone)


def test_documents_that_differ_from_each_alone_are_run_padded() -> None:
    torch.manual_seed(0)
    with running(Drifting(LlamaConfig(**LLAMA_LIKE)).eval()) as (executor, _):
        assert executor.way.layout == "padded"
        assert "differ from each alone" in executor.way.layout_reason


def test_dropout_of_the_attention_makes_it_padded() -> None:
    torch.manual_seed(0)
    model = gpt2().eval()
    with generic(model, AllWeights(model), ROWS) as executor:
        assert executor.way.layout == "padded"
        assert "dropout" in executor.way.layout_reason
        assert model.training


def test_padding_bears_no_loss_and_is_not_seen() -> None:
    rows = [TokenRow("a", [5, 6, 7], [False] * 3), TokenRow("b", [8], [False])]
    inputs, cells = padded_inputs(lay(rows), torch.device("cpu"))
    assert inputs["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert cells.tolist() == [0, 1, 2, 3]


def test_padded_equals_flat() -> None:
    model = tiny_model()
    with running(model) as (executor, _):
        flat = loss_and_gradients(executor, [ROWS])
        way = executor.way
    lora = stirred(model)
    padded_way = replace(way, layout="padded", layout_reason="asked for")
    padded = GenericExecutor(model, lora, padded_way, executor.label_head)
    assert_equal(loss_and_gradients(padded, [ROWS]), flat)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("make", [tiny_model, gemma2, bloom])
def test_checkpointing_changes_no_gradient(make: Any, method: str) -> None:
    """On flat batches too, where the documents have to be known in the recomputation."""
    torch.manual_seed(0)
    model = make().eval()
    trained = stirred(model) if method == "lora" else AllWeights(model)
    with generic(model, trained, ROWS) as executor:
        assert not executor.checkpointing
        plain = loss_and_gradients(executor, [ROWS[:4], ROWS[4:]])
        executor.checkpointing = True
        assert executor.checkpointing
        assert_equal(loss_and_gradients(executor, [ROWS[:4], ROWS[4:]]), plain, tolerance=0.0)
        assert saved_bytes(executor) < 0.7 * saved_bytes_without(executor)
    assert not model.is_activation_checkpointing


def saved_bytes(executor: GenericExecutor) -> int:
    """Of different tensors that a pass keeps for its backward, those of the model aside."""
    own = {p.untyped_storage().data_ptr() for p in executor.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = executor.forward_loss(lay(ROWS))
    del loss
    return sum(size for place, size in kept.items() if place not in own)


def saved_bytes_without(executor: GenericExecutor) -> int:
    """The same without checkpointing."""
    executor.checkpointing = False
    return saved_bytes(executor)


def test_a_model_that_cannot_checkpoint_stays_without() -> None:
    torch.manual_seed(0)
    model = Rigid(LlamaConfig(**LLAMA_LIKE)).eval()
    with running(model) as (executor, _):
        executor.checkpointing = True
        assert not executor.checkpointing


def test_all_weights_get_the_gradients_of_plain_transformers() -> None:
    model = tiny_model(tied=True)
    twin = copy.deepcopy(model)
    with generic(model, AllWeights(model), ROWS) as executor:
        ours = loss_and_gradients(executor, [ROWS])
    total = sum(row.labels for row in ROWS)
    loss = torch.zeros(())
    for row in ROWS:
        labels = torch.tensor([i if t else -100 for i, t in zip(row.ids, row.trained, strict=True)])
        logits = twin(input_ids=torch.tensor([row.ids])).logits[0, :-1]
        loss = loss + nn.functional.cross_entropy(logits, labels[1:], reduction="sum") / total
    loss.backward()
    theirs = [p.grad for p in twin.parameters() if p.grad is not None]
    assert_equal(ours, (loss.item(), theirs))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_bfloat16_is_near_float32(method: str) -> None:
    exact_model = tiny_model()
    rounded = copy.deepcopy(exact_model)
    results = []
    for model, short in ((exact_model, False), (rounded, True)):
        if method == "lora" and short:
            model.bfloat16()
        trained = stirred(model) if method == "lora" else AllWeights(model)
        autocast = short and method == "full"
        with generic(model, trained, ROWS, autocast=autocast) as executor:
            assert executor.way.layout == "flat"
            results.append(loss_and_gradients(executor, [ROWS]))
    (exact_loss, exact), (loss, grads) = results
    assert loss == pytest.approx(exact_loss, rel=2e-3)
    for a, b in zip(grads, exact, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() <= 0.1 * b.norm()
