"""The tables of the safety policy say what the code does."""

from __future__ import annotations

import pytest

from nexa.cli import safety_docs
from nexa.cli.schema_docs import with_part
from nexa.core import errors, secrets
from nexa.core.hazards.flags import KINDS, RULES_VERSION
from tests.architecture.files import ROOT

PARTS = {
    "token sources": safety_docs.token_source_table,
    "child variables": safety_docs.child_variables,
    "credentials": safety_docs.credential_table,
    "refusals": safety_docs.refusal_table,
    "hazards": safety_docs.hazard_table,
    "hazard rules": safety_docs.rules_version,
    "quantities": safety_docs.quantity_list,
}
POLICY = (ROOT / "docs" / "SAFETY_POLICY.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PARTS)
def test_the_policy_has_each_part_as_the_code_makes_it(name: str) -> None:
    assert with_part(POLICY, name, PARTS[name]()) == POLICY


def test_every_form_of_credential_is_named() -> None:
    table = safety_docs.credential_table()
    assert table.count("\n") == len(secrets.CREDENTIALS) + 1
    assert "hf_" in table


def test_every_kind_of_hazard_is_told_with_its_severity() -> None:
    table = safety_docs.hazard_table()
    assert table.count("\n") == len(KINDS) + 1
    assert "| `weapons` | 1 |" in table


def test_the_rules_are_named_by_their_version_and_the_sources_by_their_words() -> None:
    told = safety_docs.rules_version()
    assert f"`{RULES_VERSION}`" in told
    assert "`synthetic`, `teacher`" in told


def test_the_sources_are_in_the_order_of_the_search() -> None:
    table = safety_docs.token_source_table()
    places = [table.index(word) for word in ("typed", "HF_TOKEN", "session", "HF_TOKEN_PATH")]
    assert places == sorted(places)


def test_the_exit_codes_are_the_classes_own() -> None:
    table = safety_docs.refusal_table()
    assert f"| {errors.AccessError.exit_code} | `AccessError` |" in table
    assert f"| {errors.GateError.exit_code} | `GateError` |" in table


def test_the_variables_are_those_that_are_taken_out() -> None:
    told = safety_docs.child_variables()
    for word in (*secrets.SECRET_WORDS, *(f"{word}_KEY" for word in secrets.KEY_WORDS)):
        assert f"`{word}`" in told
        assert secrets.child_environment({f"MY_{word}": "x", word: "x"}) == {}
