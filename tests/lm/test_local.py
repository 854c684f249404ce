from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
import torch
from transformers import DynamicCache

from nexa.core import events
from nexa.core.errors import MissingExtra, ModelError
from nexa.lm import decoding, local
from nexa.lm.fused import AnyModel, FusedModel
from nexa.lm.gguf_run import GgufRun
from nexa.lm.llama_cpp import available
from nexa.lm.load import LoadedModel, load
from nexa.lm.local import Engine
from nexa.lm.resolve import ModelFiles, resolve
from tests.lm import lively
from tests.lm.gguf_models import write_gguf
from tests.lm.lively import prompts_of, write_lively
from tests.support.tiny import ARCHITECTURES

ENGINES: tuple[Engine, ...] = ("fused", "transformers")
needs_llama_cpp = pytest.mark.skipif(available() is not None, reason=str(available()))


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return write_lively(tmp_path / "lively")


@pytest.fixture
def loaded(files: ModelFiles) -> LoadedModel:
    return load(files, dtype="float32")


@pytest.fixture(params=ENGINES)
def either(files: ModelFiles, loaded: LoadedModel, request: pytest.FixtureRequest) -> AnyModel:
    """The lively model, loaded for one engine and then for the other."""
    return local.open_model(files, dtype="float32", engine=request.param)


def alone(loaded: LoadedModel, prompt: list[int], n: int, stop: tuple[int, ...]) -> list[int]:
    return lively.alone(loaded.model, prompt, n, stop)


def stops_that_happen(loaded: LoadedModel, prompts: list[list[int]], n: int) -> tuple[int, ...]:
    return lively.stops_that_happen(loaded.model, prompts, n)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_batch_answers_as_each_prompt_alone(
    tmp_path: Path, architecture: str, engine: Engine
) -> None:
    files = write_lively(tmp_path / architecture, architecture)
    loaded = load(files, dtype="float32")
    prompts = prompts_of([5, 40, 1, 17, 17, 33, 2, 64])
    stop = stops_that_happen(loaded, prompts, 24)
    asked = local.open_model(files, dtype="float32", engine=engine)
    answers = local.generate(asked, prompts, max_new_tokens=24, stop_ids=stop, batch_size=5)
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


def test_auto_takes_the_fused_decoder_where_it_computes_the_model(files: ModelFiles) -> None:
    assert local.choose(files, dtype="bfloat16") == local.Choice(
        "fused", "it computes llama in bfloat16"
    )
    assert isinstance(local.open_model(files), FusedModel)
    asked = local.choose(files, dtype="bfloat16", engine="transformers")
    assert asked == local.Choice("transformers", "asked for")


def test_what_the_fused_decoder_cannot_answer_goes_to_transformers_and_says_so(
    files: ModelFiles,
) -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append):
        opened = local.open_model(files, dtype="float16")
        local.open_model(files, dtype="float16", engine="transformers")
    assert isinstance(opened, LoadedModel)
    reason = local.choose(files, dtype="float16").reason
    assert reason == "the fused decoder computes in bfloat16 or float32, not in float16"
    assert [e["text"] for e in heard if e["kind"] == "note"] == [
        f"{files.name} is answered by transformers: {reason}"
    ]


def test_models_that_are_compared_are_answered_by_one_engine(
    tmp_path: Path, files: ModelFiles
) -> None:
    near = write_lively(tmp_path / "qwen", "qwen3")
    assert local.common_engine([files, near], dtype="float32") == "auto"
    strange = write_lively(tmp_path / "gelu", hidden_act="gelu")
    assert local.common_engine([strange, strange], dtype="float32") == "auto"
    assert local.common_engine([files, strange], dtype="float32") == "transformers"


def test_an_engine_that_was_asked_for_is_never_another(files: ModelFiles) -> None:
    with pytest.raises(ModelError, match=r"cannot answer(.|\n)*not in float16"):
        local.open_model(files, dtype="float16", engine="fused")


def test_a_sliding_window_is_kept(tmp_path: Path) -> None:
    loaded = load(write_lively(tmp_path / "mistral", "mistral"), dtype="float32")
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


def test_a_stop_token_as_the_last_one_counts_as_stopped(
    loaded: LoadedModel, either: AnyModel
) -> None:
    (prompt,) = prompts_of([12])
    free = alone(loaded, prompt, 6, ())
    last = next(i for i, token in enumerate(free) if token not in free[:i] and i > 0)
    (answer,) = local.generate(either, [prompt], max_new_tokens=last + 1, stop_ids=(free[last],))
    assert answer.stopped
    assert answer.ids == free[:last]
    assert answer.new_tokens == last + 1
    (cut,) = local.generate(either, [prompt], max_new_tokens=last, stop_ids=(free[last],))
    assert not cut.stopped
    assert cut.new_tokens == last


def test_progress_grows_and_ends_at_the_number_of_rows(either: AnyModel) -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append):
        answers = local.generate(
            either, prompts_of([9, 8, 7]), max_new_tokens=20, stop_ids=(), batch_size=2
        )
    told = [event["done"] for event in heard if event["kind"] == "progress"]
    assert told == sorted(told)
    assert told[-1] == 3
    assert len(told) > 3
    assert all(event["task"] == "answering" for event in heard)
    assert all(answer.latency_s > 0 for answer in answers)


