"""What a run cost: metered time at a named price, and dollars for each point of quality."""

from __future__ import annotations

from datetime import datetime

from nexa.core.manifest import Cost


def cost_of(
    start: datetime,
    end: datetime,
    *,
    gpu_type: str | None,
    provider: str,
    cost_per_hour_usd: float,
    tokens: int,
    gain: float | None,
    teacher_usd: float | None = None,
) -> Cost:
    """The cost breakdown of a run on one machine.

    Args:
        start: when the run began, in UTC.
        end: when it ended, in UTC.
        gpu_type: the accelerator, None for a machine without one.
        provider: who owns the machine.
        cost_per_hour_usd: its price; 0 for one's own machine unless the user says otherwise.
        tokens: tokens that went through the model in training.
        gain: tuned minus base on the primary metric, in 0..1; None when there was no comparison.
        teacher_usd: what a teacher's answers cost; None when there are none, or nobody knows.
    """
    total = (end - start).total_seconds() / 3600 * cost_per_hour_usd + (teacher_usd or 0)
    return Cost(
        start_time=start.isoformat(timespec="seconds"),
        end_time=end.isoformat(timespec="seconds"),
        gpu_type=gpu_type,
        provider=provider,
        cost_per_hour_usd=cost_per_hour_usd,
        price_source="config.yaml, infra.cost_per_hour_usd"
        if cost_per_hour_usd
        else "none given: the local machine counts as 0",
        cost_total_usd=round(total, 6),
        teacher_usd=teacher_usd,
        tokens=tokens,
        usd_per_point=round(total / (gain * 100), 6) if gain and gain > 0 else None,
    )
