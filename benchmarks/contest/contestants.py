"""Who takes part: one table, and how its names are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Nexa:
    """`nexa train` with one of its engines."""

    name: str
    label: str
    engine: str
    precision: str = "auto"
    check: bool = True  # train as a user does, whose flight check is kept from before


@dataclass(frozen=True)
class Peer:
    """Another tool: its script in `peers`, its environment, what it is told."""

    name: str
    label: str
    environment: str
    script: str
    micro_batch: int = 8  # rows that are padded together; the tools' own default
    settings: Mapping[str, Any] = field(default_factory=dict)


Contestant = Nexa | Peer

# What Nexa's losses are compared with. Its speed is no contestant's, so it needs no check.
REFERENCE = Nexa("reference", "Nexa, generic, float32", "generic", "float32", check=False)

NEXA = {
    "fused": Nexa("fused", "**Nexa**, fused", "fused"),
    "generic": Nexa("generic", "Nexa, generic", "generic"),
}

# Best: the fastest that was found on two cores without a GPU. Weights in bfloat16 (LLaMA-Factory
# has them so by default), no recomputing of activations. Four rows padded together hold less
# padding than eight: `NAME@8` tries another number.
BFLOAT16 = {"dtype": "bfloat16"}
PEERS = {
    peer.name: peer
    for peer in (
        Peer("trl", "TRL SFTTrainer, defaults", "trl", "trl_peer.py"),
        Peer(
            "trl-best",
            "TRL SFTTrainer, best",
            "trl",
            "trl_peer.py",
            micro_batch=4,
            settings={**BFLOAT16, "gradient_checkpointing": False},
        ),
        Peer(
            "trainer",
            "transformers.Trainer + PEFT, float32",
            "trl",
            "trainer_peer.py",
            settings={"dtype": "float32"},
        ),
        Peer(
            "trainer-best",
            "transformers.Trainer + PEFT, best",
            "trl",
            "trainer_peer.py",
            micro_batch=4,
            settings=BFLOAT16,
        ),
        Peer("llamafactory", "LLaMA-Factory, defaults", "lf", "llamafactory_peer.py"),
        Peer(
            "llamafactory-best",
            "LLaMA-Factory, best",
            "lf",
            "llamafactory_peer.py",
            micro_batch=4,
            settings={"disable_gradient_checkpointing": True},
        ),
    )
}


# What the peers' losses are compared with: they learn one label a row that Nexa does not, what the
# template writes after the end of a turn.
PEER_REFERENCE = PEERS["trainer"]


def contestants(nexa: str, peers: str, *, reference: bool) -> list[Contestant]:
    """Those that two comma-separated lists name, in that order; the reference comes last."""
    chosen: list[Contestant] = [named(name) for name in _names(nexa) + _names(peers)]
    return [*chosen, REFERENCE] if reference else chosen


def named(name: str) -> Contestant:
    """A contestant by its name; `trl-best@8` is trl-best with eight rows padded together.

    Raises:
        SystemExit: there is none of this name; tells all there are.
    """
    plain, _, rows = name.partition("@")
    known: dict[str, Contestant] = {**NEXA, **PEERS, REFERENCE.name: REFERENCE}
    found = known.get(plain)
    if found is None or (rows and not (isinstance(found, Peer) and rows.isdecimal())):
        raise SystemExit(f"no contestant is called {name!r}; there are {', '.join(known)}")
    if rows and isinstance(found, Peer):
        label = f"{found.label}, {rows} rows padded together"
        return replace(found, name=name, label=label, micro_batch=int(rows))
    return found


def _names(told: str) -> list[str]:
    return [name.strip() for name in told.split(",") if name.strip()]
