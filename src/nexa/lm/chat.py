"""Messages, chat templates, and which tokens bear loss: known for certain, or refused.

No marker strings are typed or searched for. A conversation is rendered by the tokenizer's own
template once up to each assistant turn (the prompt that inference will see) and once whole. Each
prompt must be the beginning of the whole, as text and as token ids; what follows it must be the
turn's content and the end-of-turn token, to the letter. Whatever does not fit is a
`TemplateError` that names the turn. Of a content that the template trims (Llama 3, Gemma, Llama 2)
the trimmed form is trained, for that is what the template writes; nothing else may be changed.
A template that rewrites earlier answers (Qwen3, DeepSeek-R1) is refused at the turn it rewrites.

What bears loss is what the model has to write itself: everything after the prompt up to and
including the end-of-turn token. Some templates (older Mistral ones) write a space between prompt
and answer: the prompt ends before it, so it is trained, and `ChatTemplate.lead` holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import jinja2

from nexa.core.errors import BosError, MaskError, TemplateError
from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.lm import plain_text
from nexa.lm.chat_lengths import Lengths
from nexa.lm.chat_source import adds_bos, template_of, with_frozen_clock

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant" | ..., "content": text}
Messages = Sequence[Message]

# What is put before a template that leaves BOS to its tokenizer.
BOS = "{{ bos_token }}"

# Tried in this order; the first under which a prompt is the beginning of its conversation is kept.
# Thinking models (Qwen3, DeepSeek, Granite) write an empty thought before an answer that has none,
# and offer a variable that puts the empty thought into the prompt.
VARIABLES: tuple[dict[str, Any], ...] = ({}, {"enable_thinking": False}, {"thinking": False})

GOLDEN: tuple[dict[str, str], ...] = (
    {"role": "user", "content": "Which metal is liquid at 25 °C?\nAnswer with a record."},
    {"role": "assistant", "content": '{"name": "mercury", "melting_point_k": 234.3}'},
    {"role": "user", "content": "And its symbol?"},
    {"role": "assistant", "content": "Hg"},
)

BATCH = 256  # conversations tokenised at once: enough to keep the tokenizer's threads busy

_TEMPLATE_FAULTS = (jinja2.TemplateError, TypeError, ValueError, LookupError)


@dataclass(frozen=True)
class Rendered:
    """A conversation as token ids, `ids[t]` bearing loss where `trained[t]`.

    `answers` are the trained stretches, one an assistant turn, as half-open token ranges.
    """

    ids: list[int]
    trained: list[bool]
    answers: tuple[tuple[int, int], ...] = field(default=())


@dataclass(frozen=True)
class _Texts:
    """A conversation as text: whole, and up to each assistant turn."""

    whole: str
    prompts: list[str]
    turns: list[int]


class ChatTemplate:
    """A tokenizer's chat template, with the loss mask it implies.

    `text` is the template, `name` says whose it is (`tokenizer` or `PLAIN`), `variables` are the
    settings it is rendered with, `end_of_turn` the ids that end an answer. `adds_bos` is true where
    the tokenizer begins every text with BOS and its template writes none: `text` then does, so
    that the model reads conversations as it reads all else.

    Raises:
        TemplateError: no end-of-turn token, or a prompt that is not the beginning of its own
            conversation.
        BosError: BOS is written twice.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.name, self.text = template_of(tokenizer)
        self._source, self.frozen_date = with_frozen_clock(self.text)
        self.adds_bos = False
        self.variables: dict[str, Any] = {}
        self.lead = ""
        self._end_text = ""
        self._end_token = ""
        self.end_of_turn: tuple[int, ...] = ()
        self._settle()

    def check(self) -> None:
        """Read a fixed conversation back as a model would: one BOS at most, every turn ended.

        The constructor refuses the same faults; this proves on the token ids alone that what was
        settled there holds.

        Raises:
            TemplateError: the conversation cannot be rendered.
            BosError: it does not begin with exactly one BOS, for a tokenizer that wants one.
            MaskError: an answer's end of turn bears no loss, or something of the prompt does.
        """
        rendered = self.render(GOLDEN[:2])
        self._require_one_bos(rendered.ids)
        self._require_one_bos(self.prompt(GOLDEN[:1]))
        ((start, end),) = rendered.answers
        if rendered.trained != [start <= i < end for i in range(len(rendered.ids))]:
            raise MaskError("the loss mask does not lie on the answer alone")
        if tuple(rendered.ids[end - len(self.end_of_turn) : end]) != self.end_of_turn:
            raise MaskError(
                "the end of turn is not the last token that is trained",
                found=_short(str(self.tokenizer.decode(rendered.ids[start:end]))),
                fix="end the assistant's turn with the eos token in the tokenizer's chat template",
            )

    @property
    def as_given(self) -> bool:
        """Whether the tokenizer's own template is used as it stands: not PLAIN, no BOS added."""
        return self.name != "PLAIN" and not self.adds_bos

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Every id that generation stops at: the end-of-turn token and the tokenizer's eos."""
        eos = self.tokenizer.eos_token_id
        ids = [self.end_of_turn[-1]] + ([] if eos is None else [int(eos)])
        return tuple(dict.fromkeys(ids))

    @cached_property
    def sha256(self) -> str:
        """Digest of the template's text and of a fixed conversation rendered by it.

        Equal digests mean equal prompts: taken at training, compared at evaluation and publishing.
        """
        golden = [self.render(GOLDEN[:2]).ids, self.prompt(GOLDEN[:1])]
        try:
            golden.append(self.render(GOLDEN).ids)
        except TemplateError as error:  # single-turn templates are known by single turns
            golden.append([])
            emit("note", text=f"the chat template takes one answer a conversation: {error.what}")
        return sha256_bytes(canonical_json([self.text, self.variables, self.stop_ids, golden]))

    def prompt(self, messages: Messages) -> list[int]:
        """The ids that inference starts from; equal to the beginning of the training ids.

        Raises:
            TemplateError: the template refuses or loses a turn, or the last one is an answer.
        """
        if plain_text.is_text(messages):
            text = plain_text.wrapped(messages[0]["content"], self.tokenizer, end=False)
            return self._encode([text])[0]
        if not messages or messages[-1].get("role") == "assistant":
            raise TemplateError(
                "a prompt must end with a turn that asks for an answer",
                found=f"{len(messages)} turns, the last one the assistant's"
                if messages
                else "none",
            )
        text = self._render(messages, prompt=True)
        self._check_contents(messages, text)
        return self._encode([text])[0]

    def render(self, messages: Messages) -> Rendered:
        """A whole conversation and its loss mask; every assistant turn is trained.

        Raises:
            TemplateError: names the turn whose trained tokens cannot be known.
        """
        (rendered,) = self.render_each([messages])
        if isinstance(rendered, TemplateError):
            raise rendered
        return rendered

    def render_each(self, conversations: Iterable[Messages]) -> Iterator[Rendered | TemplateError]:
        """Many conversations, tokenised in batches; a refused one yields its error."""
        rest = iter(conversations)
        while batch := list(islice(rest, BATCH)):
            yield from self._render_batch(batch)

    def lengths(self, conversations: Iterable[Messages]) -> Iterator[int | TemplateError]:
        """How many tokens `render_each` makes of each, or its error; many times as fast."""
        return self._lengths.of(conversations)

    def text_of(self, messages: Messages, *, prompt: bool = False) -> str:
        """A conversation as the template writes it; as a prompt, up to the answer to come.

        Raises:
            TemplateError: the template refuses a turn.
        """
        return self._render(messages, prompt=prompt)

    @property
    def source(self) -> str:
        """The template as it is run: its clock stands still, BOS is where it has to be."""
        return self._source

    @cached_property
    def _lengths(self) -> Lengths:
        return Lengths(self)

    # -- inside --------------------------------------------------------------------------

    def _settle(self) -> None:
        """Find the variables, the lead and the end of turn on the golden conversation."""
        refusals = []
        for variables in VARIABLES:
            self.variables = variables
            try:
                self._settle_bos()
                self._find_end_of_turn()
                self.render(GOLDEN[:2])
            except TemplateError as error:
                refusals.append(error)
                continue
            self._say_settings()
            return
        raise refusals[0]

    def _settle_bos(self) -> None:
        """Let the template write the BOS that its tokenizer begins every other text with."""
        ids = self._encode([self._render(GOLDEN[:1], prompt=True)])[0]
        bos = self.tokenizer.bos_token_id
        if adds_bos(self.tokenizer) and ids[:1] != [bos]:
            self.adds_bos = True
            self.text, self._source = BOS + self.text, BOS + self._source
        self._require_one_bos(self._encode([self._render(GOLDEN[:1], prompt=True)])[0])

    def _require_one_bos(self, ids: Sequence[int]) -> None:
        bos = self.tokenizer.bos_token_id
        leading = next((i for i, token in enumerate(ids) if token != bos), len(ids))
        if leading > 1 or (leading == 0 and adds_bos(self.tokenizer)):
            raise BosError(
                f"the chat template begins with {leading} beginning-of-text tokens, not 1",
                found=_short(str(self.tokenizer.decode(list(ids[:12])))),
                fix="let the tokenizer's chat template begin with one {{ bos_token }}",
            )

    def _say_settings(self) -> None:
        if self.name == "PLAIN":
            emit("note", text="the tokenizer has no chat template: turns are plain lines + eos")
        if self.adds_bos and self.name != "PLAIN":
            text = (
                "the tokenizer begins texts with BOS, its chat template does not: BOS is put first"
            )
            emit("note", text=text)
        if self.variables:
            emit("note", text=f"the chat template is rendered with {self.variables}")
        if self.frozen_date:
            emit("note", text=f"the chat template writes a date: fixed at {self.frozen_date}")

    def _find_end_of_turn(self) -> None:
        messages = GOLDEN[:2]
        prompt, whole = self._render(messages[:1], prompt=True), self._render(messages)
        if not whole.startswith(prompt):
            raise _not_prefix_stable(messages, 1, prompt, whole)
        rest, content = whole[len(prompt) :], messages[1]["content"]
        lead, found, tail = rest.partition(content)
        if not found or lead.strip():
            raise TemplateError(
                f"{_turn(messages, 1)}: the template writes more than the answer after the prompt",
                found=f"after the prompt: {_short(rest)}",
                fix="use a template that writes an answer as it stands",
            )
        prompt_ids, ids = self._encode([prompt, whole])
        added = self.tokenizer.added_tokens_decoder
        end = next((i for i in ids[len(prompt_ids) :] if i in added), None)
        text = None if end is None else str(self.tokenizer.convert_ids_to_tokens(end))
        if end is None or text is None or text not in tail:
            raise TemplateError(
                "the chat template has no end-of-turn token: a model trained on it never stops",
                found=f"after an answer it writes {_short(tail)}, without a special token",
                fix="end the assistant's turn with the eos token in the tokenizer's chat template",
            )
        self.lead, self._end_token = lead, text
        self._end_text = tail[: tail.index(text) + len(text)]
        self.end_of_turn = (
            (end,) if self._end_text == text else tuple(self._encode([self._end_text])[0])
        )

    def _render_batch(self, batch: Sequence[Messages]) -> Iterator[Rendered | TemplateError]:
        texts: list[_Texts | TemplateError] = [self._texts(messages) for messages in batch]
        good = [item for item in texts if isinstance(item, _Texts)]
        ids = iter(self._encode([text for item in good for text in (item.whole, *item.prompts)]))
        for messages, item in zip(batch, texts, strict=True):
            if isinstance(item, TemplateError):
                yield item
                continue
            whole = next(ids)
            yield self._masked(messages, item, whole, [next(ids) for _ in item.prompts])

    def _texts(self, messages: Messages) -> _Texts | TemplateError:
        """Render whole and up to each assistant turn; check every turn as text."""
        if plain_text.is_text(messages):
            return _Texts(plain_text.wrapped(messages[0]["content"], self.tokenizer), [], [])
        turns = [i for i, m in enumerate(messages) if m.get("role") == "assistant"]
        try:
            if not turns or turns[0] == 0:
                raise _nothing_to_train(messages, turns)
            whole = self._render(messages)
            self._check_contents(messages, whole)
            prompts = [self._render(messages[:turn], prompt=True) for turn in turns]
            for turn, prompt in zip(turns, prompts, strict=True):
                self._check_answer(messages, turn, prompt, whole)
        except TemplateError as error:
            return error
        return _Texts(whole, prompts, turns)

    def _check_contents(self, messages: Messages, text: str) -> None:
        for turn, message in enumerate(messages):
            content = message["content"]
            if self._end_token and self._end_token in content:
                raise TemplateError(
                    f"{_turn(messages, turn)}: its text holds the end-of-turn token",
                    found=f"{self._end_token} in {_short(content)}",
                    fix="take it out of the text: the template writes it",
                )
            if content.strip() not in text:
                raise TemplateError(
                    f"{_turn(messages, turn)}: the template does not write this turn as it stands",
                    found=f"{_short(content)} is not in the rendered text",
                    fix="leave the turn out, or use a template that knows this role",
                )

    def _check_answer(self, messages: Messages, turn: int, prompt: str, whole: str) -> None:
        """After the prompt comes the content (trimmed, if the template trims) and the end."""
        if not whole.startswith(prompt):
            raise _not_prefix_stable(messages, turn, prompt, whole)
        content = messages[turn]["content"]
        for form in (content, content.strip(), content.rstrip(), content.lstrip()):
            if whole.startswith(self.lead + form + self._end_text, len(prompt)):
                return
        raise TemplateError(
            f"{_turn(messages, turn)}: the answer is not followed by the end of turn as it should",
            found=f"{_short(whole[len(prompt) :])}\nnot {_short(content)} + {self._end_text!r}",
            fix="split the conversation into rows of one answer each, or use another template",
        )

    def _masked(
        self, messages: Messages, texts: _Texts, ids: list[int], prompts: list[list[int]]
    ) -> Rendered | TemplateError:
        """Mark the ids from each prompt's end to the first end-of-turn token after it.

        The text was checked, and no content holds the end-of-turn token: so the first one after
        a prompt is that answer's own.
        """
        if not texts.turns:  # no conversation but a text: the model learns to write all of it
            return Rendered(ids, [True] * len(ids), ((0, len(ids)),))
        if texts.whole.count(self._end_token) != ids.count(self.end_of_turn[-1]):
            return TemplateError(
                f"{_turn(messages, texts.turns[-1])}: the tokenizer does not keep the end of turn "
                "as one token everywhere",
                found=f"{texts.whole.count(self._end_token)} {self._end_token} as text, "
                f"{ids.count(self.end_of_turn[-1])} as tokens",
            )
        trained = [False] * len(ids)
        answers = []
        for turn, prompt in zip(texts.turns, prompts, strict=True):
            start = len(prompt)
            if ids[:start] != prompt:
                return TemplateError(
                    f"{_turn(messages, turn)}: its first characters join the prompt's last token",
                    found=f"answer {_short(messages[turn]['content'])} after "
                    f"{texts.prompts[texts.turns.index(turn)][-12:]!r}",
                    fix="strip the white space at the beginning of the answer",
                )
            end = ids.index(self.end_of_turn[-1], start) + 1
            trained[start:end] = [True] * (end - start)
            answers.append((start, end))
        return Rendered(ids, trained, tuple(answers))

    def _render(self, messages: Messages, *, prompt: bool = False) -> str:
        for turn, message in enumerate(messages):
            for key in ("role", "content"):
                if not isinstance(message.get(key), str):
                    raise TemplateError(
                        f"{_turn(messages, turn)}: its {key} is not text",
                        found=_short(repr(message.get(key))),
                    )
        try:
            return self._apply(messages, prompt=prompt)
        except _TEMPLATE_FAULTS as error:
            raise self._refusal(messages, error) from error

    def _apply(self, messages: Messages, *, prompt: bool) -> str:
        rendered = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            chat_template=self._source,
            tokenize=False,
            add_generation_prompt=prompt,
            **self.variables,
        )
        return str(rendered)

    def _refusal(self, messages: Messages, error: Exception) -> TemplateError:
        """The template raised: find the first turn at which it does."""
        for turn in range(len(messages)):
            try:
                self._apply(messages[: turn + 1], prompt=False)
            except _TEMPLATE_FAULTS as first:
                return TemplateError(
                    f"{_turn(messages, turn)}: the chat template refuses it",
                    found=str(first) or type(first).__name__,
                    fix="leave the turn out or merge it with its neighbour"
                    if messages[turn].get("role") != "system"
                    else "put the system text at the beginning of the first user turn",
                )
        return TemplateError("the chat template refuses the conversation", found=str(error))

    def _encode(self, texts: list[str]) -> list[list[int]]:
        # The template has written every special token there is to be: none is added.
        if not texts:
            return []
        encoded = self.tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def _not_prefix_stable(messages: Messages, turn: int, prompt: str, whole: str) -> TemplateError:
    same = next(
        (i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(whole)
    )
    return TemplateError(
        f"{_turn(messages, turn)}: the prompt before it is not how the whole conversation begins",
        found=f"prompt {_short(prompt[same:])}\nwhole  {_short(whole[same:])}",
        fix="split the conversation into rows of one answer each, or use another template",
    )


def _nothing_to_train(messages: Messages, turns: list[int]) -> TemplateError:
    if turns:
        return TemplateError(
            f"{_turn(messages, 0)}: an answer with nothing before it to answer",
            fix="begin the conversation with a user turn",
        )
    roles = ", ".join(str(m.get("role")) for m in messages) or "no turns"
    return TemplateError(
        "the conversation has no assistant turn: nothing would be trained", found=roles
    )


def _turn(messages: Messages, turn: int) -> str:
    return f"turn {turn + 1} of {len(messages)} ({messages[turn].get('role')})"


def _short(text: str, limit: int = 80) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "...")
