from __future__ import annotations

import hashlib

import numpy as np
import pytest

from nexa.data.filters.balance import NO_DOMAIN, BalanceSpec, balanced, detail, draws, limit


def digests(count: int, salt: str = "") -> list[bytes]:
    return [hashlib.sha256(f"{salt}{i}".encode()).digest() for i in range(count)]


def kept(spec: BalanceSpec, domains: list[int], rows: list[bytes]) -> set[bytes]:
    keep = balanced(spec, domains=np.array(domains), draws=draws(spec, rows))
    return {row for row, stays in zip(rows, keep, strict=True) if stays}


def test_a_domain_has_so_many_rows_at_most() -> None:
    domains = [0] * 50 + [1] * 5 + [NO_DOMAIN] * 7
    spec = BalanceSpec(at_most=10)
    keep = balanced(spec, domains=np.array(domains), draws=draws(spec, digests(62)))
    assert keep[:50].sum() == 10
    assert keep[50:].all()


def test_a_ratio_is_to_the_smallest_domain() -> None:
    domains = np.array([0] * 50 + [1] * 4 + [2] * 9)
    spec = BalanceSpec(ratio=2.5)
    assert limit(spec, domains) == 10
    keep = balanced(spec, domains=domains, draws=draws(spec, digests(63)))
    assert [int(keep[domains == d].sum()) for d in range(3)] == [10, 4, 9]


def test_rows_without_a_domain_stay_all() -> None:
    spec = BalanceSpec(at_most=1)
    domains = np.full(5, NO_DOMAIN)
    assert limit(spec, domains) is None
    assert balanced(spec, domains=domains, draws=draws(spec, digests(5))).all()
    assert len(draws(spec, [])) == 0


def test_the_same_rows_stay_in_whatever_order_they_come() -> None:
    rows, domains = digests(40), [i % 3 for i in range(40)]
    spec = BalanceSpec(at_most=5)
    there = kept(spec, domains, rows)
    order = list(np.random.default_rng(0).permutation(40))
    assert kept(spec, [domains[i] for i in order], [rows[i] for i in order]) == there
    assert len(there) == 15


def test_a_new_row_takes_the_place_of_one_old_row_at_most() -> None:
    spec = BalanceSpec(at_most=20)
    rows = digests(100)
    before = kept(spec, [0] * 100, rows)
    for new in digests(10, "new"):
        after = kept(spec, [0] * 101, [*rows, new])
        assert len(before - after) == (new in after) <= 1


def test_another_seed_keeps_other_rows() -> None:
    rows = digests(200)
    picks = [kept(BalanceSpec(at_most=50, seed=seed), [0] * 200, rows) for seed in (0, 1)]
    assert picks[0] != picks[1]
    # Independent draws share a quarter of 50 rows, give or take.
    assert 3 <= len(picks[0] & picks[1]) <= 25


def test_draws_are_uniform_for_every_seed() -> None:
    for seed in (0, 7):
        numbers = draws(BalanceSpec(at_most=1, seed=seed), digests(4000)) / 2.0**64
        assert numbers.mean() == pytest.approx(0.5, abs=0.03)
        assert len(np.unique(numbers)) == 4000


def test_why_a_row_was_left_out() -> None:
    assert detail("metals", 1000) == "metals: 1,000 rows at most, drawn by their digests"
