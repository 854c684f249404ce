from __future__ import annotations

import pytest
import torch

from nexa.train.batches import Cut, TokenRow, common_prefix, lay, row_order, split, steps
from tests.train.sample import random_rows


def test_rows_are_laid_end_to_end_without_padding() -> None:
    a = TokenRow("a", [5, 6, 7], [False, True, True])
    b = TokenRow("b", [8, 9], [False, True])
    batch = lay([a, b])
    assert batch.input_ids.tolist() == [5, 6, 7, 8, 9]
    assert batch.position_ids.tolist() == [0, 1, 2, 0, 1]
    assert batch.lengths == (3, 2)
    assert batch.label_positions.tolist() == [0, 1, 3]
    assert batch.targets.tolist() == [6, 7, 9]


def test_the_first_token_of_a_document_is_never_predicted_from_the_one_before_it() -> None:
    rows = [TokenRow("a", [5, 6], [True, True]), TokenRow("b", [7, 8], [True, True])]
    batch = lay(rows)
    assert batch.label_positions.tolist() == [0, 2]
    assert [row.labels for row in rows] == [1, 1]


@pytest.mark.parametrize("padded", [False, True])
def test_batches_hold_whole_rows_up_to_the_limit(padded: bool) -> None:
    rows = random_rows(30)
    parts = split(rows, micro_tokens=64, padded=padded)
    assert sorted(row.row_id for part in parts for row in part) == sorted(r.row_id for r in rows)
    for part in parts:
        longest = max(len(row.ids) for row in part)
        held = longest * len(part) if padded else sum(len(row.ids) for row in part)
        assert held <= 64


def test_a_row_longer_than_the_limit_has_a_batch_of_its_own() -> None:
    rows = random_rows(3, longest=40)
    assert [len(part) for part in split(rows, micro_tokens=1)] == [1, 1, 1]


def test_an_epoch_sees_every_row_once_and_ends_with_what_is_left() -> None:
    rows = random_rows(10)
    plan = list(steps(rows, rows_per_step=4, total_steps=6, micro_tokens=64, seed=0))
    assert [step.rows for step in plan] == [4, 4, 2, 4, 4, 2]
    assert [step.epoch for step in plan] == [0, 0, 0, 1, 1, 1]
    total = sum(len(row.ids) for row in rows)
    assert sum(step.tokens for step in plan[:3]) == total
    assert sum(step.label_tokens for step in plan[3:]) == sum(row.labels for row in rows)


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    ids = [row.row_id for row in random_rows(50)]
    first = row_order(ids, seed=0, epoch=0)
    assert first == row_order(ids, seed=0, epoch=0)
    assert sorted(first) == list(range(50))
    assert first != row_order(ids, seed=0, epoch=1)
    assert first != row_order(ids, seed=1, epoch=0)


def test_a_new_row_does_not_reshuffle_the_others() -> None:
    ids = [row.row_id for row in random_rows(20)]
    before = [ids[i] for i in row_order(ids, seed=0, epoch=0)]
    more = [*ids, "new"]
    after = [more[i] for i in row_order(more, seed=0, epoch=0)]
    assert [row_id for row_id in after if row_id != "new"] == before


def test_the_limit_changes_no_step() -> None:
    rows = random_rows(12)
    small = list(steps(rows, rows_per_step=6, total_steps=2, micro_tokens=40, seed=0))
    large = list(steps(rows, rows_per_step=6, total_steps=2, micro_tokens=4096, seed=0))
    assert all(len(step.batches) == 1 for step in large)
    assert all(len(step.batches) > 1 for step in small)
    for a, b in zip(small, large, strict=True):
        assert torch.equal(torch.cat([x.input_ids for x in a.batches]), b.batches[0].input_ids)
        assert (a.tokens, a.label_tokens) == (b.tokens, b.label_tokens)


def test_steps_from_the_middle_are_those_of_the_whole_run() -> None:
    rows = random_rows(10)

    def plan(start: int) -> list[list[list[int]]]:
        made = steps(rows, rows_per_step=4, total_steps=7, micro_tokens=64, seed=3, start=start)
        return [[batch.input_ids.tolist() for batch in step.batches] for step in made]

    for start in range(8):
        assert plan(start) == plan(0)[start:]


def marked(ids: list[int], trained_from: int) -> TokenRow:
    return TokenRow("", ids, [place >= trained_from for place in range(len(ids))])


def test_what_all_rows_begin_with_is_laid_once() -> None:
    rows = [marked([1, 2, 3, 4, 5], 4), marked([1, 2, 3, 6, 7, 8], 5), marked([1, 2, 3, 4, 9], 4)]
    batch = lay(rows, share_prefix=True)
    assert batch.prefix == 3
    assert batch.input_ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 4, 9]
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 3, 4, 5, 3, 4]
    assert batch.lengths == (3, 2, 3, 2)
    assert batch.targets.tolist() == [5, 8, 9]
    assert batch.input_ids[batch.label_positions].tolist() == [4, 7, 4]
    assert batch.tokens == lay(rows).tokens == 16


def test_the_prefix_ends_before_what_predicts_the_first_label() -> None:
    rows = [marked([1, 2, 3, 4], 2), marked([1, 2, 3, 5], 3)]
    assert common_prefix(rows) == 1  # token 2 is a label of the first row, position 1 predicts it
    batch = lay(rows, share_prefix=True)
    assert batch.label_positions.tolist() == [1, 2, 5]
    assert min(batch.label_positions.tolist()) >= batch.prefix
    assert batch.targets.tolist() == [3, 4, 5]


def test_a_shared_label_ends_the_prefix() -> None:
    rows = [marked([1, 2, 3], 0), marked([1, 2, 3], 0)]
    assert common_prefix(rows) == 0
    assert lay(rows, share_prefix=True).prefix == 0


def test_equal_rows_without_labels_keep_a_token_of_their_own() -> None:
    rows = [marked([1, 2, 3], 9), marked([1, 2, 3, 4], 9)]
    assert common_prefix(rows) == 2
    assert lay(rows, share_prefix=True).lengths == (2, 1, 2)


def test_one_row_alone_shares_nothing() -> None:
    assert lay([marked([1, 2, 3], 2)], share_prefix=True).prefix == 0


def test_a_shared_prefix_changes_no_step() -> None:
    rows = [marked([1, 2, 3, *row.ids], len(row.ids)) for row in random_rows(8)]

    def plan(share: bool) -> list[tuple[int, int, list[int]]]:
        made = steps(
            rows, rows_per_step=4, total_steps=2, micro_tokens=99, seed=0, share_prefix=share
        )
        return [
            (s.tokens, s.label_tokens, [t for b in s.batches for t in b.targets.tolist()])
            for s in made
        ]

    assert plan(True) == plan(False)


def test_a_steps_rows_can_be_cut_anew() -> None:
    (step,) = steps(random_rows(6), rows_per_step=6, total_steps=1, micro_tokens=4096, seed=0)
    again = Cut(40).batches(step.learned)
    assert len(again) > len(step.batches) == 1
    assert (
        torch.cat([batch.targets for batch in again]).tolist() == step.batches[0].targets.tolist()
    )


def test_the_largest_batch_of_a_step_is_its_first_but_for_the_room_that_is_left() -> None:
    rows = random_rows(30)
    parts = [[len(row.ids) for row in part] for part in split(rows, micro_tokens=64)]
    assert [max(part) for part in parts] == sorted((max(p) for p in parts), reverse=True)
