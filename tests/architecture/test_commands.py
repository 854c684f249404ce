from __future__ import annotations

import shlex

import click
import pytest

from nexa.cli import docs
from nexa.cli.docs import contexts
from nexa.cli.lazy import LazyGroup
from nexa.cli.main import app
from tests.architecture.files import ROOT, text_files

CONTEXTS = list(contexts())


def by_path(context: click.Context) -> str:
    return context.command_path


@pytest.mark.parametrize("context", CONTEXTS, ids=by_path)
def test_help_of_every_command_works_and_is_in_the_reference(context: click.Context) -> None:
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert f"```\n{context.get_help()}\n```" in reference


@pytest.mark.parametrize("context", CONTEXTS, ids=by_path)
def test_the_tables_say_what_the_commands_say(context: click.Context) -> None:
    if isinstance(context.command, LazyGroup):
        for _, name, (_, text) in context.command.lines():
            command = context.command.get_command(context, name)
            assert command is not None
            assert text == command.get_short_help_str(limit=200), f"{context.command_path} {name}"
            assert len(text) <= 80


@pytest.mark.parametrize("context", CONTEXTS, ids=by_path)
def test_every_option_says_what_it_does(context: click.Context) -> None:
    for option in context.command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{context.command_path} {option.opts[0]} has no help"


def test_every_command_can_print_json_and_be_quiet() -> None:
    for context in CONTEXTS:
        if not isinstance(context.command, LazyGroup):
            flags = {flag for option in context.command.params for flag in option.opts}
            assert {"--json", "-v", "-q"} <= flags, context.command_path


def test_aliases_point_to_commands() -> None:
    assert set(app.aliases.values()) <= set(
        app.list_commands(click.Context(app, **app.context_settings))
    )


def shown_commands() -> list[tuple[str, str]]:
    """(file:line, command line) of every `nexa ...` that a document or an example shows."""
    shown = []
    for path in text_files():
        if path.suffix not in (".md", ".sh") or "tests" in path.parts:
            continue
        language = "sh" if path.suffix == ".sh" else None
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("```"):
                language = line[3:].strip() or None
            text = line.strip().removeprefix("$ ")
            if language in ("sh", "bash", "console") and text.startswith("nexa "):
                shown.append((f"{path.relative_to(ROOT)}:{number}", text))
    return shown


@pytest.mark.parametrize(("place", "line"), shown_commands())
def test_every_command_that_is_shown_can_be_typed(place: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = app
    context = click.Context(app, info_name="nexa", **app.context_settings)
    while isinstance(command, LazyGroup) and words:
        name, found, words = command.resolve_command(context, words)
        assert found is not None, place
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.parse_args(context, words)


def test_generated_documents_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main(["--check", "--root", str(ROOT)]) == 0, capsys.readouterr().err
