from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import ModelError
from nexa.lm.local import generate
from nexa.orchestrate.chat import Conversation, pieces
from tests.support.project import Finished
from tests.support.tiny import tiny_tokenizer


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
