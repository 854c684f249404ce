"""So that no domain outweighs the others: a filter of all rows at once, not of single ones.

Which rows of a domain stay is drawn by each row's own digest, as its split is: those with the
smallest numbers stay. So new rows move few old ones: under `at_most` a new row takes the place of
at most one old row of its own domain.

How the engine calls it, last of all filters before the split, on the rows that are still in:

    spec = BalanceSpec(at_most=1000)
    keep = balanced(spec, domains=codes, draws=draws(spec, digests))

`domains` is a number for each row, the same for rows of one domain, -1 for rows without one (they
all stay); `digests` are the 32 bytes of `bytes.fromhex(row.digest)`. Rows that are left out are
counted under `REASON`, with `detail(name, limit)` as their detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nexa.core.identity import sha256_bytes

REASON = "more than its domain may have"
NO_DOMAIN = -1


@dataclass(frozen=True)
class BalanceSpec:
    """How many rows a domain may have: so many, or so many times those of the smallest one."""

    at_most: int | None = None
    ratio: float | None = None
    seed: int = 0
    version: int = 1


def draws(spec: BalanceSpec, digests: Sequence[bytes]) -> NDArray[np.uint64]:
    """A number for each row that its own digest and the seed decide, and nothing else.

    Shape: `[rows]`, in the order of the digests (sha256, 32 bytes each).
    """
    # The digest is uniform already; the seed's own digest makes every seed another order of it.
    first = np.frombuffer(b"".join(digest[:8] for digest in digests), dtype=">u8")
    mask = np.uint64(int(sha256_bytes(f"nexa balance {spec.seed}".encode())[:16], 16))
    return _mixed(first.astype(np.uint64) ^ mask)


def limit(spec: BalanceSpec, domains: NDArray[np.int64]) -> int | None:
    """Rows that a domain may have; None where there is no limit, as no row has a domain."""
    sizes = np.unique(domains[domains != NO_DOMAIN], return_counts=True)[1]
    if not len(sizes):
        return None
    return spec.at_most if spec.ratio is None else int(spec.ratio * sizes.min())


def balanced(
    spec: BalanceSpec, *, domains: NDArray[np.int64], draws: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Which rows stay: of each domain those with the smallest draws; ties by their order.

    Shapes: `domains`, `draws` and the result are `[rows]`.
    """
    keep = np.ones(len(domains), dtype=np.bool_)
    most = limit(spec, domains)
    if most is None:
        return keep
    order = np.lexsort((draws, domains))
    first = np.searchsorted(domains[order], domains[order])  # where the row's domain begins
    keep[order] = (np.arange(len(order)) - first < most) | (domains[order] == NO_DOMAIN)
    return keep


def detail(domain: str, most: int) -> str:
    """Why a row of a domain was left out."""
    return f"{domain}: {most:,} rows at most, drawn by their digests"


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit decides every other one."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
