"""The stated model of memory and time, against what was measured and against itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexa.core.hardware import Machine
from nexa.orchestrate.estimate import estimate
from nexa.orchestrate.model_shape import Shape

SMOL = Shape("LlamaForCausalLM", 576, 30, 49152, 134_515_008)
LARGE = Shape("LlamaForCausalLM", 4096, 32, 32000, 7_000_000_000)
HERE = Machine("cpu", 2, 24_000_000_000, (), bf16=True, system="Linux x86_64")


def test_the_run_it_was_scaled_from_takes_what_was_measured() -> None:
    told = estimate(SMOL, "lora", rows=400, tokens_a_row=144, epochs=1, machine=HERE)
    assert told.seconds == pytest.approx(165, rel=0.2)  # measured in docs/log.md
    assert told.memory_bytes == pytest.approx(4.2e9, rel=0.25)
    assert told.fits
    assert "590 tokens/s" in told.basis


def test_time_grows_with_rows_and_parameters_and_falls_with_cores() -> None:
    def seconds(shape: Shape = SMOL, rows: int = 400, cores: int = 2, bf16: bool = True) -> float:
        machine = replace(HERE, cores=cores, bf16=bf16)
        told = estimate(shape, "lora", rows=rows, tokens_a_row=144, epochs=1, machine=machine)
        return told.seconds

    assert seconds(rows=800) > seconds()
    assert seconds(cores=4) == pytest.approx(seconds() / 2)
    assert seconds(LARGE) == pytest.approx(seconds() * LARGE.parameters / 134.5e6, rel=1e-3)
    assert seconds(bf16=False) == pytest.approx(2 * seconds())


def test_all_weights_take_more_of_both_than_an_adapter() -> None:
    lora, full = (
        estimate(SMOL, method, rows=400, tokens_a_row=144, epochs=1, machine=HERE)
        for method in ("lora", "full")
    )
    assert full.seconds > lora.seconds
    assert full.memory_bytes > lora.memory_bytes + 10 * SMOL.parameters


def test_a_model_that_is_too_large_does_not_fit() -> None:
    assert not estimate(LARGE, "lora", rows=9, tokens_a_row=99, epochs=1, machine=HERE).fits


def test_what_no_figure_was_measured_on_is_said() -> None:
    machine = replace(HERE, bf16=False, gpus=("A100",) * 2)
    told = estimate(SMOL, "full", rows=9, tokens_a_row=99, epochs=1, machine=machine)
    assert "half as fast" in told.basis
    assert "A100x2: unknown, this version trains on the processor" in told.basis
