"""Whether the machine's memory holds the training: by the stated model, then by trying."""

from __future__ import annotations

from nexa.core.errors import CapacityError
from nexa.core.hardware import available_memory_bytes, this_machine
from nexa.orchestrate import plan
from nexa.orchestrate.check.offspring import Offspring
from nexa.orchestrate.check.state import Flight
from nexa.orchestrate.estimate import Estimate, estimate
from nexa.orchestrate.model_shape import shape_of
from nexa.train.memory import method_of

# The model of memory is good to about a half: beyond that nothing is even tried.
HOPELESS = 1.5


def estimated(flight: Flight) -> str:
    """What the stated model says, where nothing is rehearsed.

    Raises:
        CapacityError: it says more than the machine has, even with one row a pass.
    """
    told = _estimate(flight)
    room = this_machine().memory_bytes
    if told.least_bytes > room:
        raise _too_much(told, room)
    return (
        f"not tried; by estimate {told.memory_bytes / 1e9:.1f} GB of {room / 1e9:.1f} GB "
        f"with the {told.engine} engine"
    )


def probed(flight: Flight, child: Offspring) -> str:
    """What the child measures at the longest batch; it is not even asked where there is no hope.

    Raises:
        CapacityError: it does not fit; says what would.
        NexaError: what would stop the training at its first step.
    """
    told = _estimate(flight)
    room = available_memory_bytes()
    if told.least_bytes > HOPELESS * room:
        raise _too_much(told, room)
    return child.memory(flight.records, flight.facts)


def _estimate(flight: Flight) -> Estimate:
    spec = plan.finetune(flight.config, flight.root, flight.base)
    rows = flight.facts["train_rows"]
    steps = spec.total_steps(rows)
    told = estimate(
        shape_of(flight.base),
        method_of(spec),
        rows=rows,
        tokens_a_row=flight.facts["tokens_a_row"],
        epochs=steps / spec.steps_per_epoch(rows),
        machine=this_machine(),
        spec=spec,
    )
    flight.facts |= {
        "estimated_memory_bytes": told.memory_bytes,
        "estimated_s": round(told.seconds),
        "estimate_basis": told.basis,
        "estimated_engine": told.engine,
    }
    return told


def _too_much(told: Estimate, room: int) -> CapacityError:
    return CapacityError(
        "this machine's memory does not hold the training",
        found=f"about {told.least_bytes / 1e9:.0f} GB would be needed, {room / 1e9:.1f} GB are "
        f"there; {told.basis}",
        fix="a smaller model, training.method lora or qlora, shorter rows (data.max_length), or "
        "a machine with more memory",
    )
