from __future__ import annotations

import subprocess
import sys

import pytest

from nexa.core.config_filters import FILTER_SECTIONS
from nexa.core.errors import ConfigError, DataError
from nexa.core.plugins import UnknownPlugin
from nexa.data.filters.base import FilterSpec
from nexa.data.filters.registry import DEFAULT, FILTERS, described, specs
from tests.data.build import row


def test_the_table_and_the_options_have_the_same_names() -> None:
    assert set(FILTERS.names()) >= set(FILTER_SECTIONS)
    for name in FILTER_SECTIONS:
        assert FILTERS[name].version >= 1


def test_without_a_word_the_default_filters_are_taken() -> None:
    assert [spec.name for spec in specs()] == list(DEFAULT)
    assert specs(default=()) == ()


def test_filters_are_taken_in_the_order_asked_for_after_the_default_ones() -> None:
    asked = specs(["secrets", {"pii": {"kinds": ["email"], "action": "drop"}}])
    assert [spec.name for spec in asked] == [*DEFAULT, "secrets", "pii"]
    assert asked[-1] == FilterSpec("pii", 1, (("action", "drop"), ("kinds", ("email",))))


def test_a_default_filter_takes_options_or_is_left_out() -> None:
    normalise, quality = specs({"quality": {"min_words": 3}})
    assert dict(quality.options)["min_words"] == 3
    assert normalise.name == "normalise"
    assert [spec.name for spec in specs({"quality": False})] == ["normalise"]
    assert [spec.name for spec in specs({"quality": {}, "pii": {}}, default=())] == [
        "quality",
        "pii",
    ]


def test_two_ways_to_ask_for_one_thing_are_one_recipe() -> None:
    assert specs(["pii"]) == specs({"pii": {"action": "redact"}}) == specs([{"pii": None}])


def test_every_mistake_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        specs(["pi", {"pii": {"acton": "drop"}}, {"secrets": {"action": "hide"}}])
    assert str(caught.value.found).splitlines() == [
        "pi: is not a filter: did you mean 'pii'?",
        "pii.acton: is not an option of pii: did you mean 'action'?",
        "secrets.action: Input should be 'redact' or 'drop'",
    ]
    with pytest.raises(ConfigError, match="should be a list of filters"):
        specs("pii")


def test_a_spec_makes_its_filter() -> None:
    (spec,) = specs({"pii": {"action": "drop"}}, default=())
    (verdict,) = spec.make(FILTERS)([row("Who?", "jane@kingsmead.edu")])
    assert verdict is not None
    with pytest.raises(UnknownPlugin, match="no filter named 'pi'"):
        FilterSpec("pi", 1).make(FILTERS)


def test_options_are_checked_again_where_the_filter_is_made() -> None:
    with pytest.raises(DataError, match="the filter pii does not take this") as caught:
        FILTERS["pii"]({"action": "hide"})
    assert caught.value.found == "action: Input should be 'redact' or 'drop'"


def test_filters_are_described_with_their_options() -> None:
    found = {entry.name: entry for entry in described()}
    assert list(found)[: len(FILTER_SECTIONS)] == list(FILTER_SECTIONS)
    assert [name for name, entry in found.items() if entry.default] == list(DEFAULT)
    for entry in found.values():
        assert entry.does.endswith(".")
        assert all(meaning for _, _, meaning in entry.options)
    quality = {name: default for name, default, _ in found["quality"].options}
    assert quality["echo"] == "true"
    assert quality["max_words"] == "none"
    assert quality["min_words"] == "0"
    assert found["language"].options[0][:2] == ("keep", "needed")
    assert dict((n, d) for n, d, _ in found["pii"].options)["kinds"].startswith("email, phone")


def test_an_unused_filter_imports_nothing() -> None:
    code = (
        "import sys\n"
        "from nexa.data.filters.registry import specs, FILTERS\n"
        "for spec in specs(): spec.make(FILTERS)\n"
        "heavy = {'detect_secrets', 'py3langid', 'pint', 'nexa.data.filters.pii'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
