"""Counted lengths are the lengths of what is rendered, and so are the refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers

from nexa.core.errors import TemplateError
from nexa.lm import chat_lengths, plain_text
from nexa.lm.chat import ChatTemplate
from nexa.lm.chat_lengths import Lengths
from tests.lm.templates import CHATML, FORMATS, LLAMA3, MISTRAL, NONE, Format, tokenizer_for

Conversation = list[dict[str, str]]

# Line ends that join: the beginning of an answer may become one token with its prompt's end.
MERGES = (("Ċ", "Ġ"), ("Ġ", "Ġ"), ("Ġ", "a"), ("s", "s"))
TEMPLATES = {
    name: ChatTemplate(tokenizer_for(form, merges=MERGES)) for name, form in FORMATS.items()
}
PIECES = (
    "a",
    "Eisen ",
    "äöü",
    "鉄",
    "\n",
    "  ",
    "\t",
    "1811.0",
    "🙂",
    "é",
    "s",
    ".",
    "<|im_",
    "{}",
)
SPECIAL = ("<|im_end|>", "<|im_start|>", "</s>", "[INST]", "<|eot_id|>", "<end_of_turn>", "q0x0z")
CONTENTS = st.lists(st.sampled_from(PIECES + SPECIAL), max_size=8).map("".join)
ROLES = st.lists(st.sampled_from(["system", "user", "assistant", "tool"]), max_size=5)


def rendered(template: ChatTemplate, conversations: list[Conversation]) -> list[int | str]:
    """What counting stands for: every conversation rendered whole."""
    found = template.render_each(conversations)
    return [r.what if isinstance(r, TemplateError) else len(r.ids) for r in found]


def counted(template: ChatTemplate, conversations: list[Conversation]) -> list[int | str]:
    found = template.lengths(conversations)
    return [r.what if isinstance(r, TemplateError) else r for r in found]


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    usual = st.just(["user", "assistant"])
    roles = draw(st.one_of(usual, st.just(["system", "user", "assistant"]), ROLES))
    return [{"role": role, "content": draw(CONTENTS)} for role in roles]


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, deadline=None)
@given(st.lists(conversations(), max_size=6))
def test_lengths_are_those_of_the_rendered_ids(name: str, rows: list[Conversation]) -> None:
    assert counted(TEMPLATES[name], rows) == rendered(TEMPLATES[name], rows)


def chat(*said: str) -> Conversation:
    roles = ("user", "assistant") * len(said)
    return [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]


def learnt(form: Format, rows: list[Conversation]) -> Lengths:
    """What was learnt of the template while rows were counted, which came out right."""
    template = ChatTemplate(tokenizer_for(form, merges=MERGES))
    assert counted(template, rows) == rendered(template, rows)
    return template._lengths


def test_a_template_that_only_writes_is_rendered_once_an_order_of_roles() -> None:
    rows = [chat("a", "b"), chat("c\n", "d "), chat("a", "b", "c", "d")]
    lengths = learnt(CHATML, rows)
    assert [pattern is not None for pattern in lengths._patterns.values()] == [True, True]


def test_turns_that_a_template_trims_are_trimmed() -> None:
    trimming = str(CHATML.template).replace("+ m.content", "+ m.content | trim")
    form = replace(CHATML, template=trimming, trims=True)
    lengths = learnt(form, [chat("  a\n", "b  "), chat("a", "b")])
    (pattern,) = lengths._patterns.values()
    assert pattern is not None
    assert pattern.trims == (True, True)


@pytest.mark.parametrize("form", [LLAMA3, NONE, MISTRAL], ids=["filters", "no mark", "spaces"])
def test_what_cannot_be_put_together_is_rendered(form: Format) -> None:
    rows = [chat("a", "b"), chat("  a", "b\n"), chat(" ", " x"), chat("<s>", "</s>")]
    learnt(form, rows)


def test_an_answer_that_joins_the_prompt_is_refused() -> None:
    learnt(CHATML, [chat("a", "\nb"), chat("a", "  b"), chat("a", "b")])


def test_rows_that_are_not_two_texts_a_turn_are_rendered() -> None:
    template = ChatTemplate(tokenizer_for(CHATML))
    named = [{**message, "name": "x"} for message in chat("a", "b")]
    number = [{"role": "user", "content": 1}, {"role": "assistant", "content": "b"}]
    text = list(plain_text.as_messages("alone"))
    rows: list[Conversation] = [named, number, text, [], chat("a", "b")]  # type: ignore[list-item]
    assert counted(template, rows) == rendered(template, rows)


def test_orders_of_roles_that_are_one_too_many_or_too_long_are_rendered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chat_lengths, "MOST_PATTERNS", 1)
    rows = [chat("a", "b"), chat("a", "b", "c", "d"), chat(*["a", "b"] * 40)]
    assert len(learnt(CHATML, rows)._patterns) == 1


def test_a_tokenizer_that_was_left_padding_texts_pads_none_here() -> None:
    tokenizer = tokenizer_for(CHATML)
    template = ChatTemplate(tokenizer)
    tokenizer.backend_tokenizer.enable_padding()  # type: ignore[attr-defined]
    rows = [chat("a", "b"), chat("a b c", "d")]
    assert counted(template, rows) == rendered(template, rows)


@pytest.mark.parametrize("option", ["lstrip", "rstrip"])
def test_special_tokens_that_take_blanks_along_are_left_to_the_tokenizer(option: str) -> None:
    template = ChatTemplate(tokenizer_for(CHATML, options={option: True}))
    rows = [chat("a ", " b"), chat(" a", "b ")]
    assert counted(template, rows) == rendered(template, rows)


def test_tokens_that_are_looked_for_in_normalised_text_are_left_to_the_tokenizer() -> None:
    tokenizer = tokenizer_for(CHATML)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[attr-defined]
    tokenizer.add_tokens([AddedToken("iron", normalized=True)])
    template = ChatTemplate(tokenizer)
    rows = [chat("Iron IRON", "iron"), chat("a", "b")]
    assert counted(template, rows) == rendered(template, rows)


ODD = {
    "twice": "{{ m.content + ' ' + m.content if m.role == 'user' else m.content }}",
    "first": "{{ m.content + ('!' if loop.first else '') }}",
}


@pytest.mark.parametrize("body", ODD.values(), ids=list(ODD))
def test_a_template_of_its_own_kind_is_counted_too(body: str) -> None:
    template = str(CHATML.template).replace(
        "{{ m.role + '\n' + m.content }}", f"{{{{ m.role + '\n' }}}}{body}"
    )
    learnt(replace(CHATML, template=template), [chat("a", "b"), chat("a", "b", "c", "d")])


def test_a_template_whose_prompts_end_unlike_each_other_is_rendered() -> None:
    template = str(CHATML.template).replace(
        "{{ m.role +", "{{ ('A' if loop.index0 == 1 else m.role) +"
    )
    template = template.replace(
        "assistant{{ '\n' }}", "{{ 'A' if messages | length == 1 else 'assistant' }}{{ '\n' }}"
    )
    learnt(replace(CHATML, template=template), [chat("a", "b"), chat("a", "b", "c", "d")])
