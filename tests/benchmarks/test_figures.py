from __future__ import annotations

import pytest

from benchmarks.contest.figures import distance, figures, ratio, run_rate
from tests.benchmarks.made import WORK, kept, run


def test_a_rate_is_the_median_step_and_leaves_the_first_one_out() -> None:
    seen = run([50, 2, 8], [1, 1, 1])
    assert run_rate(seen, WORK.tokens) == pytest.approx((200 / 2 + 400 / 8) / 2)
    assert run_rate(run([50], [1]), WORK.tokens) == 2


def test_the_figures_are_medians_over_runs_with_the_slowest_and_the_fastest() -> None:
    found = figures(kept().runs("fused"), WORK)
    assert (found.slowest_run, found.tokens_per_s, found.fastest_run) == (100, 112.5, 125)
    assert (found.runs, found.steps, found.first_step_s) == (2, 3, 9)
    assert found.label_tokens_per_s == pytest.approx((30 + 20) / 2 * 1.125)


def test_ratios_are_taken_within_each_pair() -> None:
    told = kept()
    assert ratio(told.runs("fused"), told.runs("trl"), WORK) == pytest.approx((2 + 2.5) / 2)


def test_losses_are_compared_over_the_steps_that_both_have() -> None:
    assert distance([2.0, 1.5], [2.0, 1.25, 0.0]) == 0.25


def test_what_a_peer_counts_otherwise_is_told() -> None:
    told = figures(kept().runs("trl"), WORK)
    assert (told.same_tokens, told.more_labels) == (True, 1.0)
    other = run([1, 1], [1, 1])
    other["steps"][1]["tokens"] = 201
    assert not figures([other], WORK).same_tokens
