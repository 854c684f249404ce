"""Which text of a row is trained: what `nexa data mask` prints in colour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from nexa.core.errors import TemplateError
from nexa.data.rows import Reject
from nexa.data.sources import read_source, sources_of, tell_shape
from nexa.lm.chat import ChatTemplate, Messages, Rendered


@dataclass(frozen=True)
class Span:
    """A stretch of text that is trained as a whole, or not at all."""

    text: str
    trained: bool
    tokens: int


@dataclass(frozen=True)
class MaskedRow:
    """A row as the model reads it. `problem` says why it has no spans."""

    origin: str
    spans: tuple[Span, ...] = ()
    problem: str = ""

    @property
    def tokens(self) -> int:
        """Tokens of the row."""
        return sum(span.tokens for span in self.spans)

    @property
    def trained_tokens(self) -> int:
        """Tokens that bear loss."""
        return sum(span.tokens for span in self.spans if span.trained)


def mask_file(
    path: Path, template: ChatTemplate, *, format: str = "auto", limit: int | None = None
) -> Iterator[MaskedRow]:
    """The rows of a file or folder in their order, each with its spans or its problem.

    Raises:
        DataError: the file cannot be read.
    """
    return islice(_rows(path, template, format), limit)


def spans(template: ChatTemplate, messages: Messages) -> tuple[Span, ...]:
    """A conversation's text, cut where training begins and ends.

    The spans' texts put together are the decoded ids.

    Raises:
        TemplateError: the template refuses it.
    """
    return _cut(template, template.render(messages))


def _rows(path: Path, template: ChatTemplate, format_name: str) -> Iterator[MaskedRow]:
    for source in sources_of(path):
        shape = tell_shape(source.path)[0] if format_name == "auto" else format_name
        for item in read_source(source, shape):
            if isinstance(item, Reject):
                yield MaskedRow(item.line.origin, problem=item.detail)
                continue
            try:
                cut = spans(template, item.content.messages)
            except TemplateError as error:
                problem = f"{error.what} ({error.found})" if error.found else error.what
                yield MaskedRow(item.line.origin, problem=problem)
                continue
            yield MaskedRow(item.line.origin, cut)


def _cut(template: ChatTemplate, rendered: Rendered) -> tuple[Span, ...]:
    cut = []
    end, before = 0, ""
    for trained, run in groupby(rendered.trained):
        tokens = len(list(run))
        end += tokens
        # Decoded from the beginning: some tokenizers drop a blank at the start of what they decode.
        text = str(
            template.tokenizer.decode(rendered.ids[:end], clean_up_tokenization_spaces=False)
        )
        cut.append(Span(text[len(before) :], trained, tokens))
        before = text
    return tuple(cut)
