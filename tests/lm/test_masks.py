"""Every well-known chat format: the trained text is the answers and their ends, to the letter.

Read off the mask alone, and compared with what the format's own description says.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa.core import events
from nexa.core.errors import BosError, MaskError, TemplateError
from nexa.lm.chat import ChatTemplate, Messages, Rendered
from tests.lm.templates import (
    CHATML,
    DEEPSEEK_R1,
    FORMATS,
    LLAMA3,
    QWEN_THINKING,
    ZEPHYR,
    ZEPHYR_BOS,
    Format,
    tokenizer_for,
    word_marking_tokenizer,
)

Turns = list[dict[str, str]]
QUESTIONS = ["What melts at 1811 K?\nA record.", "And its symbol?", "Sicher? 鉄だ。"]
ANSWERS = ['{"k": 1811.0, "name": "Eisen äöü 鉄"}', "Fe. It is\n\nsoft, 25 °C 🙂", "Ja: Fe²⁺"]
SYSTEM = {"role": "system", "content": "Be brief."}
TEMPLATES = {name: ChatTemplate(tokenizer_for(form)) for name, form in FORMATS.items()}


def conversation(questions: list[str], answers: list[str]) -> Turns:
    turns: Turns = []
    for question, answer in zip(questions, answers, strict=True):
        turns.append({"role": "user", "content": question})
        turns.append({"role": "assistant", "content": answer})
    return turns


def trained(template: ChatTemplate, messages: Turns) -> list[str]:
    """The stretches that bear loss, as text."""
    rendered = template.render(messages)
    stretches: list[list[int]] = []
    for i, token in enumerate(rendered.ids):
        if rendered.trained[i]:
            if i == 0 or not rendered.trained[i - 1]:
                stretches.append([])
            stretches[-1].append(token)
    return [decoded(template, ids) for ids in stretches]


def decoded(template: ChatTemplate, ids: list[int]) -> str:
    return str(template.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_trained_text_is_every_answer_and_its_end_of_turn(name: str, count: int) -> None:
    form, template = FORMATS[name], TEMPLATES[name]
    turns = conversation(QUESTIONS[:count], ANSWERS[:count])
    if count > 1 and not form.several_answers:
        with pytest.raises(TemplateError, match=f"turn 2 of {2 * count} "):
            template.render(turns)
    else:
        assert trained(template, turns) == [form.trained(answer) for answer in ANSWERS[:count]]


@pytest.mark.parametrize("name", [n for n, f in FORMATS.items() if f.several_answers])
@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_without_a_turn_its_text_alone_is_gone_from_the_mask(name: str, dropped: int) -> None:
    form, template = FORMATS[name], TEMPLATES[name]
    questions = [q for i, q in enumerate(QUESTIONS) if i != dropped]
    answers = [a for i, a in enumerate(ANSWERS) if i != dropped]
    assert trained(template, conversation(questions, answers)) == [form.trained(a) for a in answers]
    whole = template.render(conversation(QUESTIONS, ANSWERS))
    less = template.render(conversation(questions, answers))
    lost = whole.answers[dropped][1] - whole.answers[dropped][0]
    assert sum(whole.trained) - sum(less.trained) == lost


@pytest.mark.parametrize("name", FORMATS)
def test_a_system_turn_is_read_and_not_trained_or_is_refused_by_its_turn(name: str) -> None:
    form, template = FORMATS[name], TEMPLATES[name]
    turns = [SYSTEM, *conversation(QUESTIONS[:1], ANSWERS[:1])]
    if form.system in ("own", "folded"):
        assert trained(template, turns) == [form.trained(ANSWERS[0])]
        assert "Be brief." in decoded(template, template.render(turns).ids)
        assert "Be brief." in decoded(template, template.prompt(turns[:2]))
    else:
        with pytest.raises(TemplateError, match=r"turn 1 of 3 \(system\)"):
            template.render(turns)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("answer", ["  Fe", "Fe \n", "\n\nFe\t", " ", "Fe  2", "\u00a0Fe\u3000"])
def test_blanks_at_the_edges_are_trained_as_the_template_writes_them(
    name: str, answer: str
) -> None:
    form, template = FORMATS[name], TEMPLATES[name]
    turns = conversation(QUESTIONS[:1], [answer])
    if name == "qwen-thinking" and answer.startswith("\n"):
        # It strips line breaks before an answer, whoever wrote them.
        assert trained(template, turns) == [form.trained(answer.lstrip("\n"))]
    else:
        assert trained(template, turns) == [form.trained(answer)]


ODD = ["<|im_end|>", "</s>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "[INST] x [/INST]"]
ODD += ["<s>", "<|im_start|>assistant\nno", "<think>hm</think>", "{{ bos_token }}", "<|endoftext|>"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("where", [0, 1])
def test_text_like_a_special_token_is_exact_or_refused_by_its_turn(
    name: str, odd: str, where: int
) -> None:
    form, template = FORMATS[name], TEMPLATES[name]
    turns = conversation(QUESTIONS[:1], ANSWERS[:1])
    turns[where]["content"] += f" {odd} and more"
    thinks = name == "qwen-thinking" and odd.startswith("<think>") and where == 1
    if thinks or odd == form.end.strip():
        with pytest.raises(TemplateError, match=f"turn {where + 1} of 2"):
            template.render(turns)
    else:
        assert trained(template, turns) == [form.trained(turns[1]["content"])]


TEXT = st.text(max_size=24).filter(lambda text: "\r" not in text)


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in ("chatml", "qwen-thinking")])
@given(said=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
def test_whatever_is_said_the_trained_text_is_exact_or_the_turn_is_refused(
    name: str, said: list[tuple[str, str]]
) -> None:
    form, template = FORMATS[name], TEMPLATES[name]
    questions, answers = [question for question, _ in said], [answer for _, answer in said]
    (found,) = template.render_each([conversation(questions, answers)])
    if isinstance(found, TemplateError):
        assert found.what.startswith("turn ")
    else:
        stretches = [decoded(template, found.ids[start:end]) for start, end in found.answers]
        assert stretches == [form.trained(answer) for answer in answers]
        assert sum(found.trained) == sum(end - start for start, end in found.answers)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_passes_its_own_check(name: str) -> None:
    TEMPLATES[name].check()


def test_a_template_that_drops_thoughts_from_history_is_refused_by_name() -> None:
    with pytest.raises(TemplateError, match=r"turn 2 of 2 \(assistant\): the prompt") as caught:
        ChatTemplate(tokenizer_for(DEEPSEEK_R1))
    assert "<think>" in str(caught.value.found)


def test_a_thought_is_never_trained_as_something_else() -> None:
    template = TEMPLATES["qwen-thinking"]
    for answer in ("<think>hm</think>Fe", "<think>\nhm\n</think>\n\nFe", "hm</think>Fe"):
        with pytest.raises(TemplateError, match=r"turn 2 of 2 \(assistant\)"):
            template.render(conversation(QUESTIONS[:1], [answer]))
    assert QWEN_THINKING.several_answers is False


# -- BOS -----------------------------------------------------------------------------------------


def test_bos_is_put_first_where_the_tokenizer_adds_it_and_the_template_does_not() -> None:
    heard: list[str] = []
    with events.listening(lambda event: heard.append(str(event.get("text")))):
        template = ChatTemplate(tokenizer_for(ZEPHYR_BOS))
    assert template.adds_bos
    assert any("BOS is put first" in text for text in heard)
    turns = conversation(QUESTIONS, ANSWERS)
    for ids in (template.render(turns).ids, template.prompt(turns[:1])):
        assert ids.count(int(template.tokenizer.bos_token_id)) == 1
        assert ids[0] == template.tokenizer.bos_token_id
    bare = ChatTemplate(tokenizer_for(ZEPHYR))
    assert not bare.adds_bos
    assert template.render(turns).ids[1:] == bare.render(turns).ids
    assert template.sha256 != bare.sha256


@pytest.mark.parametrize("form", [LLAMA3, replace(ZEPHYR_BOS, template="{{ bos_token }}" * 2)])
def test_two_bos_are_refused_with_a_code_of_their_own(form: Format) -> None:
    doubled = replace(form, template="{{ bos_token }}" + str(form.template))
    with pytest.raises(BosError, match=r"begins with \d beginning-of-text tokens") as caught:
        ChatTemplate(tokenizer_for(doubled))
    assert caught.value.exit_code == 19
    assert "one {{ bos_token }}" in str(caught.value.fix)


# -- check ---------------------------------------------------------------------------------------


class Careless(ChatTemplate):
    """A template whose mask lies on the prompt as well."""

    def render(self, messages: Messages) -> Rendered:
        found = super().render(messages)
        return replace(found, trained=[True] * len(found.ids))


def test_check_refuses_a_mask_that_lies_elsewhere() -> None:
    template = ChatTemplate(tokenizer_for(CHATML))
    template.end_of_turn = (7, *template.end_of_turn)
    with pytest.raises(MaskError, match="not the last token that is trained") as caught:
        template.check()
    assert caught.value.exit_code == 18
    with pytest.raises(MaskError, match="on the answer alone"):
        Careless(tokenizer_for(CHATML)).check()


@pytest.mark.parametrize("tail", ["", "\n"])
def test_a_template_that_ends_no_turn_has_a_code_of_its_own(tail: str) -> None:
    text = str(CHATML.template).replace("<|im_end|>{{ '\n' }}", "{{ '" + tail + "' }}")
    with pytest.raises(TemplateError, match="no end-of-turn token") as caught:
        ChatTemplate(tokenizer_for(replace(CHATML, template=text)))
    assert caught.value.exit_code == 17


# -- a tokenizer that marks words, as Llama 2's and Mistral's do ---------------------------------


@pytest.mark.parametrize("name", ["llama2", "mistral", "mistral-v3", "mistral-spaced", "zephyr"])
def test_masks_are_exact_under_a_tokenizer_that_marks_the_beginnings_of_words(name: str) -> None:
    form = FORMATS[name]
    template = ChatTemplate(word_marking_tokenizer(form))
    template.check()
    answers = ["It is iron.", "Fe, as ever"]
    rendered = template.render(conversation(["What melts?", "Its symbol?"], answers))
    text = decoded(template, rendered.ids)
    for (start, end), answer in zip(rendered.answers, answers, strict=True):
        # Decoded from the beginning: alone, the first word would lose its mark.
        before = decoded(template, rendered.ids[:start])
        assert decoded(template, rendered.ids[:end]) == before + form.trained(answer)
        assert text.startswith(before + form.trained(answer))
