"""A cap on what may be spent, and the moment at which asking on is pointless."""

from __future__ import annotations

import asyncio

from nexa.core.errors import BudgetSpent
from nexa.lm.client import RequestFailed, TooLong

# So many failures of one kind before the first answer, or in a row later on, end the work.
FIRST = 5
IN_A_ROW = 20
ROUNDING_USD = 1e-9


class Budget:
    """Dollars: spent, set aside for what is under way, and the cap, if there is one.

    A request's worst case is set aside before it goes out, so that the sum can never pass the cap,
    however the answers turn out. What may have been paid without an answer counts as paid.
    """

    def __init__(self, cap_usd: float | None, spent_usd: float) -> None:
        self.cap_usd = cap_usd
        self.spent_usd = spent_usd
        self._aside_usd = 0.0
        self._changed = asyncio.Event()

    async def set_aside(self, most_usd: float) -> None:
        """Wait until a request fits beside those that are under way.

        Raises:
            BudgetSpent: it would not fit if there were none.
        """
        while not self._fits(most_usd):
            if self._aside_usd <= ROUNDING_USD:
                raise BudgetSpent(
                    f"the budget of ${self.cap_usd:.2f} does not reach for the rest",
                    found=f"${self.spent_usd:.4f} spent, the next request may cost ${most_usd:.4f}",
                    fix="raise the budget and run it again: answers are kept and cost nothing",
                )
            self._changed.clear()
            await self._changed.wait()
        self._aside_usd += most_usd

    def settle(self, most_usd: float, paid_usd: float) -> None:
        """What was set aside has turned out to cost so much."""
        self._aside_usd -= most_usd
        self.spent_usd += paid_usd
        self._changed.set()

    def _fits(self, most_usd: float) -> bool:
        if self.cap_usd is None:
            return True
        return self.spent_usd + self._aside_usd + most_usd <= self.cap_usd + ROUNDING_USD


class Breaker:
    """Ends the work when the same thing fails for everybody."""

    def __init__(self) -> None:
        self._kind = ""
        self._count = 0
        self._limit = FIRST

    def answered(self) -> None:
        """A request was answered: what fails from now on may be a matter of rows."""
        self._count, self._limit = 0, IN_A_ROW

    def failed(self, error: RequestFailed) -> None:
        """A request failed for good.

        Raises:
            RequestFailed: and so did those before it, in the same way.
        """
        if isinstance(error, TooLong):
            return
        self._count = self._count + 1 if error.what == self._kind else 1
        self._kind = error.what
        if self._count >= self._limit:
            raise RequestFailed(
                f"{self._count} requests in a row failed alike: {error.what}",
                found=error.found,
                fix=error.fix or "mend that and run it again: answers are kept",
                temporary=error.temporary,
            ) from error
