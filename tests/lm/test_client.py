from __future__ import annotations

import pytest

from nexa.core.identity import Unstable
from nexa.lm.client import (
    Price,
    Request,
    TooLong,
    estimated_input,
    estimated_tokens,
    most_input,
    prompt_digest,
    request_key,
)

ME = {"provider": "openai", "endpoint": "https://host/v1", "model": "m"}


def asking(text: str = "hello", **more: object) -> Request:
    fields = {"id": "a", "messages": ({"role": "user", "content": text},), "max_new_tokens": 9}
    return Request(**{**fields, **more})  # type: ignore[arg-type]


def test_a_key_hangs_on_the_model_and_on_all_of_a_request_but_its_id() -> None:
    key = request_key(ME, asking())
    assert key == request_key(dict(reversed(ME.items())), asking(id="b"))
    others = [
        request_key({**ME, "model": "n"}, asking()),
        request_key(ME, asking("goodbye")),
        request_key(ME, asking(max_new_tokens=10)),
        request_key(ME, asking(temperature=0.5)),
        request_key(ME, asking(seed=0)),
        request_key(ME, asking(json_schema={"type": "object"})),
    ]
    assert len({key, *others}) == 7


def test_text_that_utf8_cannot_hold_has_no_key() -> None:
    with pytest.raises(Unstable):
        request_key(ME, asking("half \ud800"))


def test_a_prompts_digest_is_over_its_messages_alone() -> None:
    assert prompt_digest(asking()) == prompt_digest(asking(id="b", temperature=1.0))
    assert prompt_digest(asking()) != prompt_digest(asking("hello "))


def test_estimates_are_a_third_of_the_bytes_rounded_up() -> None:
    assert [estimated_tokens(text) for text in ("", "a", "abc", "abcd", "水")] == [0, 1, 1, 2, 1]
    plain, held = asking(), asking(json_schema={"type": "object"})
    assert estimated_input(plain) == 2 + 2 + 16
    assert estimated_input(held) == estimated_input(plain) + 6


def test_the_worst_case_has_a_token_for_each_byte() -> None:
    assert most_input(asking()) == len("user") + len("hello") + 32
    assert all(most_input(asking(t)) > estimated_input(asking(t)) for t in ("", "x" * 99, "水火"))


def test_a_price_is_for_a_million_tokens() -> None:
    assert Price(2.0, 8.0, "a list").cost_usd(500_000, 250_000) == 3.0


def test_a_request_that_is_too_long_will_not_fit_later() -> None:
    error = TooLong("9 + 9 tokens")
    assert not error.temporary
    assert not error.billed
    assert error.found == "9 + 9 tokens"
