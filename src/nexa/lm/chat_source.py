"""Where a chat template comes from, and whether it only writes its turns down.

A template is a program. Of one that puts every turn's content into its text as it stands, or
trimmed, and never looks into it, the text around the contents depends on the roles alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, cast

import jinja2
from jinja2 import nodes

from nexa.core.errors import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The format of models that bring no template (base models): each turn on its own line, an answer
# ends with the eos token. The tokenizer's BOS comes first where the tokenizer itself adds one.
PLAIN = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ message['content'] | trim + '\n' }}{% endif %}{% endfor %}"
)

# Templates that write today's date would train tomorrow on other prompts than today.
TEMPLATE_DATE = date(2025, 1, 1)

# What a template may be made of to be known for one that only writes its turns down.
_PLAIN_NODES = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.CondExpr),
    *(nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Const, nodes.Assign),
    *(nodes.Compare, nodes.Operand, nodes.Not, nodes.And, nodes.Or, nodes.Test, nodes.Filter),
    *(nodes.Add, nodes.Sub, nodes.Mod, nodes.Concat, nodes.Neg),
)
_FILTERS = ("trim", "length")
_TESTS = ("defined", "string", "none")  # true or false of every text alike


def template_of(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Whose template, and its text; PLAIN where the tokenizer has none.

    Raises:
        TemplateError: several templates and no default, or none and no eos token.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            raise TemplateError(
                "the tokenizer has several chat templates and none is the default",
                found=", ".join(sorted(template)),
                fix="name one of them 'default' in the tokenizer's configuration",
            )
        template = template["default"]
    if template:
        return "tokenizer", str(template)
    if tokenizer.eos_token is None:
        raise TemplateError(
            "the tokenizer has neither a chat template nor an eos token",
            fix="set eos_token in tokenizer_config.json",
        )
    return "PLAIN", PLAIN


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer begins a plain text with BOS."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("")["input_ids"][:1] == [bos]


def with_frozen_clock(text: str) -> tuple[str, date | None]:
    """The template with `strftime_now` answering one fixed date, if it asks for the date at all."""
    if "strftime_now" not in text:
        return text, None
    formats = re.findall(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)", text)
    cases = "".join(
        "{% if format == " + repr(form) + " %}" + TEMPLATE_DATE.strftime(form) + "{% endif %}"
        for form in dict.fromkeys(form for _, form in formats)
    )
    macro = "{% macro strftime_now(format) %}" + cases + "{% endmacro %}{{ '' }}"
    return macro + text, TEMPLATE_DATE


def only_writes(source: str) -> bool:
    """Whether a template provably does no more with contents than to write or trim them.

    By its syntax tree: no other filter, no test, no comparison and no cut is laid on anything that
    comes out of a content, and no whole message is written. False wherever that is not seen.
    """
    try:
        tree = jinja2.Environment(autoescape=False).parse(source)
    except jinja2.TemplateError:
        return False
    every = list(_below(tree))
    if not all(isinstance(node, _PLAIN_NODES) for node, _ in every):
        return False
    look = _Look([(node, parents) for node, parents in every])
    return all(look.is_plain(node, parents) for node, parents in every)


class _Look:
    """What each name of a template stands for: lists of messages, messages, or contents."""

    def __init__(self, every: list[tuple[nodes.Node, tuple[nodes.Node, ...]]]) -> None:
        self.messages, self.contents = {"messages"}, set[str]()
        before = -1
        while before != (before := len(self.messages) + len(self.contents)):
            for node, _ in every:
                if isinstance(node, nodes.For):
                    self._binds(node.target, node.iter)
                elif isinstance(node, nodes.Assign):
                    self._binds(node.target, node.node)

    def is_plain(self, node: nodes.Node, parents: tuple[nodes.Node, ...]) -> bool:
        """Whether nothing but writing and trimming is done here."""
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            return False
        if isinstance(node, nodes.Test) and node.name not in _TESTS and self._holds(node.node):
            return False
        if isinstance(node, nodes.Name) and node.name in self.messages:
            return self._is_looked_into(node, parents[-1])
        return not self._is_content(node) or self._is_written(node, parents)

    def _binds(self, target: nodes.Node, value: nodes.Node) -> None:
        name = cast("nodes.Name", target).name  # several targets are no node that is taken
        if self._holds(value):
            self.contents.add(name)
        elif any(isinstance(n, nodes.Name) and n.name in self.messages for n in _all(value)):
            self.messages.add(name)

    def _is_content(self, node: nodes.Node) -> bool:
        if isinstance(node, nodes.Name):
            return node.name in self.contents and node.ctx == "load"
        if isinstance(node, nodes.Getattr):
            return node.attr == "content"
        return (
            isinstance(node, nodes.Getitem)
            and (not isinstance(node.arg, nodes.Const) or node.arg.value == "content")
            and not isinstance(node.arg, nodes.Slice)
            and not self._is_list_item(node)
        )

    def _is_list_item(self, node: nodes.Getitem) -> bool:
        """`messages[0]`, `messages[loop.index0 - 1]`: a message out of the list."""
        return isinstance(node.node, nodes.Name) and node.node.name == "messages"

    def _holds(self, node: nodes.Node) -> bool:
        return any(self._is_content(inner) for inner in _all(node))

    @staticmethod
    def _is_looked_into(node: nodes.Name, parent: nodes.Node) -> bool:
        """A list of messages, or a message, is gone through or asked for a key, never written."""
        if node.ctx == "store":
            return True
        if isinstance(parent, nodes.Filter):
            return parent.name == "length"
        return isinstance(parent, nodes.Getattr | nodes.Getitem | nodes.For | nodes.Assign)

    def _is_written(self, node: nodes.Node, parents: tuple[nodes.Node, ...]) -> bool:
        """Nothing between a content and the text that it goes into, or the name that it gets."""
        *others, parent = parents
        if isinstance(parent, nodes.Output):
            return True
        if isinstance(parent, nodes.Test):
            return parent.name in _TESTS
        if isinstance(parent, nodes.Assign):
            return node is parent.node
        if isinstance(parent, nodes.Filter):
            hands_on = parent.name == "trim" and not parent.args
        elif isinstance(parent, nodes.CondExpr):
            hands_on = node is not parent.test
        else:
            hands_on = isinstance(parent, nodes.Add | nodes.Concat)
        return hands_on and self._is_written(parent, tuple(others))


def _below(
    node: nodes.Node, parents: tuple[nodes.Node, ...] = ()
) -> Iterator[tuple[nodes.Node, tuple[nodes.Node, ...]]]:
    """Every node with those it lies in, the nearest last."""
    yield node, parents
    for child in node.iter_child_nodes():
        yield from _below(child, (*parents, node))


def _all(node: nodes.Node) -> Iterator[nodes.Node]:
    for found, _ in _below(node):
        yield found
