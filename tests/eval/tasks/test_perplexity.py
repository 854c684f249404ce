from __future__ import annotations

import math

import pytest

from nexa.eval.tasks.perplexity import PERPLEXITY
from nexa.eval.tasks.task import Likelihoods


def test_a_row_is_the_geometric_mean_of_its_tokens() -> None:
    made = PERPLEXITY.grader([])(Likelihoods((-6.0,), (3,), (11,)), "Iron melts.")
    assert made.scores == {"token_probability": pytest.approx(math.exp(-2), abs=1e-9)}
    assert made.detail == {"tokens": 3, "bytes": 11}
    assert made.statistics == {"nats": 6.0, "tokens": 3, "bytes": 11}


def test_what_is_predicted_is_the_target() -> None:
    assert PERPLEXITY.continuations is not None
    assert PERPLEXITY.continuations("Iron melts.") == ("Iron melts.",)
    assert PERPLEXITY.fits(["a"])
    assert not PERPLEXITY.fits(["a", ""])
    assert not PERPLEXITY.fits([])
