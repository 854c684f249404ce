"""Times and counts every optimiser step of any `transformers.Trainer`, and changes nothing else.

To be attached before the trainer is made. One JSON line a step goes to the job's `out`: when it
began and ended (Unix time), its tokens that are not padding, all its tokens, its label tokens, its
loss; a last line holds the peak memory and the versions of what was imported.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import transformers
from torch.utils.data import SequentialSampler

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "trl", "llamafactory")
IGNORED = -100  # a label that bears no loss


class Meter(transformers.TrainerCallback):
    """Writes down what one training did."""

    def __init__(self, out: str) -> None:
        self._out = Path(out)
        self._step: dict[str, Any] = {}

    def count(self, inputs: dict[str, Any]) -> None:
        """Add a padded micro-batch `[B, T]` to the step under way."""
        self._step["padded_tokens"] += inputs["input_ids"].numel()
        self._step["tokens"] += int(inputs["attention_mask"].sum())
        # The first token of a row is predicted from nothing.
        self._step["label_tokens"] += int((inputs["labels"][:, 1:] != IGNORED).sum())

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """The first batch of a step is about to be computed."""
        self._step = {"tokens": 0, "padded_tokens": 0, "label_tokens": 0, "began": time.time()}

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The weights have moved."""
        self._step["ended"] = time.time()

    def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
        """The loss of a step is told right after it."""
        if "loss" in logs:
            self._write({**self._step, "loss": float(logs["loss"])})

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """What holds for the training as a whole."""
        self._write({"peak_rss_bytes": peak_rss_bytes(), "versions": versions()})

    def _write(self, record: dict[str, Any]) -> None:
        with self._out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def attach(out: str) -> None:
    """Put a meter into every trainer made from now on, and let it take rows as they come."""
    meter = Meter(out)
    trainer = transformers.Trainer
    make, compute = trainer.__init__, trainer.training_step

    @functools.wraps(make)
    def made(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        self.add_callback(meter)

    @functools.wraps(compute)
    def computed(self: Any, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        meter.count(inputs)
        return compute(self, model, inputs, *arguments, **named)

    def in_order(self: Any, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    trainer.__init__, trainer.training_step = made, computed
    trainer._get_train_sampler = in_order


def peak_rss_bytes() -> int:
    """The most memory that this process held, without what its parent held before it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """The versions of the libraries that were used."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES if name in sys.modules}
