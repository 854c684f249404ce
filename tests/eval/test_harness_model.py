"""Nexa's models behind lm-eval's questions, against lm-eval's own model on transformers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from nexa.core.errors import EvalError
from nexa.core.events import Event, listening
from nexa.eval.harness_model import HarnessModel, as_lm
from nexa.lm.fused import load_fused
from nexa.lm.llama_cpp import available
from nexa.lm.load import load
from nexa.lm.local import open_model
from nexa.lm.resolve import resolve
from tests.eval.harnessed import with_bos, write_model
from tests.lm.gguf_models import write_gguf
from tests.support.project import notes
from tests.support.tiny import CHATML, tiny_tokenizer

PAIRS = [
    ("Question: what?\nAnswer:", " iron"),
    ("Question: what? ", "copper"),  # the blank belongs to the continuation
    ("", "gold and lead"),
    ("The density", " of iron is 7.87 grams per cubic centimetre."),
]
TEMPLATED = "<|endoftext|>" + CHATML  # writes the token that its tokenizer puts there as well


@dataclasses.dataclass
class Asked:
    """A request, as far as models look at it."""

    args: tuple[Any, ...]


def asked(*requests: tuple[Any, ...]) -> list[Asked]:
    return [Asked(request) for request in requests]


def until(*stops: str, **more: Any) -> dict[str, Any]:
    return {"until": list(stops), "max_gen_toks": 8, **more}


def generic(folder: Path, **options: Any) -> HarnessModel:
    return HarnessModel(load(resolve(str(folder)), dtype="float32"), **options)


def fused(folder: Path, **options: Any) -> HarnessModel:
    return HarnessModel(load_fused(resolve(str(folder)), dtype="float32"), **options)


def theirs(folder: Path) -> Any:
    """lm-eval's own model."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), dtype="float32", batch_size=1, device="cpu")


def requests_of(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, args, i, ("t", i, 1)) for i, args in enumerate(arguments)]  # type: ignore[arg-type]


