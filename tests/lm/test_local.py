from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from transformers import DynamicCache

from nexa.core import events
from nexa.core.errors import ModelError
from nexa.lm import decoding, local
from nexa.lm.load import LoadedModel, load
from nexa.lm.resolve import resolve
from tests.support.tiny import ARCHITECTURES, write_tiny_model

STOP = 2


def lively(folder: Path, architecture: str = "llama") -> LoadedModel:
    """A tiny model with weights so large that its answers do not repeat one token."""
    write_tiny_model(folder, architecture, tied=False)
    loaded = load(resolve(str(folder)), dtype="float32")
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3, generator=random)
    return loaded


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedModel:
    return lively(tmp_path / "lively")


def prompts_of(lengths: list[int], seed: int = 0) -> list[list[int]]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 300, (n,), generator=random).tolist() for n in lengths]


def alone(loaded: LoadedModel, prompt: list[int], n: int, stop: tuple[int, ...]) -> list[int]:
    """The whole text through the model for every token: no cache, no batch, no padding."""
    ids = list(prompt)
    for _ in range(n):
        with torch.no_grad():
            token = int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token in stop:
            break
        ids.append(token)
    return ids[len(prompt) :]


def stops_that_happen(loaded: LoadedModel, prompts: list[list[int]], n: int) -> tuple[int, ...]:
    """Tokens that some of these answers hold and others do not: rows end at different times."""
    free = [alone(loaded, prompt, n, ()) for prompt in prompts]
    return tuple({free[0][3], free[1][9], free[2][0]})


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_batch_answers_as_each_prompt_alone(tmp_path: Path, architecture: str) -> None:
    loaded = lively(tmp_path / architecture, architecture)
    prompts = prompts_of([5, 40, 1, 17, 17, 33, 2, 64])
    stop = stops_that_happen(loaded, prompts, 24)
    answers = local.generate(loaded, prompts, max_new_tokens=24, stop_ids=stop, batch_size=5)
    expected = [alone(loaded, prompt, 24, stop) for prompt in prompts]
    assert [answer.ids for answer in answers] == expected
    assert [answer.stopped for answer in answers] == [len(ids) < 24 for ids in expected]
    assert len({len(ids) for ids in expected}) > 3


@pytest.mark.parametrize("lengths", [[30], [30, 30], [31, 12]])
def test_rows_may_cross_the_blocks_of_their_buffers(
    loaded: LoadedModel, lengths: list[int]
) -> None:
    """Without padding transformers makes no mask at all unless the end of the block needs one."""
    prompts = prompts_of(lengths)
    tokens = 2 * decoding.BLOCK_TOKENS + 6
    answers = local.generate(loaded, prompts, max_new_tokens=tokens, stop_ids=())
    expected = [alone(loaded, prompt, tokens, ()) for prompt in prompts]
    assert [answer.ids for answer in answers] == expected


def test_a_sliding_window_is_kept(tmp_path: Path) -> None:
    loaded = lively(tmp_path / "mistral", "mistral")
    loaded.model.config.sliding_window = 8
    prompts = prompts_of([5, 40, 21])
    answers = local.generate(loaded, prompts, max_new_tokens=16, stop_ids=())
    assert [answer.ids for answer in answers] == [
        alone(loaded, prompt, 16, ()) for prompt in prompts
    ]
    loaded.model.config.sliding_window = None
    wide = [alone(loaded, prompt, 16, ()) for prompt in prompts]
    assert wide != [answer.ids for answer in answers]


def test_prompts_are_read_in_chunks_and_answered_the_same(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = prompts_of([30, 29, 12, 11, 3])
    whole = local.generate(loaded, prompts, max_new_tokens=8, stop_ids=())
    monkeypatch.setattr(decoding, "READ_TOKENS", 40)
    assert list(decoding._chunks(prompts)) == [range(0, 1), range(1, 2), range(2, 5)]
    chunked = local.generate(loaded, prompts, max_new_tokens=8, stop_ids=())
    assert [answer.ids for answer in chunked] == [answer.ids for answer in whole]


def test_bfloat16_attention_is_as_near_to_float32_as_transformers_own() -> None:
    random = torch.Generator().manual_seed(0)
    query = torch.randn(3, 6, 1, 8, generator=random)
    key, value = (torch.randn(3, 2, 20, 8, generator=random) for _ in range(2))
    mask = torch.ones(3, 1, 1, 20, dtype=torch.bool)
    mask[1, ..., :7] = False
    scores = query @ key.repeat_interleave(3, 1).transpose(2, 3) / 8**0.5
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    expected = (weights @ value.repeat_interleave(3, 1)).transpose(1, 2)
    module = torch.nn.Module()
    exact, _ = decoding.attend(module, query, key, value, mask)
    torch.testing.assert_close(exact, expected, rtol=1e-5, atol=1e-6)
    halves = (tensor.bfloat16() for tensor in (query, key, value))
    rough, _ = decoding.attend(module, *halves, mask, scaling=8**-0.5)
    torch.testing.assert_close(rough.float(), expected, rtol=0.02, atol=0.02)


def test_attention_that_is_more_goes_to_transformers(loaded: LoadedModel) -> None:
    random = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 1, 8, generator=random)
    key, value = (torch.randn(1, 2, 5, 8, generator=random) for _ in range(2))
    bias = torch.randn(1, 4, 1, 5, generator=random)
    scores = query @ key.repeat_interleave(2, 1).transpose(2, 3) / 8**0.5 + bias
    expected = (scores.softmax(-1) @ value.repeat_interleave(2, 1)).transpose(1, 2)
    module = loaded.model.model.layers[0].self_attn
    by_head = {"attention_mask": bias}, {"attention_mask": None, "position_bias": bias}
    for more in by_head:
        made, _ = decoding.attend(module, query, key, value, **more)
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-6)


