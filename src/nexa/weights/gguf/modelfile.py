"""An Ollama Modelfile beside a GGUF file: its template only where it is proved, and its stops.

Ollama renders conversations with a template in Go's syntax. It is derived by asking the chat
template what it writes around distinct marks, and kept only if it then gives the same text as the
chat template for several conversations. Otherwise TEMPLATE is left out, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jinja2
from transformers import PreTrainedTokenizerBase

from nexa.core.errors import TemplateError
from nexa.core.events import emit
from nexa.core.store import write_atomic
from nexa.lm.chat import ChatTemplate, Messages
from nexa.lm.folder import read_config
from nexa.lm.tokenizer import read_tokenizer
from nexa.weights.gguf import go_template
from nexa.weights.gguf.architecture import token_config
from nexa.weights.gguf.go_template import Parts

NAME = "Modelfile"
# A context of 131,072 tokens takes more memory for its keys and values than most machines have.
CONTEXT = 8192
SYSTEM, USER, ANSWER, AGAIN = "⟦s⟧", "⟦u⟧", "⟦a⟧", "⟦v⟧"  # marks that no template writes
FAULTS = (jinja2.TemplateError, TypeError, ValueError, LookupError)
PROBES: tuple[tuple[dict[str, str], ...], ...] = tuple(
    tuple({"role": role, "content": content} for role, content in turns)
    for turns in (
        (("user", "What is iron?"),),
        (
            ("user", "One.\n\nTwo: {x} <b> \"quoted\" 'twice'"),
            ("assistant", "Yes."),
            ("user", "2?"),
        ),
        (
            *(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d\ne")),
            *(("user", "日本 🙂"),),
        ),
    )
)
WITH_SYSTEM: tuple[tuple[dict[str, str], ...], ...] = tuple(
    ({"role": "system", "content": "Answer in JSON.\nAlways."}, *probe) for probe in PROBES
)
PADDED: Messages = ({"role": "user", "content": "  padded  "},)


def write_modelfile(folder: Path, gguf: Path) -> Path:
    """Write `Modelfile` beside a GGUF file that was made from the model in `folder`.

    Raises:
        StorageError: no space or no permission.
    """
    path = gguf.parent / NAME
    write_atomic(path, modelfile(folder, gguf.name).encode())
    return path


def modelfile(folder: Path, file: str) -> str:
    """The text of a Modelfile for the GGUF file named `file`."""
    tokenizer = read_tokenizer(folder)
    chat = _chat(tokenizer)
    lines = [f"FROM ./{file}", *_template(tokenizer, chat)]
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in _stops(folder, tokenizer, chat)]
    room = read_config(folder)["max_position_embeddings"]
    if room > CONTEXT:
        lines.append(f"# The model takes texts of up to {room} tokens.")
    lines.append(f"PARAMETER num_ctx {min(room, CONTEXT)}")
    return "\n".join(lines) + "\n"


def derive(tokenizer: PreTrainedTokenizerBase, chat: ChatTemplate) -> str | None:
    """The chat template in Go's syntax; None where none is found that gives the same texts.

    What a template writes for the date is another text tomorrow: such a one is not derived.
    """
    if chat.frozen_date is not None:
        return None
    try:
        parts = _parts(tokenizer, chat)
        template = None if parts is None else go_template.write(parts)
        if parts is None or template is None:
            return None
        probes = PROBES + (WITH_SYSTEM if "system" in parts.around else ())
        wanted = [_render(tokenizer, chat, probe) for probe in probes]
    except FAULTS:
        return None
    made = [go_template.render(template, probe) for probe in probes]
    return template if made == wanted else None


def _chat(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate | None:
    try:
        found = ChatTemplate(tokenizer)
    except TemplateError:
        return None
    return found if found.name == "tokenizer" else None


def _template(tokenizer: PreTrainedTokenizerBase, chat: ChatTemplate | None) -> Iterator[str]:
    found = None if chat is None else derive(tokenizer, chat)
    if chat is None or found is None:
        text = "no chat template could be put into Go's syntax and proved"
        emit("note", text=f"{NAME}: {text}; TEMPLATE is left out")
        yield f"# {text[0].upper()}{text[1:]}: Ollama uses the one in the GGUF file."
        return
    if _render(tokenizer, chat, PADDED) != go_template.render(found, PADDED):
        yield "# The model's own template takes white space off a text's ends; this one does not."
    if "system" not in found:
        yield "# The model's own template takes no system text."
    yield f'TEMPLATE """{found}"""'


def _parts(tokenizer: PreTrainedTokenizerBase, chat: ChatTemplate) -> Parts | None:
    """What the template writes around each role's text; None for a template of another build."""
    start, ending = _cut(_render(tokenizer, chat, _turns(USER)), USER)
    _, after_user = _cut(_render(tokenizer, chat, _turns(USER), prompt=False), USER)
    whole = _render(tokenizer, chat, _turns(USER, ANSWER, AGAIN))
    to_answer, rest = _cut(_cut(whole, USER)[1], ANSWER)
    to_user, _ = _cut(rest, AGAIN)
    closed = _render(tokenizer, chat, _turns(USER, ANSWER), prompt=False)
    _, after_answer = _cut(closed, ANSWER)
    before_user = to_user.removeprefix(after_answer)
    regular = (
        ending.startswith(after_user)
        and to_answer.startswith(after_user)
        and to_user.startswith(after_answer)
        and start.endswith(before_user)
    )
    if not regular:
        return None
    around = {
        "user": (before_user, after_user),
        "assistant": (to_answer.removeprefix(after_user), after_answer),
    }
    begin, answer = start.removesuffix(before_user), ending.removeprefix(after_user)
    system = _system(tokenizer, chat, before_user)
    if system is None:
        return Parts(around, answer, start=begin)
    before, after = system
    if before.startswith(begin):  # with a system text or without: BOS
        around["system"] = (before.removeprefix(begin), after)
        return Parts(around, answer, start=begin)
    around["system"] = system
    return Parts(around, answer, no_system=begin)


