from __future__ import annotations

import pytest

from nexa.core.errors import UsageError
from nexa.core.store import Store
from nexa.feedback.items import Item, suite_items
from nexa.feedback.slices import Cut, cut, members, weak_members
from tests.feedback import made

KINDS = ("domain", "tag", "length", "cluster")


def item(name: str, asked: str = "", domain: str | None = None, *tags: str) -> Item:
    turn = {"role": "user", "content": asked or name}
    return Item(name, name, domain, (turn,), "answer", tags)


def cuts(items: list[Item], *by: str, length_bins: int = 3, clusters: int = 3) -> list[Cut]:
    return cut(items, by, length_bins=length_bins, clusters=clusters, seed=0)


def test_domains_and_tags_are_slices_by_their_names() -> None:
    items = [
        item("a", "", "x", "long", "all"),
        item("b", "", "y", "all"),
        item("c", "", None, "all"),
    ]
    made_ = cuts(items, "domain", "tag")
    # What all rows have in common is no slice.
    assert [one.name for one in made_] == ["domain=x", "domain=y", "tag=long"]
    assert members(made_, items) == {"domain=x": [0], "domain=y": [1], "tag=long": [0]}


def test_lengths_are_cut_into_bins_of_like_numbers_of_rows() -> None:
    items = [item(str(n), "x" * n) for n in range(1, 31)]
    made_ = cuts(items, "length")
    assert [one.name for one in made_] == ["length=to 10", "length=11-20", "length=from 21"]
    assert [len(places) for places in members(made_, items).values()] == [10, 10, 10]
    assert members(made_, [item("longer", "x" * 500)])["length=from 21"] == [0]


@pytest.mark.parametrize(
    ("sizes", "bins", "names"),
    [
        ([5] * 9, 3, []),
        ([5, 9], 1, []),
        ([], 3, []),
        ([5, 5, 5, 5, 9], 3, ["length=to 5", "length=from 6"]),
    ],
)
def test_lengths_that_are_all_alike_are_no_slices(
    sizes: list[int], bins: int, names: list[str]
) -> None:
    items = [item(str(n), "x" * size) for n, size in enumerate(sizes)]
    assert [one.name for one in cuts(items, "length", length_bins=bins)] == names


def test_clusters_hold_each_row_once_and_leave_strangers_out(store: Store) -> None:
    items = suite_items(made.suite(store, made.prompts(8)), store)
    made_ = cuts(items, "cluster")
    held = members(made_, [*items, item("elsewhere", "qwertz")])
    assert sorted(at for places in held.values() for at in places) == list(range(24))
    assert all(one.edge["words"] for one in made_)


def test_an_unknown_way_of_cutting_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"rows cannot be cut by 'domains'[\s\S]*try +domain$"):
        cuts([], "domains")


def test_other_rows_are_found_by_what_a_record_says_of_its_slices(store: Store) -> None:
    weak = made.weak(store, by=("cluster",), clusters=3)
    new = suite_items(made.suite(store, made.prompts(3, first=700), "new"), store)
    found = weak_members(weak.body, new)
    [cluster] = [name for name in found if name.startswith("cluster=")]
    assert found[cluster] == [0, 1, 2]
