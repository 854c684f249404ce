from __future__ import annotations

from typing import Any

import pytest

from benchmarks.contest.limit import flop, shapes
from tests.benchmarks.made import WORK

SMOLLM2_135M: dict[str, Any] = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 30,
    "vocab_size": 49152,
}


def test_the_shapes_hold_every_parameter_of_the_decoder_layers() -> None:
    # 134,515,008 parameters less the tied embedding and the 61 norms.
    parameters = 134_515_008 - 49152 * 576 - 61 * 576
    assert 30 * sum(i * o for i, o in shapes(SMOLLM2_135M)) == parameters


def test_the_work_of_a_step_is_its_products_counted_one_by_one() -> None:
    tokens, labels, pairs = WORK.tokens[0], WORK.label_tokens[0], WORK.token_pairs[0]
    expected = 0.0
    for _ in range(30):
        for i, o in shapes(SMOLLM2_135M):
            expected += 2 * (2 * tokens * i * o)  # forwards, and the gradient by the input
            expected += 3 * (2 * tokens * 16 * i) + 3 * (2 * tokens * 16 * o)  # A and B, three each
        expected += 3 * 2 * (2 * pairs / 2 * 9 * 64)  # scores and values below the diagonal
    expected += 2 * (2 * labels * 576 * 49152)
    assert flop(SMOLLM2_135M, WORK, steps=1) == pytest.approx(expected)
