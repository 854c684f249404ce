"""The tensors whose rows are tokens: which rows are taken, and whether the head has its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nexa.core.errors import ModelError, VocabularyError
from nexa.weights.merge_models.parents import Ends, Parent, some
from nexa.weights.merge_models.tokenizers import Agreement


def rows_of(
    parents: Sequence[Parent], agreement: Agreement, ends: Ends, speaker: int
) -> tuple[dict[int, tuple[int, ...]], int, list[str]]:
    """Which rows of a parent are taken and in which order, how many the child has, and notes.

    Rows beyond the tokenizer mean nothing. Where one parent was padded to more than another, the
    child has as many as the smallest; a parent that gives all its rows in order is not listed.
    `speaker` is the place of the parent whose tokenizer the child gets.

    Raises:
        VocabularyError: ids without a row.
    """
    counts = [parent.stored[ends.embedding].shape[0] for parent in parents]
    for parent, rows, largest in zip(parents, counts, agreement.largest_ids, strict=True):
        if largest >= rows:
            raise VocabularyError(
                f"the tokenizer of {parent.name} has ids that its embedding has no rows for",
                found=f"ids up to {largest}, {rows} rows",
            )
    count = min(counts)
    if agreement.largest_ids[speaker] >= count:
        raise VocabularyError(
            f"the ids of {parents[speaker].name}'s tokenizer go beyond the smallest embedding",
            found=f"ids up to {agreement.largest_ids[speaker]}, {count} rows",
            fix="take the tokenizer of the model with the smallest embedding: tokenizer_source",
        )
    found = {}
    for place, rows in enumerate(counts):
        order = _order(agreement.renumbered.get(place, {}), count, rows)
        if order != tuple(range(rows)):
            found[place] = order
    told = ", ".join(f"{p.name} {n}" for p, n in zip(parents, counts, strict=True))
    uneven = f"the embeddings are padded to unlike sizes ({told} rows): the child has {count}"
    return found, count, [uneven] * (len(set(counts)) > 1)


def _order(renumbered: Mapping[int, int], count: int, rows: int) -> tuple[int, ...]:
    """A parent's rows in the child's order; those that are no token's fill up in their order."""
    if not renumbered:
        return tuple(range(count))
    taken = set(renumbered.values())
    left = iter(row for row in range(rows) if row not in taken)
    return tuple(renumbered[i] if i in renumbered else next(left) for i in range(count))


def untied(parents: Sequence[Parent], ends: Ends) -> tuple[bool, list[str]]:
    """Whether some parent has a head that is not its embedding, and notes.

    Raises:
        ModelError: a parent without a head, or with one that its config denies.
    """
    for parent in parents:
        _require_head(parent, ends)
    own = [parent for parent in parents if not parent.tied]
    if len(own) == len(parents):
        return True, []
    unlike = [parent for parent in own if parent.head_differs(ends.head, ends.embedding)]
    if unlike:
        return True, [
            f"{some([p.name for p in unlike])} has a head of its own, other models have their "
            "embedding as head: the child has a head of its own"
        ]
    if own:
        return False, [
            f"the head of {some([p.name for p in own])} is its embedding: the child has one for "
            "both"
        ]
    return False, []


def _require_head(parent: Parent, ends: Ends) -> None:
    if not parent.tied and ends.head not in parent.stored:
        raise ModelError(
            f"{parent.name} has no head: its config does not tie it to the embedding",
            found=f"no {ends.head}",
            fix="set tie_word_embeddings: true in its config.json, if that is what it is",
        )
    stored = parent.tied and ends.head in parent.stored
    if stored and parent.head_differs(ends.head, ends.embedding):
        raise ModelError(
            f"{parent.name} says its head and embeddings are tied, and brings two that differ",
            found=f"{ends.head}, {ends.embedding}",
            fix="set tie_word_embeddings: false in its config.json, or save it without the head",
        )
