from __future__ import annotations

from nexa.feedback.feedback_generators.choosing import any_rows, weak_rows
from nexa.feedback.items import Item

ITEMS = [
    Item(f"r{n}", f"g{n // 3}", None, ({"role": "user", "content": "?"},), "!") for n in range(12)
]


def test_slices_take_turns_and_groups_take_turns_within_them() -> None:
    weak = {"a": list(range(9)), "b": [9, 10, 11]}
    chosen = weak_rows(ITEMS, weak, 8, seed=0)
    assert len(set(chosen)) == 8
    assert [at in weak["a"] for at in chosen[:6]] == [True, False] * 3
    # Three of the first slice: one of each of its groups.
    assert {ITEMS[at].group for at in chosen[:6:2]} == {"g0", "g1", "g2"}


def test_a_row_of_two_slices_is_taken_once_and_all_rows_are_all() -> None:
    chosen = weak_rows(ITEMS, {"a": [0, 1], "b": [0, 1, 2]}, 9, seed=0)
    assert sorted(chosen) == [0, 1, 2]


def test_a_slice_without_rows_is_told(notes: list[str]) -> None:
    assert weak_rows(ITEMS, {"domain=x": []}, 3, seed=0) == []
    assert notes == ["the pool has no row of domain=x that was not trained on yet"]


def test_equal_seeds_choose_equal_rows_and_others_others() -> None:
    for choose in (weak_rows, any_rows):
        weak = {"a": list(range(12))}
        one, same, other = (choose(ITEMS, weak, 5, seed) for seed in (1, 1, 2))
        assert one == same
        assert one != other


def test_more_rows_are_the_same_rows_and_more() -> None:
    weak = {"a": list(range(12))}
    for choose in (weak_rows, any_rows):
        assert choose(ITEMS, weak, 7, 1)[:4] == choose(ITEMS, weak, 4, 1)


def test_any_rows_do_not_look_at_what_is_weak() -> None:
    assert any_rows(ITEMS, {"a": [0]}, 5, seed=3) == any_rows(ITEMS, {}, 5, seed=3)
