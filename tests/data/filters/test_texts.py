from __future__ import annotations

from nexa.data.filters.texts import Find, apart, hits, with_texts
from tests.data.build import row


def test_the_first_look_gives_the_texts_that_a_pattern_matches() -> None:
    assert hits(["a1", "b", "c2", ""], "[0-9]") == [0, 2]
    assert hits([], "[0-9]") == []


def test_of_two_finds_in_one_place_the_first_stays() -> None:
    finds = [Find(5, 9, "a"), Find(0, 6, "b"), Find(9, 12, "c"), Find(1, 2, "d")]
    assert apart(finds) == [Find(1, 2, "d"), Find(5, 9, "a"), Find(9, 12, "c")]


def test_new_texts_leave_labels_and_other_messages_as_they_were() -> None:
    content = row("Why?", "So.", domain="metals", id="7").content
    changed = with_texts(content, {1: "Then."})
    assert changed.messages == (content.messages[0], {"role": "assistant", "content": "Then."})
    assert (changed.domain, changed.id) == ("metals", "7")
