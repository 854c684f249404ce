from __future__ import annotations

import inspect

import pytest

from nexa.core.records import KINDS
from nexa.orchestrate.steps import STEPS, Step

ALL = pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)


@ALL
def test_a_step_s_function_takes_the_inputs_that_the_table_names(step: Step) -> None:
    parameters = inspect.signature(step.load()).parameters
    keywords = {n: p for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    any_number = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert next(iter(parameters)) == "spec"
    named = dict(item.split(": ") for item in step.inputs)
    # A row's `parent*: export?` is **parents: none, or as many as there are.
    assert any_number == any(role.endswith("*") for role in named)
    named = {role: kind for role, kind in named.items() if not role.endswith("*")}
    # `manifest` is no artifact: publishing alone is told of the run, by the runner's `effects`.
    # Nor is the clock, which tests put another in the place of.
    assert set(named) == set(keywords) - {"store", "manifest", "clock"}
    for role, kind in named.items():
        parameter = keywords[role]
        has_default = parameter.default is not inspect.Parameter.empty
        optional = has_default or str(parameter.annotation).endswith("| None")
        assert kind.endswith("?") == optional, role


@ALL
def test_a_step_takes_and_makes_kinds_of_records(step: Step) -> None:
    assert step.output in KINDS
    kinds = (item.split(": ")[1].rstrip("?").split("|") for item in step.inputs)
    assert {kind for alternatives in kinds for kind in alternatives} <= set(KINDS)
    assert step.version >= 1


def test_every_kind_of_record_is_made_by_a_step() -> None:
    assert {step.output for step in STEPS.values()} == set(KINDS)


def test_steps_are_found_by_their_names() -> None:
    assert all(name == step.name for name, step in STEPS.items())
