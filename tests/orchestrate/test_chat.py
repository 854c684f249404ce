from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nexa.core.errors import ModelError
from nexa.core.events import Event, listening
from nexa.lm.gguf_run import GgufRun
from nexa.lm.llama_cpp import available
from nexa.lm.local import generate
from nexa.orchestrate.chat import Conversation, pieces
from nexa.weights.gguf.write import write_gguf as write_k_quants
from tests.lm.gguf_models import write_gguf
from tests.support.project import Finished, notes
from tests.support.tiny import tiny_tokenizer
from tests.weights.gguf.folders import write_folder


def test_an_answer_comes_in_pieces_and_is_the_greedy_one(
    project: Finished, tiny_llama: Path
) -> None:
    talk = Conversation.open(str(tiny_llama), project=project.root, limit=12)
    pieces = list(talk.answer("The value of iron12?"))
    prompt = talk.template.prompt([{"role": "user", "content": "The value of iron12?"}])
    [whole] = generate(
        talk.loaded, [prompt], max_new_tokens=12, stop_ids=talk.template.stop_ids, batch_size=1
    )
    assert "".join(pieces) == talk.loaded.tokenizer.decode(whole.ids, skip_special_tokens=True)
    assert len(pieces) > 1


def test_turns_add_up_and_a_later_one_sees_the_earlier_ones(
    project: Finished, tiny_llama: Path
) -> None:
    talk = Conversation.open(
        str(tiny_llama), project=project.root, system="Answer in JSON.", limit=4
    )
    first = "".join(talk.answer("One?"))
    second = "".join(talk.answer("Two?"))
    assert talk.messages == [
        {"role": "system", "content": "Answer in JSON."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": second},
    ]
    fresh = Conversation.open(str(tiny_llama), project=project.root, limit=4)
    prompts = (fresh.template.prompt(m) for m in (talk.messages[:4], talk.messages[3:4]))
    assert len(next(prompts)) > len(next(prompts))


def test_what_a_run_made_may_be_talked_to(project: Finished) -> None:
    talk = Conversation.open("latest", project=project.root, limit=3)
    assert talk.loaded.files.origin.startswith("export:")
    assert list(talk.answer("Hello"))


def test_a_character_of_several_tokens_comes_whole() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer("is 5 \N{SNOWMAN}\N{DEGREE SIGN}!")["input_ids"]
    shown = list(pieces(ids, tokenizer))
    assert "".join(shown) == "is 5 \N{SNOWMAN}\N{DEGREE SIGN}!"
    assert shown[-3:] == ["\N{SNOWMAN}", "\N{DEGREE SIGN}", "!"]
    assert len(shown) < len(ids)


def test_a_character_that_is_cut_off_is_shown_as_such() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer("5 \N{SNOWMAN}")["input_ids"]
    assert "".join(pieces(ids[:-1], tokenizer)) == "5 \N{REPLACEMENT CHARACTER}"
    assert list(pieces([], tokenizer)) == []


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        Conversation.open("nothing-of-that-name", project=tmp_path)


@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_a_gguf_file_may_be_talked_to(tiny_llama: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama)
    events: list[Event] = []
    with listening(events.append):
        talk = Conversation.open(str(tmp_path / "m.gguf"), project=tmp_path, limit=12)
    assert any("m.gguf: answered by llama.cpp" in note for note in notes(events))
    assert isinstance(talk.loaded, GgufRun)
    told = "".join(talk.answer("The value of iron12?"))
    talk.close()
    other = Conversation.open(
        str(tmp_path / "m.gguf"), project=tmp_path, limit=12, engine="transformers"
    )
    assert not isinstance(other.loaded, GgufRun)
    assert talk.template.stop_ids == other.template.stop_ids
    assert told
    other.close()


@pytest.mark.skipif(available() is not None, reason="K-quants are written by xllamacpp")
def test_k_quants_are_answered_without_the_package_that_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "wide", hidden_size=256, intermediate_size=512, head_dim=64)
    write_k_quants(source, tmp_path / "m.gguf", quantization="q4_k_m", name="wide")
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    events: list[Event] = []
    with listening(events.append):
        talk = Conversation.open(str(tmp_path / "m.gguf"), project=tmp_path, limit=4)
        assert list(talk.answer("Hello"))
    assert talk.loaded.files.quantisation == "Q4_K"
    assert any("dequantised and answered by torch: the package" in note for note in notes(events))


def test_an_engine_that_cannot_answer_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"runs GGUF files, and tiny-llama is none"):
        Conversation.open(str(tiny_llama), project=tmp_path, engine="llama.cpp")
