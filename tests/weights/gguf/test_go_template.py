from __future__ import annotations

from nexa.weights.gguf.go_template import Parts, render, write

PARTS = Parts(
    {"system": ("<s>", "</s>\n"), "user": ("<u>", "</u>\n"), "assistant": ("<a>", "</a>\n")},
    answer="<a>",
    start="BOS",
    no_system="<s>default</s>\n",
)
USER = {"role": "user", "content": 'one {} "two"\nthree'}


def test_a_conversation_is_rendered_as_it_is_put_together_by_hand() -> None:
    template = write(PARTS)
    assert template is not None
    assert render(template, [USER]) == ('BOS<s>default</s>\n<u>one {} "two"\nthree</u>\n<a>')
    more = [
        {"role": "system", "content": "s"},
        USER,
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "no"},
    ]
    assert render(template, more) == (
        'BOS<s>s</s>\n<u>one {} "two"\nthree</u>\n<a>yes</a>\n<u>no</u>\n<a>'
    )


def test_a_role_without_a_part_is_left_out() -> None:
    template = write(Parts({"user": ("", "!")}, answer=""))
    assert (
        template == '{{ range .Messages }}{{ if eq .Role "user" }}{{ .Content }}!{{ end }}{{ end }}'
    )
    assert render(template, [{"role": "tool", "content": "x"}, USER]) == f"{USER['content']}!"


def test_text_that_the_language_would_take_for_its_own_is_not_written() -> None:
    assert write(Parts({"user": ("{{", "")}, answer="")) is None
    assert write(Parts({"user": ("", "")}, answer='"""')) is None
