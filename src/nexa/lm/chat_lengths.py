"""How many tokens conversations have, for millions of them.

`ChatTemplate.render_each` renders a conversation whole and up to every answer, and tokenises each
of these texts: half a millisecond a row. What stands around the contents of conversations with
equal roles is equal, for a template that only writes them down (`chat_source.only_writes`). So it
is rendered once for every order of roles, the texts are put together from their pieces, and each is
tokenised once. Counts and refusals are those of `render_each`; wherever that cannot be known
beforehand, `render_each` is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

from nexa.core.errors import TemplateError
from nexa.lm import plain_text
from nexa.lm.chat_source import only_writes

Message = Mapping[str, str]
Messages = Sequence[Message]

BATCH = 256
MOST_PATTERNS = 512  # orders of roles that are kept: dialogues of up to some hundred turns
LONGEST_PATTERN = 64  # turns

# Contents that no template writes of itself; the second end with blanks, to be seen trimmed.
_PROBES = ("q{0}x{0}z", "u{0}w{0}y \n ")


class Template(Protocol):
    """What is asked of a chat template; see `nexa.lm.chat.ChatTemplate`."""

    tokenizer: Any

    @property
    def source(self) -> str:
        """The template as it is run."""

    def text_of(self, messages: Messages, *, prompt: bool = False) -> str:
        """A conversation as the template writes it."""

    def prompt(self, messages: Messages) -> list[int]:
        """The ids that inference starts from."""

    def render_each(self, conversations: Iterable[Messages]) -> Iterator[Any]:
        """Conversations as ids, or the error of a refused one."""


@dataclass(frozen=True)
class _Pattern:
    """What stands around the contents of conversations with the same roles."""

    around: tuple[str, ...]
    """One more than there are turns."""
    trims: tuple[bool, ...]
    marks: tuple[int, ...]
    """For each answer: how many marks its prompt has, the last of which its tail comes after."""

    def text(self, messages: Messages) -> str:
        """The conversation, rendered."""
        parts = [self.around[0]]
        for message, trims, after in zip(messages, self.trims, self.around[1:], strict=True):
            content = message["content"]
            parts += (content.strip() if trims else content, after)
        return "".join(parts)


class Lengths:
    """Counts the tokens of conversations under one template."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self._patterns: dict[tuple[str, ...], _Pattern | None] = {}

    def of(self, conversations: Iterable[Messages]) -> Iterator[int | TemplateError]:
        """The tokens of each, or why it cannot be trained on; in their order."""
        rest = iter(conversations)
        while batch := list(islice(rest, BATCH)):
            yield from self._batch(batch)

    def _batch(self, batch: Sequence[Messages]) -> Iterator[int | TemplateError]:
        patterns = [self._pattern(messages) for messages in batch]
        texts = [p.text(m) for p, m in zip(patterns, batch, strict=True) if p is not None]
        self._backend.no_padding()
        self._backend.no_truncation()
        encoded = iter(self._backend.encode_batch_fast(texts, add_special_tokens=False))
        found: list[int | None] = [
            None if pattern is None else self._length(pattern, next(encoded).ids)
            for pattern in patterns
        ]
        left = [messages for messages, n in zip(batch, found, strict=True) if n is None]
        rendered = self.template.render_each(left)
        for length in found:
            if length is not None:
                yield length
                continue
            slow = next(rendered)
            yield slow if isinstance(slow, TemplateError) else len(slow.ids)

    def _length(self, pattern: _Pattern, ids: list[int]) -> int | None:
        """The number of tokens if every prompt is the beginning of these.

        Between two special tokens a text is tokenised by itself. So a prompt's tokens are the
        beginning of the whole's if the tokens after its last special token are.
        """
        mark, tail, _ = self._prompt_end
        at, seen = -1, 0
        for wanted in pattern.marks:
            while seen < wanted:
                at, seen = ids.index(mark, at + 1), seen + 1
            if ids[at + 1 : at + 1 + len(tail)] != tail:
                return None
        return len(ids)

    # -- patterns ------------------------------------------------------------------------

    def _pattern(self, messages: Messages) -> _Pattern | None:
        """What a conversation is put together with; None: it has to be rendered."""
        if not self._can or plain_text.is_text(messages):
            return None
        if any(len(message) != 2 or self._is_special(message) for message in messages):
            return None
        roles = tuple(message["role"] for message in messages)
        if roles not in self._patterns:
            if len(self._patterns) >= MOST_PATTERNS or len(roles) > LONGEST_PATTERN:
                return None
            self._patterns[roles] = self._learnt(roles)
        return self._patterns[roles]

    def _is_special(self, message: Mapping[str, Any]) -> bool:
        """Not two texts, or a content with a token in it that stands for more than its letters."""
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            return True
        return self._added.search(content) is not None

    def _learnt(self, roles: Sequence[str]) -> _Pattern | None:
        """The pattern of these roles; None where the template refuses them, or does not fit one."""
        probes = [
            tuple({"role": role, "content": p.format(i)} for i, role in enumerate(roles))
            for p in _PROBES
        ]
        if any(isinstance(r, TemplateError) for r in self.template.render_each(probes)):
            return None
        texts = [self.template.text_of(messages) for messages in probes]
        around = _around(texts[0], [m["content"] for m in probes[0]])
        if around is None:
            return None
        trims = []
        rest = texts[1].removeprefix(around[0])
        for message, after in zip(probes[1], around[1:], strict=True):
            raw, bare = message["content"], message["content"].strip()
            trims.append(not rest.startswith(raw + after))
            rest = rest.removeprefix((bare if trims[-1] else raw) + after)
        marks = self._marks(probes[0])
        if marks is None:
            return None
        pattern = _Pattern(around, tuple(trims), marks)
        fits = all(pattern.text(m) == t for m, t in zip(probes, texts, strict=True))
        return pattern if fits else None

    def _marks(self, messages: Messages) -> tuple[int, ...] | None:
        """The marks in the prompt of each answer; None where one ends otherwise than others."""
        mark, _, tail = self._prompt_end
        text = str(self.template.tokenizer.convert_ids_to_tokens(mark))
        found = []
        for turn, message in enumerate(messages):
            if message["role"] == "assistant":
                prompt = self.template.text_of(messages[:turn], prompt=True)
                if prompt.rpartition(text)[2] != tail:
                    return None
                found.append(prompt.count(text))
        return tuple(found)

    # -- the tokenizer -------------------------------------------------------------------

    @property
    def _backend(self) -> Any:
        return self.template.tokenizer.backend_tokenizer

    @cached_property
    def _can(self) -> bool:
        """Whether template and tokenizer are such that texts may be put together from pieces."""
        template, tokenizer = self.template, self.template.tokenizer
        if not tokenizer.is_fast or not only_writes(template.source):
            return False
        added = tokenizer.added_tokens_decoder.values()
        if any(token.lstrip or token.rstrip or token.single_word for token in added):
            return False
        if self._backend.normalizer is not None and any(token.normalized for token in added):
            return False
        return self._prompt_end[0] >= 0

    @cached_property
    def _added(self) -> re.Pattern[str]:
        """Every token that is looked for in a text before all else."""
        added = {token.content for token in self.template.tokenizer.added_tokens_decoder.values()}
        return re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))))

    @cached_property
    def _prompt_end(self) -> tuple[int, list[int], str]:
        """A prompt's last special token (-1: it has none), what comes after it as ids and text."""
        template = self.template
        added = template.tokenizer.added_tokens_decoder
        ends = []
        for content in ("a", "b c"):
            messages = [{"role": "user", "content": content}]
            ids = template.prompt(messages)
            at = next((i for i in reversed(range(len(ids))) if ids[i] in added), None)
            if at is None:
                return -1, [], ""
            text = str(template.tokenizer.convert_ids_to_tokens(ids[at]))
            tail = template.text_of(messages, prompt=True).rpartition(text)[2]
            ends.append((ids[at], ids[at + 1 :], tail))
        return ends[0] if ends[0] == ends[1] else (-1, [], "")


def _around(text: str, contents: Sequence[str]) -> tuple[str, ...] | None:
    """The pieces between contents; None where one of them does not stand there just once."""
    pieces = []
    for content in contents:
        if text.count(content) != 1:
            return None
        before, _, text = text.partition(content)
        pieces.append(before)
    return (*pieces, text)