def _system(
    tokenizer: PreTrainedTokenizerBase, chat: ChatTemplate, before_user: str
) -> tuple[str, str] | None:
    """What stands around a system text; None where the template refuses one."""
    asked = ({"role": "system", "content": SYSTEM}, *_turns(USER))
    try:
        text = _render(tokenizer, chat, asked)
    except FAULTS:
        return None
    before, rest = _cut(text, SYSTEM)
    to_user, _ = _cut(rest, USER)
    return before, to_user.removesuffix(before_user)


def _cut(text: str, mark: str) -> tuple[str, str]:
    """What stands before and after a mark.

    Raises:
        LookupError: the mark is not there: the template does not write what it is given.
    """
    before, found, after = text.partition(mark)
    if not found:
        raise LookupError(mark)
    return before, after


def _turns(*contents: str) -> Messages:
    """User and assistant in turns."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


def _render(
    tokenizer: PreTrainedTokenizerBase,
    chat: ChatTemplate,
    messages: Messages,
    *,
    prompt: bool = True,
) -> str:
    """A conversation as text, without the BOS that llama.cpp puts before it by itself."""
    text = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        chat_template=chat.text,
        tokenize=False,
        add_generation_prompt=prompt,
        **chat.variables,
    )
    bos = tokenizer.bos_token_id
    if bos is None or tokenizer("a")["input_ids"][0] != bos:
        return str(text)
    return str(text).removeprefix(str(tokenizer.bos_token))


def _stops(
    folder: Path, tokenizer: PreTrainedTokenizerBase, chat: ChatTemplate | None
) -> list[str]:
    """Every text that ends an answer: of the chat template, the tokenizer, the configuration."""
    ends = token_config(folder).get("eos_token_id")
    listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
    own = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    ids = [*(chat.stop_ids if chat else ()), *own, *listed]
    return [str(tokenizer.convert_ids_to_tokens(i)) for i in dict.fromkeys(ids)]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
