"""The mask that is shown is the mask that is trained."""

from __future__ import annotations

import pytest

from nexa.core.errors import TemplateError
from nexa.data.mask import mask_file, spans
from nexa.lm.chat import ChatTemplate
from tests.data.conftest import WriteRows
from tests.lm.templates import FORMATS, MISTRAL, tokenizer_for

TURNS = [
    {"role": "user", "content": "What is it? ä"},
    {"role": "assistant", "content": "Iron 🙂"},
]


@pytest.mark.parametrize("name", FORMATS)
def test_spans_put_together_are_the_whole_text(name: str) -> None:
    template = ChatTemplate(tokenizer_for(FORMATS[name]))
    found = spans(template, TURNS)
    rendered = template.render(TURNS)
    assert "".join(span.text for span in found) == template.tokenizer.decode(
        rendered.ids, clean_up_tokenization_spaces=False
    )
    assert [s.text for s in found if s.trained] == [template.lead + "Iron 🙂" + FORMATS[name].end]
    assert sum(span.tokens for span in found) == len(rendered.ids)


def test_a_files_rows_are_shown_with_their_problems(write_rows: WriteRows) -> None:
    template = ChatTemplate(tokenizer_for(MISTRAL))
    system = {"role": "system", "content": "s"}
    end = {"role": "user", "content": "</s>"}
    lines = [
        {"messages": TURNS},
        "{",
        {"messages": [system, *TURNS]},
        {"messages": [end, TURNS[1]]},
    ]
    rows = list(mask_file(write_rows(lines), template))
    assert [row.origin for row in rows] == [f"rows.jsonl:{n}" for n in (1, 2, 3, 4)]
    assert rows[0].tokens == len(template.render(TURNS).ids)
    assert rows[0].trained_tokens == sum(template.render(TURNS).trained)
    assert rows[0].problem == ""
    assert rows[1].problem.startswith("line 2: broken JSON")
    assert "only user and assistant turns" in rows[2].problem
    assert rows[3].problem.startswith("turn 1 of 2 (user): its text holds the end-of-turn token")


def test_a_limit_and_a_format_are_kept_to(write_rows: WriteRows) -> None:
    template = ChatTemplate(tokenizer_for(MISTRAL))
    path = write_rows([{"messages": TURNS}] * 5)
    assert len(list(mask_file(path, template, limit=2))) == 2
    wrong = list(mask_file(path, template, format="record", limit=1))
    assert "no key 'prompt' (the file is 'record')" in wrong[0].problem


def test_all_of_a_plain_text_is_trained(write_rows: WriteRows) -> None:
    template = ChatTemplate(tokenizer_for(MISTRAL))
    (row,) = mask_file(write_rows([{"text": "Iron melts."}]), template)
    assert [(span.text, span.trained) for span in row.spans] == [("Iron melts.</s>", True)]
    assert row.tokens == row.trained_tokens


def test_a_refused_conversation_raises() -> None:
    with pytest.raises(TemplateError):
        spans(ChatTemplate(tokenizer_for(MISTRAL)), TURNS[:1])
