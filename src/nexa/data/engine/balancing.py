"""The balance of domains over rows that were staged: read back once, and only where it is asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nexa.data.engine.sieve import Sieve
from nexa.data.engine.stage import read_rows
from nexa.data.filters.balance import (
    NO_DOMAIN,
    REASON,
    BalanceSpec,
    balanced,
    detail,
    draws,
    limit,
)
from nexa.data.rows import Content, Line, Row

NO_LINE = Line("", 0, "", None)


def leave_out_surplus(sieve: Sieve, spec: BalanceSpec) -> None:
    """Rows of domains that have more than they may; those without a domain stay."""
    names, domains, numbers = _drawn(sieve, spec)
    most = limit(spec, domains)
    sieve.step()
    if most is None:
        return
    surplus = ~balanced(spec, domains=domains, draws=numbers)
    sieve.leave_out(
        REASON,
        sieve.rows[surplus],
        lambda _, __, domain: detail(names[domain], most),
        domains[surplus],
    )


def _drawn(
    sieve: Sieve, spec: BalanceSpec
) -> tuple[list[str], NDArray[np.int64], NDArray[np.uint64]]:
    """The domains' names; of the rows still in the number of each one's, and what each one draws.

    Shapes: the numbers of domains and what is drawn are `[rows]`.
    """
    codes: dict[str, int] = {}
    domains, numbers = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    staged = sieve.staged
    for item, begin in zip(staged.done, staged.begins.tolist(), strict=False):
        for batch in read_rows(staged.folder, item.part.number):
            there = np.flatnonzero(sieve.alive[begin : begin + batch.num_rows])
            begin += batch.num_rows
            labels = batch.column("domain").take(there).to_pylist()
            said = batch.column("messages").take(there).to_pylist()
            found = [codes.setdefault(name, len(codes)) if name else NO_DOMAIN for name in labels]
            domains.append(np.array(found, np.int64))
            rows = [Row(NO_LINE, Content(tuple(messages))) for messages in said]
            numbers.append(draws(spec, [bytes.fromhex(row.digest) for row in rows]))
    return list(codes), np.concatenate(domains), np.concatenate(numbers)
