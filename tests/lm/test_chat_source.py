"""A template is known for one that only writes its turns down, or it is not."""

from __future__ import annotations

import pytest

from nexa.lm.chat_source import PLAIN, only_writes
from tests.lm.templates import CHATML

LOOP = "{% for message in messages %}BODY{% endfor %}"

WRITES = (
    PLAIN,
    str(CHATML.template),
    "{% set end = '<end>' %}" + LOOP.replace("BODY", "{{ message.content + end }}"),
    LOOP.replace("BODY", "{{ '<' + message['role'] + '>' + message['content'] + eos_token }}"),
    LOOP.replace("BODY", "{{ message.role ~ message.content | trim ~ '\n' }}"),
    LOOP.replace("BODY", "{% set content = message.content | trim %}{{ content }}"),
    LOOP.replace("BODY", "{% if message.content is string %}{{ message.content }}{% endif %}"),
    LOOP.replace("BODY", "{{ message.content if message.role == 'user' else 'A' }}"),
    "{% set rest = messages[1:] %}{% for m in rest %}{{ m.content }}{% endfor %}",
    "{% if messages | length > 1 and messages[0]['role'] != 'system' %}x{% endif %}",
)
LOOKS = (
    "{% for message in messages %}",  # no template
    LOOP.replace("BODY", "{{ message }}"),
    LOOP.replace("BODY", "{{ message | tojson }}"),
    LOOP.replace("BODY", "{{ message.content | upper }}"),
    LOOP.replace("BODY", "{{ message.content | trim('x') }}"),
    LOOP.replace("BODY", "{{ message.content.strip() }}"),
    LOOP.replace("BODY", "{{ message.content[:9] }}"),
    LOOP.replace("BODY", "{{ message.content | length }}"),
    LOOP.replace("BODY", "{{ '%s' % message.content }}"),
    LOOP.replace("BODY", "{{ message[key] == 'x' }}"),
    LOOP.replace("BODY", "{% if message.content %}x{% endif %}"),
    LOOP.replace("BODY", "{% if 'a' in message.content %}x{% endif %}"),
    LOOP.replace("BODY", "{% if message.content is divisibleby 3 %}x{% endif %}"),
    LOOP.replace("BODY", "{{ 'a' if message.content else 'b' }}"),
    LOOP.replace("BODY", "{% set c = message.content %}{% if c == '' %}x{% endif %}"),
    LOOP.replace("BODY", "{% set a, b = message.content, 1 %}{{ a }}"),
    LOOP.replace("BODY", "{% if message == messages[-1] %}x{% endif %}"),
    "{% for c in messages[0].content %}{{ c }}{% endfor %}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(messages) }}",
    "{{ messages }}",
)


@pytest.mark.parametrize("source", WRITES)
def test_a_template_that_writes_its_turns_down(source: str) -> None:
    assert only_writes(source)


@pytest.mark.parametrize("source", LOOKS)
def test_a_template_that_looks_into_a_content_or_is_not_understood(source: str) -> None:
    assert not only_writes(source)
