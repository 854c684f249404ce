"""What a peer is asked to do: one JSON file, written by `contest.peer_runs`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Messages = list[dict[str, str]]
EVERY_LINEAR_LAYER = "all-linear"


@dataclass(frozen=True)
class Job:
    """The work, and how the peer is to do it."""

    model: str
    rows: str  # JSON lines with `messages`, in the order in which they are to be learnt
    out: str  # where the meter writes
    scratch: str  # a folder that is thrown away afterwards
    steps: int
    rows_per_step: int
    micro_batch: int  # rows that are padded together
    max_length: int  # tokens
    lr: float
    rank: int
    alpha: int
    settings: dict[str, Any]  # what the tool is told beside its defaults

    def trainer_arguments(self) -> dict[str, Any]:
        """What every `transformers.Trainer` needs for this work; the rest is the tool's default."""
        return {
            "output_dir": self.scratch,
            "max_steps": self.steps,
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": self.rows_per_step // self.micro_batch,
            "learning_rate": self.lr,
            "lr_scheduler_type": "constant",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
        }

    def conversations(self) -> list[Messages]:
        """The rows."""
        with Path(self.rows).open(encoding="utf-8") as lines:
            return [json.loads(line)["messages"] for line in lines]


def asked() -> Job:
    """The job whose file the command line names."""
    return Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
