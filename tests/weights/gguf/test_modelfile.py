from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core import events
from nexa.core.events import Event
from nexa.lm.chat import ChatTemplate
from nexa.weights.gguf import go_template
from nexa.weights.gguf.modelfile import derive, modelfile, write_modelfile
from tests.lm import templates
from tests.lm.templates import Format, tokenizer_for
from tests.weights.gguf.folders import byte_level, edit_config, write_folder

# DEEPSEEK_R1 rewrites earlier answers: no template that Nexa takes.
FORMATS = {
    name: made
    for name, made in vars(templates).items()
    if isinstance(made, Format) and name != "DEEPSEEK_R1"
}
CONVERSATION = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And 3 + 3?\n\nThink."},
]
NOT_DERIVED = {"LLAMA3_DATED", "GEMMA_FOLDED", "MISTRAL_SPACED", "LLAMA2", "PHI"}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_derived_gives_the_chat_templates_own_text(name: str) -> None:
    tokenizer = tokenizer_for(FORMATS[name])
    chat = ChatTemplate(tokenizer)
    found = derive(tokenizer, chat)
    assert (found is None) == (name in NOT_DERIVED)
    if found is None:
        return
    wanted = tokenizer.decode(chat.prompt(CONVERSATION))
    made = go_template.render(found, CONVERSATION)
    bos = tokenizer.bos_token or ""
    assert made.removeprefix(bos) == wanted.removeprefix(bos)


def test_the_whole_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    path = write_modelfile(folder, tmp_path / "out" / "m.q8_0.gguf")
    assert path == tmp_path / "out" / "Modelfile"
    assert path.read_text() == (
        "FROM ./m.q8_0.gguf\n"
        'TEMPLATE """{{ range .Messages }}'
        '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n{{ end }}'
        '{{ if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n{{ end }}'
        '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n{{ end }}'
        '{{ end }}<|im_start|>assistant\n"""\n'
        'PARAMETER stop "<|im_end|>"\n'
        "PARAMETER num_ctx 512\n"
    )


def test_every_end_is_a_stop_and_a_long_context_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    edit_config(folder, max_position_embeddings=131_072)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    lines = modelfile(folder, "m.gguf").splitlines()
    assert 'PARAMETER stop "<|im_end|>"' in lines
    assert 'PARAMETER stop "<|endoftext|>"' in lines
    assert lines[-2:] == [
        "# The model takes texts of up to 131072 tokens.",
        "PARAMETER num_ctx 8192",
    ]


@pytest.mark.parametrize("template", [None, "{{ messages[0].content }}", templates.LLAMA2.template])
def test_without_a_proved_template_it_is_left_out_and_that_is_told(
    tmp_path: Path, template: str | None
) -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = template
    folder = write_folder(tmp_path / "m", tokenizer=tokenizer)
    heard: list[Event] = []
    with events.listening(heard.append):
        text = modelfile(folder, "m.gguf")
    assert 'TEMPLATE "' not in text
    assert "# No chat template could be put into Go's syntax" in text
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert any("TEMPLATE is left out" in event.get("text", "") for event in heard)


def test_what_the_copy_cannot_do_is_written_beside_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", tokenizer=tokenizer_for(templates.GEMMA))
    text = modelfile(folder, "m.gguf")
    assert "# The model's own template takes white space off a text's ends" in text
    assert "# The model's own template takes no system text." in text
    assert "TEMPLATE" in text


def test_a_stop_with_quotes_is_escaped(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"eos_token": '<"\\>'})
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", '<"\\\\>')
    folder = write_folder(tmp_path / "m", tokenizer=tokenizer)
    assert 'PARAMETER stop "<\\"\\\\>"' in modelfile(folder, "m.gguf")
