"""The filters that compare rows with each other, in their order, on what was staged.

`prepare` and `merge` are this chain over other rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from nexa.core.near.corpus import Corpus, Memberships
from nexa.core.overlap import NEAR_DUPLICATE
from nexa.data.engine.sieve import Sieve
from nexa.data.filters.duplicates import EXACT, NEAR, SAME_ID, drop_exact, drop_near
from nexa.data.filters.leaks import LEAK, HeldOut, leaking, tell_groups
from nexa.data.filters.lengths import REFUSED, TOO_LONG, drop_long, why_long
from nexa.data.filters.split import BOTH_SIDES, TORN, Placing, Sides, place
from nexa.data.keys import numbered


def leave_out_copies(sieve: Sieve) -> None:
    """Exact copies, and rows that claim another row's id."""
    facts, origin = sieve.staged.facts, sieve.staged.origin
    copies, claims = drop_exact(facts["row"], facts["id"], settled=sieve.settled)
    sieve.staged.drop("row", "id")
    sieve.step()
    sieve.leave_out(EXACT, copies.rows, lambda r, _, o: f"the same as {origin(o)}", copies.others)
    sieve.leave_out(
        SAME_ID,
        claims.rows,
        lambda _, record, o: f"id {record['row_id']!r} is that of {origin(o)}",
        claims.others,
    )


def leave_out_near_copies(sieve: Sieve, corpus: Corpus, wanted: Literal["drop", "keep"]) -> None:
    """Near-copies of earlier rows, unless they are wanted."""
    sieve.step()
    if wanted == "drop":
        copies = drop_near(corpus, sieve.alive, settled=sieve.settled)
        origin = sieve.staged.origin
        sieve.leave_out(
            NEAR, copies.rows, lambda r, _, o: f"nearly the same as {origin(o)}", copies.others
        )


def leave_out_leaks(sieve: Sieve, corpus: Corpus, held_out: HeldOut, begin: int = 0) -> None:
    """Rows that give a held-out row away. The corpus has row `begin` and all later ones."""
    hits = corpus.leaks(held_out.examples, alive=sieve.alive[begin:])
    found = {begin + row: why for row, why in leaking(hits, held_out).items()}
    sieve.step()
    sieve.leave_out(LEAK, np.array([*found], dtype=np.int64), lambda row, *_: found[row])
    tell_groups(sieve.staged.facts["group"][sieve.rows[sieve.rows >= begin]], held_out)


def leave_out_refused(sieve: Sieve) -> None:
    """Rows that the chat template does not take."""
    rows = sieve.rows
    refused = rows[sieve.staged.facts["length"][rows] < 0]
    sieve.step()
    sieve.leave_out(
        REFUSED, refused[refused >= sieve.settled], lambda r, record, _: str(record["refused"])
    )


def leave_out_long(sieve: Sieve, max_length: int) -> None:
    """Rows of too many tokens.

    Raises:
        TruncationError: they are more than 1 % of the rows.
    """
    rows = sieve.rows
    lengths = sieve.staged.facts["length"]
    long = drop_long(lengths[rows], max_length, lambda at: sieve.staged.origin(int(rows[at])))
    sieve.step()
    sieve.leave_out(TOO_LONG, rows[long], lambda row, *_: why_long(int(lengths[row]), max_length))


def split(
    sieve: Sieve,
    corpus: Corpus,
    *,
    eval_fraction: float,
    only: str | None,
) -> tuple[Sides, Memberships]:
    """The side of each row and the clusters of all; rows between both sides are left out."""
    facts = sieve.staged.facts
    alike = corpus.memberships(NEAR_DUPLICATE, alive=sieve.alive)
    groups, _ = numbered(facts["group"])
    settled = facts["side"][: sieve.settled] if sieve.settled else None
    sides = place(Placing(alike, groups, facts["draw"], eval_fraction, only, settled))

    def tells(row: int, record: Mapping[str, Any], _: int) -> str:
        origins = ", ".join(sieve.staged.origin(head) for head in alike.of(row))
        return f"alike to {origins}; group {record['group']}"

    sieve.step()
    sieve.leave_out(BOTH_SIDES, np.flatnonzero(sides == TORN), tells)
    return sides, alike
