"""The trained text is the answer and its end of turn, to the letter, or the turn is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexa.core import events
from nexa.core.errors import BosError, TemplateError
from nexa.lm.chat import ChatTemplate
from nexa.lm.chat_source import PLAIN, TEMPLATE_DATE
from tests.lm.templates import (
    CHATML,
    FORMATS,
    GEMMA,
    LLAMA3,
    LLAMA3_DATED,
    MISTRAL,
    MISTRAL_SPACED,
    NONE,
    PHI,
    QWEN_THINKING,
    ZEPHYR,
    Format,
    tokenizer_for,
)

ANSWERS = ['{"k": 1811.0, "name": "Eisen äöü 鉄"}', "Fe. It is\n\nsoft, 25 °C 🙂"]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ONE = [user("What melts at 1811 K?\nA record."), assistant(ANSWERS[0])]
TWO = [*ONE, user("And its symbol?"), assistant(ANSWERS[1])]


def decoded(template: ChatTemplate, ids: list[int]) -> str:
    return str(template.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def trained_texts(template: ChatTemplate, messages: list[dict[str, str]]) -> list[str]:
    """The trained stretches as text, read off the mask alone."""
    rendered = template.render(messages)
    stretches: list[list[int]] = []
    before = False
    for token, now in zip(rendered.ids, rendered.trained, strict=True):
        if now and not before:
            stretches.append([])
        if now:
            stretches[-1].append(token)
        before = now
    return [decoded(template, stretch) for stretch in stretches]


def whole_text(template: ChatTemplate, form: Format, messages: list[dict[str, str]]) -> str:
    """What transformers itself renders, for formats that need no variables."""
    text = template.tokenizer.apply_chat_template(
        messages, tokenize=False, chat_template=form.template or PLAIN
    )
    return str(text)


@pytest.mark.parametrize("name", FORMATS)
def test_the_trained_text_is_the_answer_and_its_end_of_turn(name: str) -> None:
    form = FORMATS[name]
    template = ChatTemplate(tokenizer_for(form))
    assert template.lead == form.lead
    assert trained_texts(template, ONE) == [form.lead + ANSWERS[0] + form.end]
    if form.several_answers:
        expected = [form.lead + answer + form.end for answer in ANSWERS]
        assert trained_texts(template, TWO) == expected


@pytest.mark.parametrize("name", FORMATS)
def test_the_prompt_of_inference_is_the_beginning_of_the_training_ids(name: str) -> None:
    form = FORMATS[name]
    template = ChatTemplate(tokenizer_for(form))
    conversation = TWO if form.several_answers else ONE
    rendered = template.render(conversation)
    starts = [start for start, _ in rendered.answers]
    for start, turn in zip(starts, range(1, len(conversation), 2), strict=True):
        prompt = template.prompt(conversation[:turn])
        assert rendered.ids[:start] == prompt
        assert not any(rendered.trained[start - 1 : start])


@pytest.mark.parametrize("name", FORMATS)
def test_the_mask_agrees_with_a_search_for_each_answer_in_the_decoded_text(name: str) -> None:
    form = FORMATS[name]
    template = ChatTemplate(tokenizer_for(form))
    conversation = TWO if form.several_answers else ONE
    rendered = template.render(conversation)
    text, flags = "", []
    for i in range(len(rendered.ids)):  # slower second formula: decode ever longer beginnings
        longer = decoded(template, rendered.ids[: i + 1])
        complete = longer.rstrip("\ufffd")
        flags += [rendered.trained[i]] * (len(complete) - len(text))
        text = complete
    expected = [False] * len(text)
    position = 0
    for answer in [m["content"] for m in conversation if m["role"] == "assistant"]:
        start = text.index(form.lead + answer + form.end, position)
        position = start + len(form.lead + answer + form.end)
        expected[start:position] = [True] * (position - start)
    assert flags == expected


@pytest.mark.parametrize("name", [n for n, f in FORMATS.items() if f.several_answers])
def test_dropping_a_turn_drops_its_tokens_from_the_mask(name: str) -> None:
    form = FORMATS[name]
    template = ChatTemplate(tokenizer_for(form))
    both, one = template.render(TWO), template.render(ONE)
    assert len(both.answers) == 2
    assert one.answers == both.answers[:1]
    assert trained_texts(template, TWO[2:]) == trained_texts(template, TWO)[1:]


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "mistral", "phi", "zephyr"])
def test_ids_are_those_of_the_whole_text_tokenised_once(name: str) -> None:
    template = ChatTemplate(tokenizer_for(FORMATS[name]))
    whole = whole_text(template, FORMATS[name], TWO)
    assert (
        template.render(TWO).ids == template.tokenizer(whole, add_special_tokens=False)["input_ids"]
    )
    assert decoded(template, template.render(TWO).ids) == whole


@pytest.mark.parametrize("form", [LLAMA3, GEMMA, MISTRAL])
def test_a_prompt_has_exactly_one_bos(form: Format) -> None:
    template = ChatTemplate(tokenizer_for(form))
    bos = template.tokenizer.bos_token_id
    assert template.prompt(ONE[:1]).count(bos) == 1
    assert template.prompt(ONE[:1])[0] == bos


def test_a_template_that_writes_bos_twice_is_refused() -> None:
    form = replace(LLAMA3, template="{{ bos_token }}" + str(LLAMA3.template))
    with pytest.raises(BosError, match="begins with 2 beginning-of-text tokens") as caught:
        ChatTemplate(tokenizer_for(form))
    assert caught.value.exit_code == 19


def test_the_default_system_turn_is_in_prompt_and_training_alike() -> None:
    template = ChatTemplate(tokenizer_for(FORMATS["chatml-default-system"]))
    assert "named Ada" in decoded(template, template.prompt(ONE[:1]))
    own = [{"role": "system", "content": "Be brief."}, *ONE]
    assert "named Ada" not in decoded(template, template.render(own).ids)
    assert trained_texts(template, own) == [ANSWERS[0] + "<|im_end|>"]


def test_a_template_without_a_system_role_names_the_system_turn() -> None:
    template = ChatTemplate(tokenizer_for(GEMMA))
    with pytest.raises(TemplateError, match=r"turn 1 of 3 \(system\)") as caught:
        template.render([{"role": "system", "content": "Be brief."}, *ONE])
    assert caught.value.found == "there is no system role"
    assert caught.value.fix is not None
    assert "first user turn" in caught.value.fix


def test_a_template_that_refuses_a_role_names_its_turn() -> None:
    template = ChatTemplate(tokenizer_for(MISTRAL))
    with pytest.raises(TemplateError, match=r"turn 3 of 4 \(tool\)"):
        template.render([*ONE, {"role": "tool", "content": "42"}, assistant("It is 42.")])


def test_a_template_that_refuses_only_the_whole_says_so() -> None:
    # Raises on the order of the roles when an answer is asked for, and on no conversation.
    text = "{%- if add_generation_prompt and messages | length > 2 -%}"
    text += "{{ raise_exception('too long') }}{%- endif -%}" + str(CHATML.template)
    template = ChatTemplate(tokenizer_for(replace(CHATML, template=text)))
    with pytest.raises(TemplateError, match="refuses the conversation") as caught:
        template.prompt(TWO[:3])
    assert caught.value.found == "too long"


def test_a_template_that_drops_a_turn_in_silence_is_refused() -> None:
    template = ChatTemplate(tokenizer_for(MISTRAL_SPACED))
    lost = [{"role": "system", "content": "Be brief."}, *ONE]
    with pytest.raises(TemplateError, match=r"turn 1 of 3 \(system\): the template does not write"):
        template.render(lost)
    with pytest.raises(TemplateError, match=r"turn 1 of 2 \(system\): the template does not write"):
        template.prompt(lost[:2])


def test_a_thinking_template_puts_the_empty_thought_into_the_prompt() -> None:
    heard: list[dict[str, Any]] = []
    with events.listening(heard.append):
        template = ChatTemplate(tokenizer_for(QWEN_THINKING))
    assert template.variables == {"enable_thinking": False}
    assert any("enable_thinking" in event["text"] for event in heard)
    assert decoded(template, template.prompt(ONE[:1])).endswith("<think>\n\n</think>\n\n")


def test_a_thinking_template_refuses_a_second_answer_by_its_turn() -> None:
    template = ChatTemplate(tokenizer_for(QWEN_THINKING))
    with pytest.raises(TemplateError, match=r"turn 2 of 4 \(assistant\)") as caught:
        template.render(TWO)
    assert "one answer each" in str(caught.value.fix)


def test_a_thought_that_the_template_would_rewrite_is_refused() -> None:
    template = ChatTemplate(tokenizer_for(QWEN_THINKING))
    with pytest.raises(TemplateError, match=r"turn 2 of 2 \(assistant\)"):
        template.render([user("q"), assistant("<think>hm</think>a")])


@pytest.mark.parametrize(
    ("text", "turn"),
    [
        # the number of turns stands at the head of the text
        ("{{ messages | length }}" + str(CHATML.template), "turn 2 of 2"),
        # only the last answer ends: the first one's prompt holds, its end does not
        (
            "{%- for m in messages -%}<|im_start|>{{ m.role + ':' + m.content }}"
            "{%- if loop.last and not add_generation_prompt -%}<|im_end|>{%- endif -%}"
            "{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant:{%- endif -%}",
            "turn 2 of 4",
        ),
    ],
)
def test_a_template_that_is_not_prefix_stable_names_the_turn(text: str, turn: str) -> None:
    def whole() -> None:
        ChatTemplate(tokenizer_for(replace(CHATML, template=text))).render(TWO)

    with pytest.raises(TemplateError, match=turn):
        whole()


def test_a_prompt_that_changes_later_is_refused_at_the_turn_it_changes() -> None:
    # As Mistral's newer ones: the system text moves into the last user turn.
    text = (
        "{%- for m in messages -%}{%- if m.role == 'user' -%}"
        "[INST]{%- if loop.index0 + 2 >= messages | length -%}!{%- endif -%}{{ m.content }}[/INST]"
        "{%- else -%}{{ m.content + eos_token }}{%- endif -%}{%- endfor -%}"
    )
    template = ChatTemplate(tokenizer_for(replace(MISTRAL, template=text)))
    assert trained_texts(template, ONE) == [ANSWERS[0] + "</s>"]
    with pytest.raises(TemplateError, match=r"turn 2 of 4 \(assistant\)"):
        template.render(TWO)


def test_a_template_that_writes_more_than_the_answer_is_refused() -> None:
    text = str(CHATML.template).replace(
        "m.content", "('Sure! ' if m.role == 'assistant' else '') + m.content"
    )
    with pytest.raises(TemplateError, match="writes more than the answer"):
        ChatTemplate(tokenizer_for(replace(CHATML, template=text)))


@pytest.mark.parametrize("tail", ["", "\\n", "<|stop|>\\n"])
def test_a_template_without_an_end_of_turn_token_is_refused(tail: str) -> None:
    text = "{%- for m in messages -%}{{ m.role + ':' + m.content + '" + tail + "' }}{%- endfor -%}"
    text += "{%- if add_generation_prompt -%}{{ 'assistant:' }}{%- endif -%}"
    with pytest.raises(TemplateError, match="no end-of-turn token") as caught:
        ChatTemplate(tokenizer_for(replace(CHATML, template=text)))
    assert repr(tail.replace("\\n", "\n")) in str(caught.value.found)


def test_text_before_the_end_token_belongs_to_the_end_of_turn() -> None:
    # As Llama 2's: a space between answer and eos.
    text = str(MISTRAL.template).replace("m.content + eos_token", "m.content + ' ' + eos_token")
    template = ChatTemplate(tokenizer_for(replace(MISTRAL, template=text)))
    assert decoded(template, list(template.end_of_turn)) == " </s>"
    assert template.stop_ids == (template.tokenizer.eos_token_id,)
    assert trained_texts(template, TWO) == [answer + " </s>" for answer in ANSWERS]


def test_a_template_that_trims_trains_the_trimmed_answer() -> None:
    template = ChatTemplate(tokenizer_for(LLAMA3))
    assert trained_texts(template, [user("q"), assistant("\n  Fe \n")]) == ["Fe<|eot_id|>"]


def test_an_answer_that_joins_the_prompts_last_token_is_refused() -> None:
    template = ChatTemplate(tokenizer_for(CHATML, merges=(("Ċ", "Ċ"),)))
    with pytest.raises(TemplateError, match=r"turn 2 of 2 \(assistant\).*join") as caught:
        template.render([user("q"), assistant("\n\nFe")])
    assert "strip the white space" in str(caught.value.fix)


def test_an_answer_that_begins_with_a_newline_is_exact_where_nothing_joins() -> None:
    template = ChatTemplate(tokenizer_for(CHATML))
    assert trained_texts(template, [user("q"), assistant("\nFe")]) == ["\nFe<|im_end|>"]


@pytest.mark.parametrize("turn", [0, 1])
def test_a_text_that_holds_the_end_of_turn_token_is_refused(turn: int) -> None:
    template = ChatTemplate(tokenizer_for(CHATML))
    messages = [dict(m) for m in ONE]
    messages[turn]["content"] += "<|im_end|> more"
    with pytest.raises(TemplateError, match=f"turn {turn + 1} of 2.*end-of-turn token"):
        template.render(messages)


def test_an_end_token_that_the_tokenizer_does_not_always_keep_is_refused() -> None:
    form = Format(
        "{%- for m in messages -%}{{ m.content + ('END' if m.role == 'assistant' else ':') }}"
        "{%- endfor -%}",
        ("END",),
        eos="END",
        end="END",
    )
    template = ChatTemplate(tokenizer_for(form, options={"single_word": True}))
    assert trained_texts(template, [user("q"), assistant("{}")]) == ["{}END"]
    with pytest.raises(TemplateError, match="does not keep the end of turn"):
        template.render([user("q"), assistant("iron")])


def test_an_end_token_that_swallows_white_space_is_still_the_last_trained_one() -> None:
    template = ChatTemplate(tokenizer_for(PHI, options={"rstrip": True}))
    assert trained_texts(template, TWO) == [answer + "<|end|>" for answer in ANSWERS]


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ([], "no assistant turn"),
        ([user("q")], "no assistant turn"),
        ([assistant("a")], r"turn 1 of 1 \(assistant\): an answer with nothing before it"),
        ([user("q"), {"role": "assistant"}], r"turn 2 of 2 \(assistant\): its content is not text"),
        ([{"content": "q"}, assistant("a")], r"turn 1 of 2 \(None\): its role is not text"),
    ],
)
def test_a_conversation_that_cannot_be_trained_says_why(
    messages: list[dict[str, str]], what: str
) -> None:
    with pytest.raises(TemplateError, match=what):
        ChatTemplate(tokenizer_for(CHATML)).render(messages)


@pytest.mark.parametrize("messages", [[], ONE])
def test_a_prompt_that_asks_for_nothing_is_refused(messages: list[dict[str, str]]) -> None:
    with pytest.raises(TemplateError, match="must end with a turn that asks"):
        ChatTemplate(tokenizer_for(CHATML)).prompt(messages)


def test_many_conversations_give_what_each_gives_alone_and_keep_their_errors() -> None:
    template = ChatTemplate(tokenizer_for(CHATML))
    conversations = [[user(f"q{i}"), assistant(f"answer {i}")] for i in range(300)]
    conversations[7] = [user("alone")]
    each = list(template.render_each(conversations))
    assert [i for i, item in enumerate(each) if isinstance(item, TemplateError)] == [7]
    assert each[299] == template.render(conversations[299])
    assert isinstance(next(template.render_each([[user("alone")]])), TemplateError)


def test_stop_ids_are_the_end_of_turn_and_eos() -> None:
    template = ChatTemplate(tokenizer_for(LLAMA3))
    ids = template.tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"])
    assert list(template.stop_ids) == ids
    assert (
        ChatTemplate(tokenizer_for(CHATML)).stop_ids
        == ChatTemplate(tokenizer_for(CHATML)).end_of_turn
    )
    assert len(ChatTemplate(tokenizer_for(CHATML, eos=None)).stop_ids) == 1


def test_a_tokenizer_without_a_template_gets_the_plain_format_and_says_so() -> None:
    heard: list[dict[str, Any]] = []
    with events.listening(heard.append):
        template = ChatTemplate(tokenizer_for(NONE))
    assert template.name == "PLAIN"
    assert "no chat template" in heard[0]["text"]
    ids = template.render([user(" q \n"), assistant("a")]).ids
    assert decoded(template, ids) == "q\na<|endoftext|>"


def test_the_plain_format_begins_with_bos_where_the_tokenizer_adds_one() -> None:
    from tokenizers.processors import TemplateProcessing

    form = replace(ZEPHYR, template=None)
    tokenizer = tokenizer_for(form)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    template = ChatTemplate(tokenizer)
    assert decoded(template, template.prompt([user("q")])) == "<s>q\n"


def test_a_tokenizer_with_neither_template_nor_eos_is_refused() -> None:
    with pytest.raises(TemplateError, match="neither a chat template nor an eos"):
        ChatTemplate(tokenizer_for(NONE, eos=None))


def test_of_several_templates_the_default_one_is_taken() -> None:
    tokenizer = tokenizer_for(CHATML)
    tokenizer.chat_template = {"default": CHATML.template, "tool_use": "x"}
    assert trained_texts(ChatTemplate(tokenizer), ONE) == [ANSWERS[0] + "<|im_end|>"]
    tokenizer.chat_template = {"rag": "x", "tool_use": "x"}
    with pytest.raises(TemplateError, match="none is the default") as caught:
        ChatTemplate(tokenizer)
    assert caught.value.found == "rag, tool_use"


def test_a_template_that_writes_the_date_is_held_at_one_date() -> None:
    heard: list[dict[str, Any]] = []
    with events.listening(heard.append):
        template = ChatTemplate(tokenizer_for(LLAMA3_DATED))
    assert template.frozen_date == TEMPLATE_DATE
    assert any("writes a date" in event["text"] for event in heard)
    assert "Today: 01 Jan 2025<|eot_id|>" in decoded(template, template.prompt(ONE[:1]))


def test_the_digest_tells_templates_and_vocabularies_apart() -> None:
    digests = [ChatTemplate(tokenizer_for(form)).sha256 for form in FORMATS.values()]
    assert len(set(digests)) == len(FORMATS)
    assert ChatTemplate(tokenizer_for(CHATML)).sha256 == digests[0]
    assert ChatTemplate(tokenizer_for(CHATML, merges=(("H", "g"),))).sha256 != digests[0]


CONTENT = st.text(min_size=1, max_size=60).filter(lambda text: "\r" not in text)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=4))
def test_whatever_is_said_the_trained_text_is_exact(turns: list[tuple[str, str]]) -> None:
    template = CHATML_TEMPLATE
    messages = [m for q, a in turns for m in (user(q), assistant(a))]
    rendered = template.render(messages)
    stretches = [decoded(template, rendered.ids[a:b]) for a, b in rendered.answers]
    assert stretches == [answer + "<|im_end|>" for _, answer in turns]
    assert sum(rendered.trained) == sum(b - a for a, b in rendered.answers)
    assert all(all(rendered.trained[a:b]) for a, b in rendered.answers)
    assert template.prompt(messages[:-1]) == rendered.ids[: rendered.answers[-1][0]]


CHATML_TEMPLATE = ChatTemplate(tokenizer_for(CHATML))
