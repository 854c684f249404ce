"""The tables of the cost model say what the code does."""

from __future__ import annotations

import pytest

from nexa.cli import cost_docs
from nexa.cli.cost_docs import COST_PARTS
from nexa.cli.schema_docs import with_part
from nexa.core.errors import BudgetSpent
from nexa.core.manifest import Cost
from nexa.core.records import Spent
from nexa.lm.prices import SOURCE, TEACHERS
from tests.architecture.files import ROOT

MODEL = (ROOT / "docs" / "COST_MODEL.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COST_PARTS)
def test_the_document_has_each_part_as_the_code_makes_it(name: str) -> None:
    assert with_part(MODEL, name, COST_PARTS[name]()) == MODEL


def test_every_field_of_a_cost_is_told() -> None:
    for model, table in (
        (Cost, cost_docs.run_cost_fields()),
        (Spent, cost_docs.answers_cost_fields()),
    ):
        assert table.count("\n| `") == len(model.model_fields)
        assert all(f"| `{name}` |" in table for name in model.model_fields)


def test_every_teacher_has_a_price_a_thousand_prompts_the_cheapest_first() -> None:
    table = cost_docs.prompt_prices()
    assert table.count("\n| `") == len(TEACHERS)
    # 500 tokens in at $2.50 and 200 out at $10.00 a million, a thousand times
    assert "| `gpt-4o` | 3.25 |" in table
    assert table.index("gpt-4.1-nano") < table.index("gpt-4o")
    assert table.endswith(f"{SOURCE}.")


def test_a_machine_s_price_and_limit_are_told_with_their_defaults() -> None:
    table = cost_docs.machine_prices()
    assert "| `infra.cost_per_hour_usd` | 0 |" in table
    assert "| `infra.max_usd` | - |" in table


def test_what_stops_the_work_is_told_with_its_exit_code() -> None:
    assert f"exit code {BudgetSpent.exit_code}" in cost_docs.stops()
