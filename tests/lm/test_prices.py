from __future__ import annotations

from nexa.lm.prices import TEACHERS


def test_every_teacher_is_found_by_its_models_id_and_has_a_dated_price() -> None:
    assert {"gpt-4o", "gpt-4o-mini"} < set(TEACHERS)
    for name, row in TEACHERS.items():
        assert row.model == name
        assert name.startswith({"openai": "gpt", "anthropic": "claude"}[row.provider])
        assert 0 < row.price.input_usd < row.price.output_usd
        assert row.context_tokens >= 100_000
        assert "2026-" in row.price.source
