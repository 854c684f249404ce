from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import ConfigError
from nexa.core.hardware import this_machine
from nexa.core.identity import fingerprint
from nexa.lm.adapters import LoraSpec
from nexa.lm.resolve import ModelFiles
from nexa.train.spec import (
    QuantizeSpec,
    SchedulerSpec,
    TrainSpec,
    resolve_every,
    resolve_precision,
)

MODEL = ModelFiles(
    reference="m", name="m", origin="folder", folder=Path("/nowhere"), files={"a": "0"}
)


def test_steps_count_the_rows_that_are_left_at_the_end_of_an_epoch() -> None:
    spec = TrainSpec(MODEL, batch_size=2, gradient_accumulation=4, epochs=2)
    assert spec.rows_per_step == 8
    assert spec.steps_per_epoch(17) == 3
    assert spec.total_steps(17) == 6


def test_part_of_an_epoch_and_a_number_of_steps_may_be_asked_for() -> None:
    assert TrainSpec(MODEL, epochs=0.5).total_steps(32) == 2
    assert TrainSpec(MODEL, epochs=0.01).total_steps(32) == 1
    assert TrainSpec(MODEL, max_steps=7).total_steps(32) == 7
    assert TrainSpec(MODEL).total_steps(32) == 4


def test_two_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="given twice"):
        TrainSpec(MODEL, epochs=1, max_steps=2)


def test_two_warm_ups_are_refused() -> None:
    with pytest.raises(ConfigError, match="warm-up is given twice"):
        SchedulerSpec(warmup_steps=1, warmup_ratio=0.1)


def test_an_adapter_and_all_weights_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        TrainSpec(MODEL, method="full", lora=LoraSpec())
    assert TrainSpec(MODEL, method="full").adapter is None
    assert TrainSpec(MODEL).adapter == LoraSpec()


def test_a_quantised_base_cannot_be_trained_itself() -> None:
    with pytest.raises(ConfigError, match="quantised base"):
        TrainSpec(MODEL, method="full", quantize=QuantizeSpec())


def test_warm_up_is_a_number_of_steps_or_a_share_of_them() -> None:
    assert SchedulerSpec().warmup(100) == 0
    assert SchedulerSpec(warmup_steps=7).warmup(100) == 7
    assert SchedulerSpec(warmup_ratio=0.03).warmup(101) == 4


def test_what_only_says_how_fast_leaves_the_fingerprint_alone() -> None:
    def print_of(**changes: object) -> str:
        return fingerprint("finetune", 1, TrainSpec(MODEL, **changes), {})  # type: ignore[arg-type]

    assert print_of(micro_tokens=512, name="other", scratch=Path("/tmp")) == print_of()
    kept = {"run_state": Path("/tmp"), "checkpoint_every": 3, "checkpoint_keep": 9}
    assert print_of(**kept, commit=print, allow_inexact=True) == print_of()
    assert print_of(seed=1) != print_of()
    assert print_of(lora=LoraSpec(rank=8)) != print_of(lora=LoraSpec(rank=16))


def test_precision_is_the_machines_unless_it_is_given() -> None:
    assert resolve_precision("float32") == "float32"
    assert resolve_precision("bfloat16") == "bfloat16"
    assert resolve_precision("auto") == ("bfloat16" if this_machine().bf16 else "float32")


@pytest.mark.parametrize(
    ("total", "lora", "full"),
    [(3, 10, 50), (40, 10, 50), (301, 31, 50), (700, 70, 70), (9000, 100, 100)],
)
def test_a_checkpoint_comes_ten_times_a_run_within_limits(total: int, lora: int, full: int) -> None:
    assert resolve_every(None, total, "lora") == lora
    assert resolve_every(None, total, "full") == full
    assert resolve_every(7, total, "full") == 7
