"""A text is trained as a whole, begins and ends once, and is asked by its beginning."""

from __future__ import annotations

import pytest

from nexa.lm import plain_text
from nexa.lm.chat import ChatTemplate
from nexa.lm.plain_text import as_messages, is_text, question_of, wrapped
from tests.lm.templates import FORMATS, tokenizer_for


@pytest.mark.parametrize("name", FORMATS)
def test_all_of_a_text_is_trained_up_to_its_end(name: str) -> None:
    template = ChatTemplate(tokenizer_for(FORMATS[name]))
    tokenizer = template.tokenizer
    rendered = template.render(as_messages("Iron melts. ä"))
    assert rendered.trained == [True] * len(rendered.ids)
    assert rendered.answers == ((0, len(rendered.ids)),)
    assert rendered.ids[-1] == tokenizer.eos_token_id
    assert rendered.ids[-1] in template.stop_ids
    assert rendered.ids.count(tokenizer.eos_token_id) == 1
    decoded = str(tokenizer.decode(rendered.ids, clean_up_tokenization_spaces=False))
    assert decoded.endswith(f"Iron melts. ä{tokenizer.eos_token}")


@pytest.mark.parametrize("name", FORMATS)
def test_a_text_is_asked_by_its_beginning(name: str) -> None:
    template = ChatTemplate(tokenizer_for(FORMATS[name]))
    asked = template.prompt(as_messages("Iron melts"))
    assert template.render(as_messages("Iron melts")).ids == [
        *asked,
        template.tokenizer.eos_token_id,
    ]


def test_what_a_text_has_of_its_ends_is_not_doubled() -> None:
    tokenizer = tokenizer_for(FORMATS["llama3"])
    begin, end = str(tokenizer.bos_token), str(tokenizer.eos_token)
    adds = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    whole = wrapped("Iron.", tokenizer)
    assert whole == (begin if adds else "") + "Iron." + end
    assert wrapped(whole, tokenizer) == whole
    assert wrapped(whole + "\n", tokenizer) == whole + "\n"
    assert wrapped("Iron.", tokenizer, end=False) == whole.removesuffix(end)


def test_texts_are_told_from_conversations() -> None:
    assert is_text(as_messages("a"))
    assert not is_text([{"role": "user", "content": "a"}])
    assert not is_text([*as_messages("a"), *as_messages("b")])
    assert not is_text([])


@pytest.mark.parametrize(
    ("text", "asked", "wanted"),
    [
        ("one two three four five six", "one two three four", "five six"),
        (" one two ", "one", "two"),
        ("word", "", "word"),
        ("水銀は常温で液体である唯一の金属", "水銀は常温で液体であ", "る唯一の金属"),
    ],
)
def test_the_end_of_a_text_is_what_is_wanted(text: str, asked: str, wanted: str) -> None:
    begun, continued = question_of(text)
    assert (begun + continued).replace(" ", "") == text.replace(" ", "")
    assert abs(len(continued) - len(wanted)) <= 1
    assert bool(begun) == bool(asked)


def test_of_a_long_text_only_the_last_words_are_wanted() -> None:
    begun, continued = question_of("word " * 1000)
    assert abs(len(continued) - plain_text.MOST_WANTED) < 6
    assert len(begun) > 4000
