from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nexa.core.errors import AccessError, ModelError, UsageError
from nexa.core.secrets import redact
from nexa.lm.anthropic_api import AnthropicChat
from nexa.lm.client import ChatModel, Price
from nexa.lm.local_chat import LocalChat
from nexa.lm.openai_api import OpenAIChat
from nexa.lm.prices import TEACHERS
from nexa.lm.scripted_chat import ScriptedChat
from nexa.lm.teachers import open_model
from tests.lm.asked import KEY, complete, request
from tests.support.scripted_endpoint import ScriptedEndpoint

KEYS = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY[::-1]}
OPENAI = "https://api.openai.com/v1"


def opened(name: str, **more: object) -> ChatModel:
    settings: dict[str, object] = {"project": Path(), "environment": KEYS, **more}
    return open_model(name, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(TEACHERS))
def test_a_teacher_of_the_table_has_its_api_its_price_and_its_key(name: str) -> None:
    model = opened(name)
    assert model.name == name
    assert model.price == TEACHERS[name].price
    assert model.identity["model"] == TEACHERS[name].model
    assert isinstance(model, OpenAIChat | AnthropicChat)
    assert model.identity["provider"] == TEACHERS[name].provider
    assert model.place.key is not None
    expected = KEY if isinstance(model, OpenAIChat) else KEY[::-1]
    assert model.place.key.reveal() == expected
    assert redact(f"it is {expected}") == "it is [redacted]"
    assert KEY not in repr(vars(model))


def test_any_model_of_an_api_may_be_named_and_has_no_price_but_the_one_given() -> None:
    model = opened("openai:gpt-7")
    assert model.identity == {"provider": "openai", "endpoint": OPENAI, "model": "gpt-7"}
    assert model.price is None
    assert opened("openai:gpt-4o").price == TEACHERS["gpt-4o"].price
    mine = Price(1.0, 2.0, "my contract")
    assert opened("anthropic:claude-x", price=mine).price == mine
    assert opened("gpt-4o", price=mine).price == mine


def test_an_address_may_stand_with_the_name_or_beside_it_or_in_the_environment() -> None:
    url = "http://127.0.0.1:8000/v1"
    with_name = opened(f"org/model@{url}/")
    beside = opened("org/model", base_url=url)
    assert with_name.identity == beside.identity
    assert beside.identity == {"provider": "openai", "endpoint": url, "model": "org/model"}
    assert with_name.name == f"org/model@{url}/"
    assert beside.name == f"org/model@{url}"
    told = opened("gpt-4o", environment={"OPENAI_BASE_URL": url})
    assert (told.name, told.identity["endpoint"]) == ("gpt-4o", url)
    assert told.price is None  # another host has other prices
    claude = opened("claude-sonnet-5", base_url="https://proxy.example")
    assert isinstance(claude, AnthropicChat)


def test_the_model_is_asked_where_it_is_said_to_be() -> None:
    with ScriptedEndpoint() as endpoint:
        [made] = complete(opened(f"m@{endpoint.url}"), request("hi"))
    assert made.text == "answer to: hi"
    assert endpoint.received[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_missing_key_is_told_before_anything_is_sent() -> None:
    with pytest.raises(AccessError, match="OPENAI_API_KEY is not set"):
        opened("gpt-4o", environment={"OPENAI_API_KEY": "  "})
    with pytest.raises(AccessError, match="export ANTHROPIC_API_KEY"):
        opened("claude-opus-5", environment={})


def test_a_key_with_a_line_end_in_it_is_refused_and_not_shown() -> None:
    with pytest.raises(AccessError, match="holds what no key holds") as caught:
        opened("gpt-4o", environment={"OPENAI_API_KEY": "half-a-key\nother-half"})
    assert "half-a-key" not in str(caught.value)


def test_keys_go_over_the_network_in_clear_text_only_if_it_is_meant() -> None:
    with pytest.raises(UsageError, match="clear text"):
        opened("m@http://10.0.0.7:8000/v1")
    assert opened("m@http://10.0.0.7:8000/v1", allow_http=True).name.startswith("m@")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("gpt4o", "gpt-4o"),
        ("claude-sonet-5", "claude-sonnet-5"),
        ("smollm2-135", "smollm2-135m"),
        ("openai:", None),
        ("zzz", None),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(name: str, near: str | None) -> None:
    with pytest.raises(ModelError, match="there is no model") as caught:
        opened(name)
    assert caught.value.found == (near and f"the nearest name is {near}")
    assert "gpt-4o-mini" in str(caught.value.fix)


def test_a_folder_runs_here_and_a_table_answers(tmp_path: Path, tiny_llama: Path) -> None:
    local = opened(str(tiny_llama))
    assert isinstance(local, LocalChat)
    assert local.identity["provider"] == "local"
    (tmp_path / "table.json").write_text('{"*": "yes"}')
    assert isinstance(opened(f"scripted:{tmp_path}/table.json"), ScriptedChat)


def test_naming_a_teacher_loads_neither_a_client_nor_torch() -> None:
    code = (
        "import sys, nexa.lm.teachers, nexa.lm.requests\n"
        "print([n for n in ('openai', 'anthropic', 'torch', 'transformers') if n in sys.modules])"
    )
    words = [sys.executable, "-c", code]
    made = subprocess.run(words, capture_output=True, text=True, check=True)
    assert made.stdout == "[]\n"
