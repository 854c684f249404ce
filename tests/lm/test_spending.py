from __future__ import annotations

import asyncio

import pytest

from nexa.core.errors import BudgetSpent
from nexa.lm.client import RequestFailed, TooLong
from nexa.lm.spending import FIRST, IN_A_ROW, Breaker, Budget


def test_what_is_set_aside_never_passes_the_cap() -> None:
    async def story() -> list[str]:
        budget = Budget(1.0, 0.25)
        told: list[str] = []

        async def ask(name: str, most_usd: float, paid_usd: float) -> None:
            await budget.set_aside(most_usd)
            told.append(f"{name} goes")
            await asyncio.sleep(0)
            assert budget.spent_usd <= 1.0
            told.append(f"{name} paid")
            budget.settle(most_usd, paid_usd)

        await asyncio.gather(ask("a", 0.5, 0.1), ask("b", 0.5, 0.1), ask("c", 0.5, 0.5))
        assert budget.spent_usd == pytest.approx(0.95)
        with pytest.raises(BudgetSpent) as caught:
            await budget.set_aside(0.06)
        assert caught.value.found == "$0.9500 spent, the next request may cost $0.0600"
        assert caught.value.exit_code == 25
        await budget.set_aside(0.05)
        return told

    told = asyncio.run(story())
    assert told == ["a goes", "a paid", "b goes", "b paid", "c goes", "c paid"]


def test_without_a_cap_everything_is_let_through_and_counted() -> None:
    budget = Budget(None, 0.0)
    asyncio.run(budget.set_aside(1e9))
    budget.settle(1e9, 2.0)
    assert budget.spent_usd == 2.0


def failure(what: str) -> RequestFailed:
    return RequestFailed(what, found="row by row", temporary=False)


def test_the_first_failures_end_the_work_if_they_are_alike() -> None:
    breaker = Breaker()
    for what in ["a", "b"] * FIRST:
        breaker.failed(failure(what))
    breaker = Breaker()
    for _ in range(FIRST - 1):
        breaker.failed(failure("a"))
        breaker.failed(TooLong("a long row"))
    with pytest.raises(RequestFailed, match="5 requests in a row failed alike: a") as caught:
        breaker.failed(failure("a"))
    assert caught.value.found == "row by row"
    assert not caught.value.temporary


def test_after_an_answer_more_of_them_are_borne() -> None:
    breaker = Breaker()
    breaker.failed(failure("a"))
    breaker.answered()
    for _ in range(IN_A_ROW - 1):
        breaker.failed(failure("a"))
    with pytest.raises(RequestFailed, match="20 requests"):
        breaker.failed(failure("a"))
