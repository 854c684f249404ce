"""How fast a training goes, for its bar; nothing of it is sealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.allocator import peak_bytes
from nexa.train.batches import TokenRow
from nexa.train.limit import machine_limit
from nexa.train.loop import StepRecord
from nexa.train.spec import Resolved, TrainSpec
from nexa.train.stopping import Watch, cost_usd

# Seconds that have to be left: to measure the machine's limit takes a third of one.
LIMIT_PAYS_S = 60.0


@dataclass
class Pace:
    """The time of the step under way, and what a user is told beside the loss."""

    spec: TrainSpec
    resolved: Resolved
    rows: Sequence[TokenRow]
    config: Mapping[str, Any]  # the model's
    watch: Watch
    limit_tokens_per_s: float | None = None
    asked: bool = False  # whether the limit was, once and for all

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A step begins."""
        self._began = self.watch.seconds

    def stepped(self) -> float:
        """Seconds since the step began."""
        return self.watch.seconds - self._began

    def told(self, record: StepRecord) -> dict[str, Any]:
        """The fields of the bar after a step."""
        seconds, limits = record.seconds, self.spec.limits
        fields: dict[str, Any] = {"loss": round(record.loss, 4), "lr": record.lr}
        if record.validation_loss is not None:
            fields["validation_loss"] = round(record.validation_loss, 4)
        if seconds > 0:
            fields["tokens_per_s"] = round(record.tokens / seconds)
        self._ask((self.resolved.total_steps - record.step) * seconds)
        if self.limit_tokens_per_s is not None:
            fields["limit_tokens_per_s"] = round(self.limit_tokens_per_s)
        fields["memory_bytes"] = peak_bytes()
        if limits.usd_per_hour:
            fields["cost_usd"] = round(cost_usd(limits, self.watch.seconds), 4)
        return fields

    def _ask(self, left_s: float) -> None:
        """Measure what the machine could reach: once, after the first step, if the run is long."""
        if self.asked:
            return
        self.asked = True
        if left_s < LIMIT_PAYS_S:
            return
        adapter = self.spec.adapter
        limit = machine_limit(
            self.config,
            self.resolved.precision,
            rows=self.rows,
            rank=adapter.rank if adapter else None,
            device=self.resolved.device,
        )
        self.limit_tokens_per_s = limit.tokens_per_s if limit else None
