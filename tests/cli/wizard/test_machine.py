from __future__ import annotations

from pathlib import Path

import pytest

from nexa.cli.wizard.machine import cost, show_machine
from nexa.core.hardware import Machine
from nexa.orchestrate.estimate import Estimate
from tests.cli.wizard.typed import Person

SMALL = Machine("a processor", 1, 8 * 10**9, (), False, "Linux")
LARGE = Machine("a processor", 64, 512 * 10**9, ("H100", "H100"), True, "Linux")


def test_it_says_what_the_machine_is_and_what_fits(tmp_path: Path) -> None:
    person = Person()
    show_machine(person, SMALL, tmp_path)
    assert "a processor, 1 core, without bfloat16" in person.seen
    assert "none; the processor is enough" in person.seen
    assert "8.0 GB" in person.seen
    [small] = [line for line in person.seen.splitlines() if line.startswith("smollm2-135m")]
    [large] = [line for line in person.seen.splitlines() if "Qwen2.5-7B" in line]
    assert "too large" not in small.split("  ")[1]
    assert large.count("too large") == 2


def test_a_large_machine_names_its_gpus_and_everything_fits(tmp_path: Path) -> None:
    person = Person()
    show_machine(person, LARGE, tmp_path)
    assert "64 cores, with bfloat16" in person.seen
    assert "H100x2" in person.seen
    assert "too large" not in person.seen


def test_in_a_narrow_terminal_every_model_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    person = Person()
    show_machine(person, LARGE, tmp_path)
    assert "  smollm2-135m: lora " in person.seen


def test_it_is_for_those_who_are_asked(tmp_path: Path) -> None:
    nobody = Person(asks=False)
    show_machine(nobody, SMALL, tmp_path)
    assert nobody.seen == ""


def test_a_cost_is_memory_and_time_or_that_it_is_too_large() -> None:
    assert cost(Estimate(3_500_000_000, 208, True, "")) == "3.5 GB, 3 min 28 s"
    assert cost(Estimate(3_500_000_000, 208, False, "")) == "3.5 GB: too large"
