from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nexa.core import events
from nexa.core.errors import MissingExtra, ModelError
from nexa.lm.gguf_run import ROOM_TOKENS, open_gguf
from nexa.lm.llama_cpp import available
from nexa.lm.resolve import ModelFiles, resolve
from tests.lm.gguf_models import write_gguf
from tests.lm.lively import write_lively

needs_llama_cpp = pytest.mark.skipif(available() is not None, reason=str(available()))


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    write_gguf(tmp_path / "m.gguf", write_lively(tmp_path / "model").folder)
    return resolve(str(tmp_path / "m.gguf"))


@needs_llama_cpp
def test_room_grows_with_what_is_asked_and_no_further_than_the_model_s(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexa.lm.gguf_run.ROOM_TOKENS", 64)
    heard: list[events.Event] = []
    with events.listening(heard.append):
        run = open_gguf(files)
    assert [(e["kind"], e["engine"]) for e in heard] == [("model.loaded", "llama.cpp")]
    assert run.positions == 512
    run.require_current()
    first = run.server(60)
    assert (first.positions, run.server(64)) == (64, first)
    second = run.server(65)
    assert (first.closed, second.positions) == (True, 128)
    assert run.server(500).positions == 512
    run.close()
    assert run.server(10).tokenize("iron")  # started again
    run.close()


@needs_llama_cpp
def test_one_that_was_asked_nothing_has_nothing_to_close(files: ModelFiles) -> None:
    open_gguf(files).close()
    assert ROOM_TOKENS >= 512


@needs_llama_cpp
def test_a_model_that_tells_of_no_positions_has_what_is_asked(files: ModelFiles) -> None:
    files.config.pop("max_position_embeddings")
    run = open_gguf(files)
    assert run.positions is None
    assert run.server(10).positions == ROOM_TOKENS
    run.close()


def test_only_gguf_files_are_run_and_only_where_the_package_is(
    tmp_path: Path, files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"llama.cpp runs GGUF files, and model is none"):
        open_gguf(resolve(str(tmp_path / "model")))
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtra, match=r"cannot answer for m.gguf(.|\n)*nexa-compute\[gguf\]"):
        open_gguf(files)
