"""Copies: the first row stays, later ones are left out.

Exact copies differ in blanks and Unicode composition at most. A near-copy has a weighted Jaccard
of SAME_ROW or more with an earlier row *and* the same numbers: another case or punctuation, one
word in a hundred. A row in which one number differs is another record and stays, however alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from nexa.core.overlap import SAME_ROW, memberships, numbers
from nexa.data.rows import Reject, Row

EXACT = "exact duplicate"
NEAR = "near-duplicate"
SAME_ID = "id used twice"


def drop_exact(rows: Sequence[Row], *, settled: int = 0) -> tuple[list[Row], list[Reject]]:
    """Leave out copies, and rows that claim another row's id; the first `settled` rows stay."""
    seen: dict[str, Row] = {}
    ids: dict[str, Row] = {}
    kept, rejects = [], []
    for index, row in enumerate(rows):
        if index < settled:
            seen.setdefault(row.duplicate_key, row)
            ids.setdefault(row.row_id, row)
            kept.append(row)
        elif row.duplicate_key in seen:
            first = seen[row.duplicate_key].line.origin
            rejects.append(Reject(row.line, EXACT, f"the same as {first}"))
        elif row.row_id in ids:
            other = ids[row.row_id].line.origin
            rejects.append(Reject(row.line, SAME_ID, f"id {row.row_id!r} is that of {other}"))
        else:
            seen[row.duplicate_key] = ids[row.row_id] = row
            kept.append(row)
    return kept, rejects


def drop_near(rows: Sequence[Row], *, settled: int = 0) -> tuple[list[Row], list[Reject]]:
    """Leave out near-copies of earlier rows; the first `settled` rows stay."""
    texts = [row.example.text for row in rows]
    first: dict[tuple[int, tuple[str, ...]], Row] = {}
    kept, rejects = [], []
    alike = memberships(texts, SAME_ROW)
    for index, (row, text, heads) in enumerate(zip(rows, texts, alike, strict=True)):
        earlier = first.setdefault((heads[0], numbers(text)), row)
        if earlier is row or index < settled:
            kept.append(row)
        else:
            rejects.append(Reject(row.line, NEAR, f"nearly the same as {earlier.line.origin}"))
    return kept, rejects
