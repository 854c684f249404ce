from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import ModelError
from nexa.core.events import Event, listening
from nexa.lm import local_chat
from nexa.lm.chat import ChatTemplate
from nexa.lm.client import RequestFailed, TooLong
from nexa.lm.llama_cpp import available
from nexa.lm.local import generate, open_model
from nexa.lm.local_chat import LocalChat
from nexa.lm.resolve import ModelFiles
from nexa.lm.teachers import open_model as open_teacher
from tests.lm.asked import SCHEMA, complete, request
from tests.lm.gguf_models import write_gguf
from tests.lm.lively import write_lively

needs_llama_cpp = pytest.mark.skipif(available() is not None, reason=str(available()))


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return write_lively(tmp_path / "lively")


def alone(files: ModelFiles, text: str, max_new_tokens: int) -> str:
    """What the engine says to one prompt."""
    loaded = open_model(files, dtype="float32")
    template = ChatTemplate(loaded.tokenizer)
    prompt = template.prompt([{"role": "user", "content": text}])
    [made] = generate(loaded, [prompt], max_new_tokens=max_new_tokens, stop_ids=template.stop_ids)
    return str(loaded.tokenizer.decode(made.ids, skip_special_tokens=True))


def test_requests_that_come_together_are_answered_as_each_alone(files: ModelFiles) -> None:
    model = LocalChat(files, name="mine", batch_size=4)
    asked = [request(f"question {i}" * (i + 1), max_new_tokens=6 + i // 6) for i in range(9)]
    made = complete(model, *asked)
    assert [one.text for one in made] == [
        alone(files, one.messages[0]["content"], one.max_new_tokens) for one in asked
    ]
    assert all(
        one.input_tokens == model.count_tokens(r) for one, r in zip(made, asked, strict=True)
    )
    assert all(0 < one.output_tokens <= 7 for one in made)
    assert {one.finish for one in made} <= {"stop", "length"}
    assert made[0].model == f"{files.name} ({files.digest[:16]})"
    assert model.price is not None
    assert model.price.cost_usd(1, 1) == 0.0
    assert model.identity["dtype"] == "float32"


def test_no_bar_of_a_batch_is_seen_from_outside(files: ModelFiles) -> None:
    heard: list[Event] = []
    with listening(heard.append):
        complete(LocalChat(files, name="mine"), request(max_new_tokens=12))
    assert {event["kind"] for event in heard} <= {"model.loaded", "note"}


def test_answers_that_would_be_drawn_are_refused_by_name(files: ModelFiles) -> None:
    model = LocalChat(files, name="mine")
    for asking in (model.count_tokens, lambda asked: complete(model, asked)):
        with pytest.raises(ModelError, match=r"mine runs on this machine(.|\n)*temperature 0\.7"):
            asking(request(temperature=0.7))


def test_what_cannot_be_written_or_does_not_fit_is_a_problem_of_its_row(
    files: ModelFiles,
) -> None:
    model = LocalChat(files, name="mine")
    with pytest.raises(TooLong, match="tokens"):
        complete(model, request("x" * 9999))
    with pytest.raises(RequestFailed) as caught:
        complete(model, request(messages=({"role": "user", "content": "<|im_end|>"},)))
    assert not caught.value.temporary
    assert complete(model, request("fine"))[0].text == alone(files, "fine", 50)


def test_a_schema_is_not_kept_to_and_that_is_told_once(files: ModelFiles) -> None:
    heard: list[Event] = []
    asked = [request(f"q{i}", json_schema=SCHEMA, max_new_tokens=2) for i in range(3)]
    with listening(heard.append):
        made = complete(LocalChat(files, name="mine"), *asked)
    assert [one.extra for one in made] == [{"without": ["response_format"]}] * 3
    assert sum("held to no schema" in event.get("text", "") for event in heard) == 1


def test_a_batch_is_let_go_of_when_nobody_waits_any_more(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LocalChat(files, name="mine", batch_size=1)
    steps = 0
    real = local_chat.generate

    def counted(*given: Any, **settings: Any) -> Any:
        nonlocal steps
        steps += 1
        model._abandoned = True
        return real(*given, **settings)

    monkeypatch.setattr(local_chat, "generate", counted)

    async def story() -> None:
        asked = [request(f"q{i}", max_new_tokens=400) for i in range(3)]
        tasks = [asyncio.create_task(model.complete(one, timeout_s=9.0)) for one in asked]
        await asyncio.wait(tasks, timeout=0.0)
        assert model._runner is not None
        await model._runner
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await model.close()

    asyncio.run(story())
    assert steps == 1
    monkeypatch.undo()
    assert complete(model, request("again", max_new_tokens=3))[0].output_tokens > 0


def test_what_a_cancelled_request_was_answered_is_nobodys(files: ModelFiles) -> None:
    model = LocalChat(files, name="mine", batch_size=2)

    async def story() -> str:
        tasks = [
            asyncio.create_task(model.complete(request(text, max_new_tokens=3), timeout_s=9.0))
            for text in ("gone", "stays")
        ]
        await asyncio.wait(tasks, timeout=0.0)
        tasks[0].cancel()
        made = await tasks[1]
        await model.close()
        return made.text

    assert asyncio.run(story()) == alone(files, "stays", 3)


def test_a_model_that_cannot_be_loaded_is_told_to_whoever_waits(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LocalChat(files, name="mine")
    (files.folder / "model.safetensors").write_bytes(b"broken")

    async def story() -> list[BaseException]:
        asked = (model.complete(request(text), timeout_s=9.0) for text in ("a", "b"))
        tasks = [asyncio.create_task(one) for one in asked]
        await asyncio.wait(tasks, timeout=0.0)
        tasks[0].cancel()
        return list(await asyncio.gather(*tasks, return_exceptions=True))  # type: ignore[arg-type]

    cancelled, refused = asyncio.run(story())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert isinstance(refused, ModelError)


@needs_llama_cpp
def test_a_gguf_file_is_answered_by_llama_cpp_and_its_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, write_lively(tmp_path / "model").folder)
    model = open_teacher(str(path), project=tmp_path)
    assert isinstance(model, LocalChat)
    assert model.concurrency == 1
    made = complete(model, request("a", max_new_tokens=3), request("b", max_new_tokens=3))
    assert all(one.output_tokens > 0 for one in made)
    assert model._loaded is not None
    assert model._loaded._server.closed  # type: ignore[union-attr]
