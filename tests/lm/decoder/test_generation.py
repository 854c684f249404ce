from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nexa.lm.decoder import generation, generation_cache
from nexa.lm.decoder.generation import GenerationBatch, common_prefix
from nexa.lm.documents import Documents, documents_attention
from nexa.lm.load import load
from nexa.lm.resolve import ModelFiles
from tests.lm.decoder.test_generation_model import generation_model_of
from tests.lm.lively import alone, prompts_of, write_lively
from tests.support.tiny import ARCHITECTURES

LENGTHS = [64, 40, 33, 17, 17, 5, 2, 1]


def answers(files: ModelFiles, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    with torch.no_grad():
        batch = GenerationBatch(generation_model_of(files), prompts)
        made = [batch.next_ids]
        for _ in range(tokens - 1):
            batch.step()
            made.append(batch.next_ids)
    return torch.stack(made, 1).tolist()


def expected(files: ModelFiles, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    model = load(files, dtype="float32").model
    return [alone(model, prompt, tokens, ()) for prompt in prompts]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_batch_answers_as_transformers_each_prompt_alone(
    tmp_path: Path, architecture: str, tied: bool
) -> None:
    files = write_lively(tmp_path / "model", architecture, tied=tied)
    prompts = prompts_of(LENGTHS)
    made = answers(files, prompts, 24)
    assert made == expected(files, prompts, 24)
    assert len({tuple(ids) for ids in made}) == len(prompts)


def test_transformers_own_generate_says_the_same(tmp_path: Path) -> None:
    files = write_lively(tmp_path / "model", "qwen3")
    prompts = prompts_of([21, 21, 21])
    model = load(files, dtype="float32").model
    made = model.generate(
        input_ids=torch.tensor(prompts),
        attention_mask=torch.ones(3, 21, dtype=torch.long),
        max_new_tokens=40,
        min_new_tokens=40,
        do_sample=False,
        eos_token_id=None,
    )
    assert answers(files, prompts, 40) == made[:, 21:].tolist()


@pytest.mark.parametrize("prompt_tokens", [5, 40])
def test_a_sliding_window_is_kept(tmp_path: Path, prompt_tokens: int) -> None:
    files = write_lively(tmp_path / "model", "mistral", sliding_window=8)
    prompts = prompts_of([prompt_tokens, 21, 3])
    wide = write_lively(tmp_path / "wide", "mistral", sliding_window=None)
    assert answers(files, prompts, 16) == expected(files, prompts, 16)
    assert answers(files, prompts, 16) != answers(wide, prompts, 16)


@pytest.mark.parametrize("window", [None, 8])
def test_what_all_prompts_begin_with_is_read_once(tmp_path: Path, window: int | None) -> None:
    files = write_lively(tmp_path / "model", "mistral", sliding_window=window)
    (shared,) = prompts_of([20])
    prompts = [shared + own for own in prompts_of([30, 7, 1], seed=1)]
    assert common_prefix(prompts) == 20
    assert answers(files, prompts, 16) == expected(files, prompts, 16)


def test_prompts_are_read_in_chunks_and_answered_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_lively(tmp_path / "model")
    (shared,) = prompts_of([10])
    prompts = [shared + own for own in prompts_of([30, 29, 12, 11, 3], seed=1)]
    whole = answers(files, prompts, 8)
    monkeypatch.setattr(generation, "READ_TOKENS", 40)
    lengths = list(map(len, prompts))
    assert list(generation._chunks(lengths, 10)) == [range(0, 1), range(1, 2), range(2, 5)]
    assert answers(files, prompts, 8) == whole


def test_rows_leave_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_cache, "GROUP_ROWS", 3)
    files = write_lively(tmp_path / "model")
    prompts = prompts_of([9, 8, 7, 6, 5])
    wanted = answers(files, prompts, 12)
    with torch.no_grad():
        batch = GenerationBatch(generation_model_of(files), prompts)
        for _ in range(5):
            batch.step()
        batch.keep([1, 4])
        for _ in range(6):
            batch.step()
    assert batch.next_ids.tolist() == [wanted[1][11], wanted[4][11]]


@pytest.mark.parametrize(
    ("prompts", "tokens"),
    [
        ([[5, 6, 7]], 0),
        ([[5, 6, 7], [5, 6, 8, 9]], 2),
        ([[5, 6, 7], [5, 6, 7]], 2),
        ([[5, 6], [5, 6, 8, 9]], 1),
        ([[5], [5]], 0),
        ([[5, 6], [7, 6]], 0),
    ],
)
def test_each_row_keeps_a_token_that_is_its_own(prompts: list[list[int]], tokens: int) -> None:
    assert common_prefix(prompts) == tokens


def test_what_is_kept_for_later_may_be_trained_with(tmp_path: Path) -> None:
    """Tensors that were made in inference mode would be refused by autograd."""
    files = write_lively(tmp_path / "model")
    answers(files, prompts_of([9, 4]), 3)
    x = torch.randn(4, 13, 8, requires_grad=True)
    documents_attention(x, x, x, Documents((9, 4)), 0, 0.5).sum().backward()
    assert x.grad is not None


def test_ties_go_to_the_smaller_id() -> None:
    logits = torch.zeros(64, 5000, dtype=torch.bfloat16)
    logits[:, 777] = 1
    logits[:, 4096] = 1
    assert set(generation._likeliest(logits).tolist()) == {777}


def test_no_model_library_is_imported() -> None:
    code = "import sys, nexa.lm.decoder.generation; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
