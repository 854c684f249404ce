from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.config import parse_config
from nexa.core.config_filters import BalanceSection, filters_asked
from nexa.core.errors import ConfigError

HEAD = "model: {path: m}\ndata:\n  train_path: rows.jsonl\n"


def mistakes(below_data: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(HEAD + below_data)
    return str(caught.value.found).splitlines()


def test_names_and_names_with_options_in_a_list_or_not() -> None:
    config = parse_config(HEAD + "  filters: [pii, {language: {keep: [en]}}, {quality: false}]\n")
    assert config.data.filters == {"pii": {}, "language": {"keep": ["en"]}, "quality": False}
    below = "    pii:\n    language: {keep: [en]}\n    quality: false\n"
    same = parse_config(HEAD + "  filters:\n" + below)
    assert same.data.filters == config.data.filters
    assert type(config).model_validate(config.model_dump()) == config


def test_nothing_is_asked_for_by_default() -> None:
    data = parse_config(HEAD).data
    assert data.filters == {}
    assert data.near_duplicates == "drop"
    assert data.balance is None


def test_every_mistake_is_told_with_its_line() -> None:
    assert mistakes(
        "  filters:\n"
        "    - pi\n"
        "    - secrets:\n"
        "        actoin: drop\n"
        "        action: hide\n"
        "    - language\n"
        "    - quality: 3\n"
        "    - normalise\n"
        "    - normalise\n"
        "  near_duplicates: maybe\n"
    ) == [
        "line 5: data.filters: is not a filter: did you mean 'pii'? (got 'pi')",
        "line 7: data.filters.secrets.actoin: is not an option of secrets: "
        "did you mean 'action'? (got 'drop')",
        "line 8: data.filters.secrets.action: should be 'redact' or 'drop' (got 'hide')",
        "line 9: data.filters.language.keep is missing",
        "line 10: data.filters.quality: should be options, or false to leave it out (got 3)",
        "line 12: data.filters: is asked for twice (got 'normalise')",
        "line 13: data.near_duplicates: should be 'drop' or 'keep' (got 'maybe')",
    ]


def test_names_and_options_that_are_like_no_other_get_all_there_are() -> None:
    told = mistakes("  filters:\n    zzz:\n    pii: {qqqqqq: 1}\n")
    assert told[0].startswith("line 5: data.filters.zzz: is not a filter: known: language, ")
    assert told[1] == (
        "line 6: data.filters.pii.qqqqqq: is not an option of pii: known: action, kinds (got 1)"
    )


@pytest.mark.parametrize("asked", ["3", "pii", "", "true"])
def test_what_is_no_list_of_filters_is_refused(asked: str) -> None:
    (told,) = mistakes(f"  filters: {asked}\n")
    assert told.startswith(
        "line 4: data.filters: should be a list of filters, or names with their options"
    )


def test_keys_of_other_kinds_are_names_like_any_other() -> None:
    (told,) = mistakes("  filters: [1]\n")
    assert told.startswith("line 4: data.filters: is not a filter: known: ")
    assert told.endswith("(got 1)")


def test_balance_has_one_limit() -> None:
    assert BalanceSection(at_most=3).ratio is None
    config = parse_config(HEAD + "  balance: {ratio: 2.5, seed: 7}\n")
    assert config.data.balance == BalanceSection(ratio=2.5, seed=7)
    for both in ("{at_most: 3, ratio: 2}", "{}", ""):
        (told,) = mistakes(f"  balance: {both}\n")
        assert told.startswith("line 4: data.balance: give at_most or ratio, one of them")


def test_a_plugin_checks_its_own_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nexa_loud.py").write_text(
        "from nexa.core.errors import DataError\n"
        "class Loud:\n"
        "    version = 1\n"
        "    def __call__(self, options):\n"
        "        if options:\n"
        "            raise DataError('loud takes no options', found='most')\n"
        "        return lambda rows: [None for _ in rows]\n"
        "LOUD = Loud()\n"
    )
    info = tmp_path / "nexa_loud-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nexa-loud\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[nexa.filter]\nloud = nexa_loud:LOUD\ngone = nexa_loud:GONE\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert filters_asked(["loud"]) == {"loud": {}}
    (told,) = mistakes("  filters: {loud: {most: 3}}\n")
    assert told == "line 4: data.filters.loud: loud takes no options (most)"
    (told,) = mistakes("  filters: [gone]\n")
    assert "nexa-loud promises filter 'gone' and cannot give it" in told
