from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nexa.core.events import Event, listening
from nexa.lm.resolve import ModelFiles
from nexa.train import compiling
from nexa.train.batches import TokenRow
from nexa.train.compiling import (
    SHORTEST_RUN_S,
    can_compile,
    compile_pays,
    has_compiler,
    predicted_s,
)
from nexa.train.spec import TrainSpec

# As SmolLM2-135M: 135 million weights.
CONFIG: dict[str, Any] = {
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
ROWS = [TokenRow(str(i), [1] * 200, [True] * 200) for i in range(100)]


@pytest.fixture(autouse=True)
def _two_threads_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def spec(base: ModelFiles, steps: int) -> TrainSpec:
    return TrainSpec(base, batch_size=16, max_steps=steps)


def test_a_short_run_is_not_compiled_and_a_long_one_is(
    base: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "has_compiler", lambda: True)
    assert not compile_pays(spec(base, 15), ROWS, "bfloat16", CONFIG)
    assert compile_pays(spec(base, 1000), ROWS, "bfloat16", CONFIG)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not compile_pays(spec(base, 1000), ROWS, "bfloat16", CONFIG)


def test_without_a_compiler_nothing_is_compiled(
    base: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "has_compiler", lambda: False)
    assert not compile_pays(spec(base, 100_000), ROWS, "bfloat16", CONFIG)


def test_time_is_told_by_tokens_and_weights_at_the_best_speed(base: ModelFiles) -> None:
    seconds = predicted_s(spec(base, 100), ROWS, "bfloat16", CONFIG)
    assert seconds == pytest.approx(100 * 16 * 200 * 4 * 134.5e6 / 600e9, rel=0.01)
    assert predicted_s(spec(base, 100), ROWS, "float32", CONFIG) > 2 * seconds
    assert predicted_s(spec(base, 100), ROWS[:4], "bfloat16", CONFIG) < seconds  # 4 rows a step
    assert pytest.approx(300) == SHORTEST_RUN_S


def test_a_compiler_needs_pythons_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "own-c++"
    compiler.write_text("")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert not has_compiler(tmp_path)
    (tmp_path / "Python.h").write_text("")
    assert has_compiler(tmp_path)
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    assert not has_compiler(tmp_path)
    assert not has_compiler()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when its compiler loads
def test_a_compiler_that_fails_is_told_and_done_without(tmp_path: Path) -> None:
    from torch._inductor import config
    from torch._inductor.utils import fresh_cache

    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'no licence' >&2\nexit 1\n")
    broken.chmod(0o755)
    told: list[Event] = []
    torch.compiler.reset()
    with fresh_cache(), config.patch("cpp.cxx", (None, str(broken))), listening(told.append):
        assert not can_compile()
    torch.compiler.reset()
    assert told[0]["text"].startswith("training without compiled kernels")


@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler and Python's headers")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiler_that_works_is_used() -> None:
    told: list[Event] = []
    with listening(told.append):
        assert can_compile()
    assert told == []
