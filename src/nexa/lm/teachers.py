"""From what a user calls a teacher or a judge to a model that can be asked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from nexa.core.errors import AccessError, ModelError, nearest
from nexa.core.secrets import Secret, redact
from nexa.lm.client import ChatModel, Price
from nexa.lm.prices import TEACHERS, Provider
from nexa.lm.scripted_chat import PREFIX as SCRIPTED
from nexa.lm.scripted_chat import ScriptedChat

HOSTS: Mapping[Provider, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
}
KEY_VARIABLES: Mapping[Provider, str] = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
}
URL_VARIABLES: Mapping[Provider, str] = {
    "openai": "OPENAI_BASE_URL",
    "anthropic": "ANTHROPIC_BASE_URL",
}
AT_ADDRESS = re.compile(r"(?P<model>.+)@(?P<url>https?://.*)", re.DOTALL)
FORMS = """a teacher of the table: {teachers}
any model of an API: openai:MODEL, anthropic:MODEL (with --price, if there is a budget)
a server that speaks as OpenAI does: MODEL@http://127.0.0.1:8000/v1, or MODEL and --base-url
a model of this machine: a folder, a .gguf file, a Hub id, checkpoint/NAME@vN, {aliases}"""


def open_model(
    name: str,
    *,
    project: Path,
    base_url: str | None = None,
    price: Price | None = None,
    allow_http: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> ChatModel:
    """A model by its name.

    An alias of the visible table (`gpt-4o`, `claude-...`) or `openai:MODEL` / `anthropic:MODEL`
    goes to that API, with the key from the environment; with `base_url` (or `MODEL@http://...`) to
    an OpenAI-compatible server; `scripted:FILE` answers from a table; whatever `lm.resolve` finds
    (folder, checkpoint, alias, .gguf) runs here. `price` overrides the table's. `allow_http` lets
    plain http go to another machine.

    Raises:
        ModelError: no such model; says the nearest name.
        AccessError: an API whose key is not in the environment.
        UsageError: an address that nothing may be sent to.
    """
    asked = name
    if found := AT_ADDRESS.fullmatch(name):
        name, base_url = found["model"], found["url"]
    if name.startswith(SCRIPTED):
        return ScriptedChat.read(Path(name.removeprefix(SCRIPTED)), price=price)
    target = _api(name) or (("openai", name) if base_url is not None else None)
    if target is None:
        return _local(name, project)
    provider, model = target
    url = base_url or environment.get(URL_VARIABLES[provider], "").strip() or HOSTS[provider]
    return _remote(
        _short(asked, url, base_url),
        provider,
        model,
        url,
        price=price,
        allow_http=allow_http,
        environment=environment,
    )


def _short(asked: str, url: str, base_url: str | None) -> str:
    """The name as it is shown: with the address only if it was given."""
    return asked if base_url is None or "@" in asked else f"{asked}@{url}"


def _api(name: str) -> tuple[Provider, str] | None:
    if row := TEACHERS.get(name):
        return row.provider, row.model
    for provider in HOSTS:
        if name.startswith(f"{provider}:") and len(name) > len(provider) + 1:
            return provider, name.partition(":")[2]
    return None


def _remote(
    name: str,
    provider: Provider,
    model: str,
    url: str,
    *,
    price: Price | None,
    allow_http: bool,
    environment: Mapping[str, str],
) -> ChatModel:
    from nexa.lm.chat_http import Place, checked_url

    url = checked_url(url, allow_http=allow_http)
    official = url == HOSTS[provider]
    variable = KEY_VARIABLES[provider]
    key = _key(variable, environment)
    if key is None and official:
        raise AccessError(
            f"{name} is asked with a key, and {variable} is not set",
            fix=f"export {variable}=...",
        )
    # Another host has other prices.
    if price is None and official and model in TEACHERS:
        price = TEACHERS[model].price
    place = Place(url, variable, key)
    if provider == "anthropic":
        from nexa.lm.anthropic_api import AnthropicChat

        return AnthropicChat(name, model, place, price=price)
    from nexa.lm.openai_api import OpenAIChat

    return OpenAIChat(name, model, place, price=price, official=official)


def _key(variable: str, environment: Mapping[str, str]) -> Secret | None:
    value = environment.get(variable, "").strip()
    if not value:
        return None
    secret = Secret(value, f"the environment ({variable})")
    if not all("!" <= letter <= "~" for letter in value):
        raise AccessError(f"{variable} holds what no key holds", fix=f"export {variable}=...")
    return secret


def _local(name: str, project: Path) -> ChatModel:
    from nexa.lm.resolve import ALIASES, HUB_ID, RUN_ID, resolve
    from nexa.lm.sealed import KINDS

    path = Path(name).expanduser()
    own = name.partition("/")[0] in KINDS or RUN_ID.fullmatch(name)
    # A misspelt teacher has no slash; a Hub id has one.
    if not (path.exists() or name in ALIASES or own or HUB_ID.fullmatch(name)):
        near = nearest(name.lower(), [*TEACHERS, *ALIASES])
        raise ModelError(
            f"there is no model {redact(name)!r} to ask",
            found=f"the nearest name is {near}" if near else None,
            fix=FORMS.format(teachers=", ".join(TEACHERS), aliases=", ".join(ALIASES)),
        )
    from nexa.lm.local import common_engine
    from nexa.lm.local_chat import DTYPE, LocalChat

    files = resolve(name, project=project)
    return LocalChat(files, name=name, engine=common_engine([files], dtype=DTYPE))