def test_the_attention_of_the_model_is_put_back(loaded: LoadedModel) -> None:
    before = loaded.model.config._attn_implementation
    with decoding.attending(loaded.model):
        assert loaded.model.config._attn_implementation == decoding.NAME
    assert loaded.model.config._attn_implementation == before
    with contextlib.suppress(KeyError), decoding.attending(loaded.model):
        raise KeyError
    assert loaded.model.config._attn_implementation == before


def test_a_stop_token_as_the_last_one_counts_as_stopped(loaded: LoadedModel) -> None:
    (prompt,) = prompts_of([12])
    free = alone(loaded, prompt, 6, ())
    last = next(i for i, token in enumerate(free) if token not in free[:i] and i > 0)
    (answer,) = local.generate(loaded, [prompt], max_new_tokens=last + 1, stop_ids=(free[last],))
    assert answer.stopped
    assert answer.ids == free[:last]
    assert answer.new_tokens == last + 1
    (cut,) = local.generate(loaded, [prompt], max_new_tokens=last, stop_ids=(free[last],))
    assert not cut.stopped
    assert cut.new_tokens == last


def test_progress_grows_and_ends_at_the_number_of_rows(loaded: LoadedModel) -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append):
        answers = local.generate(
            loaded, prompts_of([9, 8, 7]), max_new_tokens=20, stop_ids=(), batch_size=2
        )
    told = [event["done"] for event in heard if event["kind"] == "progress"]
    assert told == sorted(told)
    assert told[-1] == 3
    assert len(told) > 3
    assert all(event["task"] == "answering" for event in heard)
    assert all(answer.latency_s > 0 for answer in answers)


def test_no_prompts_give_no_answers(loaded: LoadedModel) -> None:
    assert local.generate(loaded, [], max_new_tokens=4, stop_ids=()) == []


@pytest.mark.parametrize(
    ("prompts", "tokens", "message"),
    [
        ([[5], []], 4, "prompt 1 has no tokens"),
        ([[5] * 500], 13, "do not fit"),
        ([[5]], 0, "at least one token"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    loaded: LoadedModel, prompts: list[list[int]], tokens: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        local.generate(loaded, prompts, max_new_tokens=tokens, stop_ids=())


def test_a_stream_gives_the_same_tokens_as_a_batch(loaded: LoadedModel) -> None:
    prompts = prompts_of([12, 30, 7])
    stop = stops_that_happen(loaded, prompts, 16)
    answers = local.generate(loaded, prompts, max_new_tokens=16, stop_ids=stop)
    for prompt, answer in zip(prompts, answers, strict=True):
        streamed = local.stream(loaded, prompt, max_new_tokens=16, stop_ids=stop)
        assert list(streamed) == answer.ids


def test_a_stream_refuses_before_its_first_token(loaded: LoadedModel) -> None:
    with pytest.raises(ModelError, match="no tokens"):
        local.stream(loaded, [], max_new_tokens=4, stop_ids=())


def test_a_recurrent_model_is_answered_row_by_row_and_says_so(loaded: LoadedModel) -> None:
    from transformers import Lfm2Config, Lfm2ForCausalLM

    torch.manual_seed(0)
    config = Lfm2Config(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention"],
    )
    hybrid = LoadedModel(Lfm2ForCausalLM(config).eval(), loaded.tokenizer, loaded.files, "float32")
    assert not decoding.can_batch(hybrid.model)
    assert len(DynamicCache(config=config).layers) == 2
    prompts = prompts_of([6, 11])
    heard: list[events.Event] = []
    with events.listening(heard.append):
        answers = local.generate(hybrid, prompts, max_new_tokens=5, stop_ids=())
    assert [answer.ids for answer in answers] == [
        alone(hybrid, prompt, 5, ()) for prompt in prompts
    ]
    assert [e["text"] for e in heard if e["kind"] == "note"] == [
        "Lfm2ForCausalLM is run one row at a time"
    ]


def test_ties_go_to_the_smaller_id() -> None:
    logits = torch.zeros(64, 5000, dtype=torch.bfloat16)
    logits[:, 777] = 1
    logits[:, 4096] = 1
    assert set(logits.max(-1).indices.tolist()) == {777}
