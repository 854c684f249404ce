"""Keys and values of rows that are being answered, and the attention of one new token each.

Batched products copy their operands unless these are contiguous, so the buffers are handed to them
whole: rows of like length share one, end at the same column and grow by blocks; what is no row's
own is masked.

    B rows of the batch   R rows of a group   L columns of its buffers, one a token
    H query heads   K key heads   G = H / K query heads on a key head   W head width
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from nexa.lm.decoder.shape import DecoderShape

BLOCK_TOKENS = 32

# Rows that share buffers. Sorted by length they are padded little, and what a product works on
# stays in the caches; fewer rows make more, smaller products.
GROUP_ROWS = 32


class GenerationCache:
    """Keys and values of every row and layer, row by row in the batch's order."""

    def __init__(self, shape: DecoderShape, lengths: Sequence[int], dtype: torch.dtype) -> None:
        """Room for prompts of these lengths; best sorted."""
        self._groups = [
            _Group(shape, lengths[begin : begin + GROUP_ROWS], dtype)
            for begin in range(0, len(lengths), GROUP_ROWS)
        ]

    def lay(self, layer: int, row: int, pieces: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Take over a row's prompt: keys and values `[tokens, K, W]` of its pieces, in order."""
        for rows, group in self._located():
            if row in rows:
                group.lay(layer, row - rows.start, pieces)

    def append(self) -> None:
        """Make room for one more token of every row: the one that `attend` is called for next."""
        for group in self._groups:
            group.append()

    def attend(self, layer: int, query_BHW: Tensor, key_BKW: Tensor, value_BKW: Tensor) -> Tensor:
        """Keep one key and value a row, and let its query see all of the row: `[B, H * W]`."""
        B, H, W = query_BHW.shape
        out = value_BKW.new_empty(B, H * W)
        for rows, group in self._located():
            at = slice(rows.start, rows.stop)
            group.attend(layer, query_BHW[at], key_BKW[at], value_BKW[at], out[at])
        return out

    def keep(self, rows: Sequence[int]) -> None:
        """Take every other row out; `rows` rise."""
        kept = []
        for inside, group in self._located():
            if own := [row - inside.start for row in rows if row in inside]:
                group.keep(own)
                kept.append(group)
        self._groups = kept

    def _located(self) -> Iterator[tuple[range, _Group]]:
        """Each group with the rows of the batch that are in it."""
        begin = 0
        for group in self._groups:
            end = begin + group.rows
            yield range(begin, end), group
            begin = end


class _Group:
    """Rows whose tokens end at the same column, `length`."""

    def __init__(self, shape: DecoderShape, lengths: Sequence[int], dtype: torch.dtype) -> None:
        self.shape, self.rows, self.length = shape, len(lengths), max(lengths)
        columns = _whole_blocks(self.length)
        # Zeros: what is masked has weight 0, and 0 times a stray NaN is NaN.
        size = (self.rows * shape.key_heads, columns, shape.head_width)
        self.keys = [torch.zeros(size, dtype=dtype) for _ in range(shape.layers)]
        self.values = [torch.zeros(size, dtype=dtype) for _ in range(shape.layers)]
        # What is added to the scores: 0 where a row's next query sees a key.
        self.mask_R1L = torch.full((self.rows, 1, columns), -torch.inf, dtype=dtype)
        for row, length in enumerate(lengths):
            self.mask_R1L[row, 0, self.length - length : self.length] = 0

    def lay(self, layer: int, row: int, pieces: Sequence[tuple[Tensor, Tensor]]) -> None:
        heads = self.shape.key_heads
        own = slice(row * heads, (row + 1) * heads)
        begin = self.length - sum(len(key) for key, _ in pieces)
        for key, value in pieces:
            end = begin + len(key)
            self.keys[layer][own, begin:end] = key.transpose(0, 1)
            self.values[layer][own, begin:end] = value.transpose(0, 1)
            begin = end

    def append(self) -> None:
        column, self.length = self.length, self.length + 1
        if more := _whole_blocks(self.length) - self.mask_R1L.shape[2]:
            for buffers in (self.keys, self.values):
                for layer, buffer in enumerate(buffers):
                    buffers[layer] = pad(buffer, (0, 0, 0, more))
            self.mask_R1L = pad(self.mask_R1L, (0, more), value=-torch.inf)
        self.mask_R1L[..., column] = 0
        if self.shape.window:
            self.mask_R1L[..., : max(0, self.length - self.shape.window)] = -torch.inf

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
        s, R = self.shape, self.rows
        K, G, W = s.key_heads, s.heads // s.key_heads, s.head_width
        keys, values = self.keys[layer], self.values[layer]
        L = keys.shape[1]
        keys.view(R, K, L, W)[:, :, self.length - 1] = key
        values.view(R, K, L, W)[:, :, self.length - 1] = value
        scores = torch.bmm(query.reshape(R * K, G, W), keys.transpose(1, 2))
        scores = torch.add(self.mask_R1L, scores.view(R, K * G, L), alpha=W**-0.5)
        weights = scores.softmax(-1).view(R * K, G, L)  # in float32 inside, whatever the dtype
        torch.bmm(weights, values, out=out.view(R * K, G, W))

    def keep(self, rows: Sequence[int]) -> None:
        kept = torch.tensor(rows)
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                buffers[layer] = buffer.unflatten(0, (self.rows, -1))[kept].flatten(0, 1)
        self.mask_R1L, self.rows = self.mask_R1L[kept], len(rows)


def _whole_blocks(length: int) -> int:
    return -(-length // BLOCK_TOKENS) * BLOCK_TOKENS
