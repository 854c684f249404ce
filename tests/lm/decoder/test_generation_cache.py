from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from nexa.lm.decoder import generation_cache
from nexa.lm.decoder.generation_cache import BLOCK_TOKENS, GenerationCache
from nexa.lm.decoder.shape import DecoderShape, shape_of
from tests.lm.lively import write_lively


@pytest.fixture
def shape(tmp_path: Path) -> DecoderShape:
    return shape_of(write_lively(tmp_path / "model").config)


class Texts:
    """Rows of random keys and values, kept apart: what the cache must attend to."""

    def __init__(self, shape: DecoderShape, lengths: list[int]) -> None:
        self.shape = shape
        self.random = torch.Generator().manual_seed(0)
        self.rows = [
            (self.heads(n, shape.key_heads), self.heads(n, shape.key_heads)) for n in lengths
        ]

    def heads(self, tokens: int, heads: int) -> torch.Tensor:
        return torch.randn(tokens, heads, self.shape.head_width, generator=self.random)

    def lay(self, cache: GenerationCache) -> None:
        for layer in range(self.shape.layers):
            for row, (key, value) in enumerate(self.rows):
                cut = len(key) // 3  # as a shared prefix and the row's own
                cache.lay(layer, row, [(key[:cut], value[:cut]), (key[cut:], value[cut:])])

    def step(self, cache: GenerationCache, layer: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """What the cache makes of one more token a row, and what torch does."""
        query = self.heads(len(self.rows), self.shape.heads)
        key, value = (self.heads(len(self.rows), self.shape.key_heads) for _ in range(2))
        self.rows = [
            (torch.cat([k, key[i : i + 1]]), torch.cat([v, value[i : i + 1]]))
            for i, (k, v) in enumerate(self.rows)
        ]
        cache.append()
        seen = slice(-self.shape.window, None) if self.shape.window else slice(None)
        expected = [
            scaled_dot_product_attention(
                query[i, None, :, None],
                k[seen].transpose(0, 1)[None],
                v[seen].transpose(0, 1)[None],
                enable_gqa=True,
            ).flatten()
            for i, (k, v) in enumerate(self.rows)
        ]
        return cache.attend(layer, query, key, value), torch.stack(expected)


@pytest.mark.parametrize("group_rows", [1, 2, 32])
@pytest.mark.parametrize("window", [0, 8])
def test_each_row_attends_to_its_own_tokens(
    shape: DecoderShape, monkeypatch: pytest.MonkeyPatch, window: int, group_rows: int
) -> None:
    monkeypatch.setattr(generation_cache, "GROUP_ROWS", group_rows)
    shape = replace(shape, window=window)
    lengths = [30, 29, 12, 5, 1]
    texts, cache = Texts(shape, lengths), GenerationCache(shape, lengths, torch.float32)
    texts.lay(cache)
    for _ in range(BLOCK_TOKENS + 6):  # across the ends of blocks
        made, expected = texts.step(cache)
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kept", [[0, 1, 4], [2, 3], [4], [0, 1, 2, 3, 4]])
def test_rows_that_ended_are_taken_out(
    shape: DecoderShape, monkeypatch: pytest.MonkeyPatch, kept: list[int]
) -> None:
    monkeypatch.setattr(generation_cache, "GROUP_ROWS", 2)
    lengths = [30, 29, 12, 5, 3]
    texts, cache = Texts(shape, lengths), GenerationCache(shape, lengths, torch.float32)
    texts.lay(cache)
    texts.step(cache)
    cache.keep(kept)
    texts.rows = [texts.rows[row] for row in kept]
    for _ in range(4):
        made, expected = texts.step(cache)
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)


def test_buffers_have_the_weights_dtype(shape: DecoderShape) -> None:
    cache = GenerationCache(shape, [4], torch.bfloat16)
    key = torch.ones(1, shape.key_heads, shape.head_width, dtype=torch.bfloat16)
    cache.append()
    out = cache.attend(0, key.repeat(1, 2, 1), key, key)
    assert out.dtype is torch.bfloat16
