"""A row knows itself by what it says, not by where it stands."""

from __future__ import annotations

from tests.data.build import row


def test_a_rows_id_is_its_own_or_the_beginning_of_its_digest() -> None:
    assert row("q", "a", id="x").row_id == "x"
    assert row("q", "a", 1).row_id == row("q", "a", 2).row_id == row("q", "a").digest[:16]
    assert row("q", "a").row_id != row("q", "b").row_id


def test_a_row_without_a_group_is_a_group_of_its_own() -> None:
    assert row("q", "a", group="Fe").group == "Fe"
    assert row("q", "a", id="x").group == "x"


def test_duplicates_are_told_by_who_says_what() -> None:
    assert row("q ", "a").duplicate_key == row(" q", "a").duplicate_key
    assert row("q", "a").duplicate_key != row("q a", "").duplicate_key