def test_no_prompts_give_no_answers(either: AnyModel) -> None:
    assert local.generate(either, [], max_new_tokens=4, stop_ids=()) == []


@pytest.mark.parametrize(
    ("prompts", "tokens", "message"),
    [
        ([[5], []], 4, "prompt 1 has no tokens"),
        ([[5] * 500], 13, "do not fit"),
        ([[5]], 0, "at least one token"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    either: AnyModel, prompts: list[list[int]], tokens: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        local.generate(either, prompts, max_new_tokens=tokens, stop_ids=())


def test_a_stream_gives_the_same_tokens_as_a_batch(loaded: LoadedModel, either: AnyModel) -> None:
    prompts = prompts_of([12, 30, 7])
    stop = stops_that_happen(loaded, prompts, 16)
    answers = local.generate(either, prompts, max_new_tokens=16, stop_ids=stop)
    for prompt, answer in zip(prompts, answers, strict=True):
        streamed = local.stream(either, prompt, max_new_tokens=16, stop_ids=stop)
        assert list(streamed) == answer.ids


def test_gradients_may_be_made_between_two_tokens_of_a_stream(either: AnyModel) -> None:
    streamed = local.stream(either, prompts_of([4])[0], max_new_tokens=3, stop_ids=())
    next(streamed)
    assert torch.is_grad_enabled()
    assert len(list(streamed)) == 2


def test_a_stream_refuses_before_its_first_token(either: AnyModel) -> None:
    with pytest.raises(ModelError, match="no tokens"):
        local.stream(either, [], max_new_tokens=4, stop_ids=())


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


# -- GGUF files under llama.cpp ------------------------------------------------------------------


@pytest.fixture
def gguf(files: ModelFiles, tmp_path: Path) -> ModelFiles:
    """The lively model as a GGUF file."""
    write_gguf(tmp_path / "m.gguf", files.folder)
    return resolve(str(tmp_path / "m.gguf"))


def noted(models: list[ModelFiles], engine: Engine = "auto") -> tuple[Engine, list[str]]:
    heard: list[events.Event] = []
    with events.listening(heard.append):
        chosen = local.common_engine(models, dtype="bfloat16", engine=engine)
    return chosen, [event["text"] for event in heard]


@needs_llama_cpp
def test_llama_cpp_answers_as_the_others_do(loaded: LoadedModel, gguf: ModelFiles) -> None:
    prompts = prompts_of([12, 30, 7])
    stop = stops_that_happen(loaded, prompts, 16)
    run = local.open_model(gguf, engine="llama.cpp")
    assert isinstance(run, GgufRun)
    answers = local.generate(run, prompts, max_new_tokens=16, stop_ids=stop)
    expected = [alone(loaded, prompt, 16, stop) for prompt in prompts]
    assert [answer.ids for answer in answers] == expected
    streamed = list(local.stream(run, prompts[0], max_new_tokens=16, stop_ids=stop))
    assert streamed == expected[0]
    assert local.generate(run, [], max_new_tokens=4, stop_ids=()) == []
    with pytest.raises(ModelError, match=r"500 \+ 13 tokens, m.gguf has room for 512"):
        local.generate(run, [[5] * 500], max_new_tokens=13, stop_ids=())
    local.close_model(run)
    local.close_model(loaded)  # does nothing


def test_llama_cpp_is_never_taken_unasked(gguf: ModelFiles) -> None:
    assert local.choose(gguf, dtype="bfloat16").engine == "fused"
    assert isinstance(local.open_model(gguf), FusedModel)


@needs_llama_cpp
def test_gguf_files_that_a_user_names_are_run_as_they_are_and_that_is_told(
    gguf: ModelFiles,
) -> None:
    chosen, [note] = noted([gguf, gguf])
    assert chosen == "llama.cpp"
    assert note.startswith("m.gguf, m.gguf: answered by llama.cpp, xllamacpp 20")
    choice = local.choose(gguf, dtype="bfloat16", engine=chosen)
    assert choice == local.Choice("llama.cpp", "it runs m.gguf as it is")


def test_beside_other_models_a_gguf_file_is_dequantised_and_that_is_told(
    files: ModelFiles, gguf: ModelFiles
) -> None:
    assert noted([files, gguf]) == (
        "auto",
        [
            "m.gguf: dequantised and answered by torch: so that all models are answered alike, "
            "and not all are GGUF files"
        ],
    )
    assert noted([files, gguf], "transformers") == ("transformers", [])
    with pytest.raises(ModelError, match=r"llama.cpp runs GGUF files, and lively is none"):
        noted([gguf, files], "llama.cpp")


def test_without_the_package_a_gguf_file_is_dequantised_and_that_is_told(
    gguf: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    chosen, [note] = noted([gguf])
    assert chosen == "auto"
    assert "answered by torch: the package xllamacpp is not installed (pip install" in note
    with pytest.raises(MissingExtra, match=r"\[gguf\]"):
        noted([gguf], "llama.cpp")