@pytest.fixture(params=["plain", "adds_bos", "adds_and_writes_bos"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tokenizers: dict[str, PreTrainedTokenizerFast] = {
        "plain": tiny_tokenizer(),
        "adds_bos": with_bos(),
        "adds_and_writes_bos": with_bos(chat_template=TEMPLATED),
    }
    return write_model(tmp_path / "model", tokenizer=tokenizers[request.param])


def test_likelihoods_and_answers_are_those_of_lm_eval_s_own_model(folder: Path) -> None:
    their = theirs(folder)
    turns = [{"role": "user", "content": "Which metal?"}]
    templated = their.apply_chat_template(turns)
    pairs = [*PAIRS, (templated, "iron")]
    wanted = their.loglikelihood(requests_of("loglikelihood", pairs), disable_tqdm=True)
    texts = [("Question: what?", until("q", "\n")), (templated, until("\n\n"))]
    answers = their.generate_until(requests_of("generate_until", texts), disable_tqdm=True)
    for make in (generic, fused):
        for size in (1, 3):
            ours = make(folder, batch_size=size)
            assert ours.apply_chat_template(turns) == templated
            found = ours.loglikelihood(asked(*pairs))
            for (nats, greedy), (their_nats, their_greedy) in zip(found, wanted, strict=True):
                assert nats == pytest.approx(their_nats, abs=1e-3)
                assert greedy == their_greedy
            assert ours.generate_until(asked(*texts)) == answers


def test_a_prompt_has_one_bos_whoever_writes_it(tmp_path: Path) -> None:
    model = generic(write_model(tmp_path / "m", tokenizer=with_bos(chat_template=TEMPLATED)))
    templated = model.apply_chat_template([{"role": "user", "content": "hello"}])
    assert templated.startswith("<|endoftext|>")
    for text in ("hello", templated):
        ids = model.prompt_ids(Asked((text,)))
        assert (ids[0], ids.count(0)) == (0, 1)
    with pytest.raises(EvalError, match="2 beginning-of-text tokens, not 1"):
        model.prompt_ids(Asked(("<|endoftext|>" + templated,)))


def test_a_whole_text_is_weighed_after_one_bos(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    text = "The density of iron is 7.87 grams per cubic centimetre. " * 12
    [wanted] = theirs(folder).loglikelihood_rolling(
        requests_of("loglikelihood_rolling", [(text,)]), disable_tqdm=True
    )
    for make in (generic, fused):
        model = make(folder, batch_size=2)
        [found] = model.loglikelihood_rolling(asked((text,)))
        assert found == pytest.approx(wanted, abs=1e-2)
    with_one = generic(write_model(tmp_path / "b", tokenizer=with_bos()))
    assert with_one.loglikelihood_rolling(asked(("",))) == [0]
    # The first token is predicted from the one beginning-of-text token, which is not predicted.
    [short] = with_one.loglikelihood_rolling(asked(("iron",)))
    [(nats, _)] = with_one.loglikelihood(asked(("", "iron")))
    assert short == pytest.approx(nats, abs=1e-5)


def test_a_text_that_begins_with_the_prefix_is_not_given_another(tmp_path: Path) -> None:
    model = generic(write_model(tmp_path / "m"))
    [with_prefix, without] = model.loglikelihood(asked(("", "<|im_end|>iron"), ("", "iron")))
    assert with_prefix == without


def test_what_is_too_long_is_cut_at_its_beginning_and_told_once(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    their = theirs(folder)
    long = "iron and copper and gold " * 60
    events: list[Event] = []
    ours = fused(folder)
    with listening(events.append):
        found = ours.loglikelihood(asked((long, "lead"), (long, "zinc")))
        answers = ours.generate_until(asked((long, until("q"))))
    wanted = their.loglikelihood(
        requests_of("loglikelihood", [(long, "lead"), (long, "zinc")]), disable_tqdm=True
    )
    assert [nats for nats, _ in found] == pytest.approx([nats for nats, _ in wanted], abs=1e-3)
    texts = requests_of("generate_until", [(long, until("q"))])
    assert answers == their.generate_until(texts, disable_tqdm=True)
    assert len([note for note in notes(events) if "cut at its beginning" in note]) == 1
    assert ours.cut_tokens > 1000


@pytest.mark.parametrize(
    ("pair", "complaint"),
    [
        (("context", ""), "a continuation of 0 tokens"),
        (("", "<|im_end|>"), "a continuation of 0 tokens"),
        (("c", "iron " * 600), "cannot be weighed"),
    ],
)
def test_a_continuation_that_cannot_be_weighed_is_refused(
    tmp_path: Path, pair: tuple[str, str], complaint: str
) -> None:
    with pytest.raises(EvalError, match=complaint):
        generic(write_model(tmp_path / "m")).loglikelihood(asked(pair))


@pytest.mark.parametrize(
    ("kwargs", "found"),
    [
        ({"do_sample": True}, "do_sample"),
        ({"temperature": 0.7}, "temperature above 0"),
        ({"num_beams": 4}, "num_beams"),
    ],
)
def test_answers_that_are_not_the_likeliest_are_refused(
    tmp_path: Path, kwargs: dict[str, Any], found: str
) -> None:
    with pytest.raises(EvalError, match="not simply the likeliest") as caught:
        generic(write_model(tmp_path / "m")).generate_until(asked(("hello", kwargs)))
    assert found in (caught.value.found or "")


def test_an_answer_without_room_for_its_prompt_is_refused(tmp_path: Path) -> None:
    model = generic(write_model(tmp_path / "m"))
    with pytest.raises(EvalError, match="leaves a prompt no room"):
        model.generate_until(asked(("hello", {"max_gen_toks": 600, "until": "x"})))


def test_requests_that_are_asked_unlike_are_in_no_batch_together(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    texts = [(f"text {i}", until("q", max_gen_toks=3 + i // 2)) for i in range(5)]
    alone = generic(folder).generate_until(asked(*texts))
    model = generic(folder, batch_size=2)
    assert model.generate_until(asked(*texts)) == alone
    assert [response.new_tokens for response in model.responses][:2] == [3, 3]
    assert model.generate_until([]) == []


def test_a_stop_text_ends_an_answer_and_is_not_in_it(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    model = generic(folder)
    [whole] = model.generate_until(asked(("hello", {"max_gen_toks": 12})))
    assert not model.responses[0].stopped
    stop = whole[4:6]
    for size in (1, 2):
        short = generic(folder, batch_size=size)
        assert short.generate_until(asked(("hello", until(stop, max_gen_toks=12)))) == [
            whole.split(stop)[0]
        ]
        assert short.responses[0].stopped


def test_a_model_without_a_chat_template_is_told(tmp_path: Path) -> None:
    model = generic(write_model(tmp_path / "m", tokenizer=tiny_tokenizer(chat_template=None)))
    with pytest.raises(EvalError, match="has no chat template"):
        model.apply_chat_template([{"role": "user", "content": "hello"}])


def test_a_template_that_takes_no_system_message_gets_none_and_says_so(tmp_path: Path) -> None:
    strict = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    )
    model = generic(write_model(tmp_path / "m", tokenizer=tiny_tokenizer(chat_template=strict)))
    turns = [{"role": "system", "content": "be"}, {"role": "user", "content": "hello"}]
    events: list[Event] = []
    with listening(events.append):
        text = model.apply_chat_template(turns)
    assert "be" not in text
    assert any("takes no system message" in note for note in notes(events))


def test_lm_eval_takes_it_for_one_of_its_models(tmp_path: Path) -> None:
    from lm_eval.api.model import LM

    model = generic(write_model(tmp_path / "m"))
    lm = as_lm(model)
    assert isinstance(lm, LM)
    assert lm.tokenizer_name == model.loaded.files.digest
    assert lm.loglikelihood(asked(("a", "b"))) == model.loglikelihood(asked(("a", "b")))
    assert lm.loglikelihood_rolling(asked(("ab",))) == model.loglikelihood_rolling(asked(("ab",)))
    text = asked(("a", until("q")))
    assert lm.generate_until(text) == model.generate_until(text)
    turns = [{"role": "user", "content": "hello"}]
    assert lm.apply_chat_template(turns) == model.apply_chat_template(turns)


@pytest.mark.skipif(available() is not None, reason="llama.cpp is not installed")
def test_llama_cpp_weighs_and_answers_like_torch(tmp_path: Path, tiny_llama: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama)
    files = resolve(str(tmp_path / "m.gguf"))
    opened = open_model(files, engine="llama.cpp")
    try:
        ours = HarnessModel(opened)
        torch = HarnessModel(load(files, dtype="float32"))
        pairs = asked(*PAIRS[:2])
        for (nats, greedy), (wanted, same) in zip(
            ours.loglikelihood(pairs), torch.loglikelihood(pairs), strict=True
        ):
            assert nats == pytest.approx(wanted, abs=0.05)
            assert greedy == same
        assert ours.generate_until(asked(("hello", until("q")))) != []
    finally:
        opened.close()  # type: ignore[union-attr]
