"""What this machine is, and which models it can train."""

from __future__ import annotations

import shutil
from pathlib import Path

from nexa.cli.format import duration, size
from nexa.cli.wizard.asking import Asker
from nexa.core.hardware import Machine
from nexa.orchestrate.estimate import Estimate
from nexa.orchestrate.start.guide import SAMPLE_ROWS, SAMPLE_TOKENS, fits
from nexa.orchestrate.start.init import Method

NARROW = 70  # columns; below, each model is a line of its own
SHOWN: tuple[Method, ...] = ("lora", "full")  # the others lie between, and are told when it counts


def show_machine(asker: Asker, machine: Machine, project: Path) -> None:
    """Processor, memory, disk, and a table of models with what each method would take."""
    if not asker.asks:
        return
    asker.title("This machine")
    cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
    bf16 = "with bfloat16" if machine.bf16 else "without bfloat16"
    asker.out.pairs(
        {
            "processor": f"{machine.cpu}, {cores}, {bf16}",
            "GPU": machine.gpu_type or "none; the processor is enough",
            "memory": size(machine.memory_bytes),
            "free disk": size(shutil.disk_usage(project).free),
        }
    )
    rows = [
        [fit.model.reference, *(cost(fit.by_method[method]) for method in SHOWN)]
        for fit in fits(machine)
    ]
    asker.tell(f"On {SAMPLE_ROWS} rows of {SAMPLE_TOKENS} tokens it would take, roughly:")
    if shutil.get_terminal_size().columns < NARROW:
        for reference, *costs in rows:
            told = (f"{method} {text}" for method, text in zip(SHOWN, costs, strict=True))
            asker.tell(f"{reference}: {'; '.join(told)}")
    else:
        asker.out.table(["model", *SHOWN], rows)


def cost(estimate: Estimate) -> str:
    """Memory and time in words; memory alone where it does not fit."""
    memory = size(estimate.memory_bytes)
    return f"{memory}, {duration(estimate.seconds)}" if estimate.fits else f"{memory}: too large"
