"""What is recorded of a run's training beside its manifest: how it was computed and how it ended.

Read off the sealed checkpoint; nothing here loads a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nexa.core.errors import NexaError
from nexa.core.manifest import RunManifest
from nexa.core.tiers import Tiers

# Choices of `resolved.json` that are worth a line of their own, and facts of the record.
CHOICES = ("precision", "threads", "micro_tokens", "prefix")
FACTS = (
    *("engine", "variant", "quantization"),
    *("validation_rows", "stopped", "best_step", "rollbacks"),
)


def training_facts(run: RunManifest, tiers: Tiers) -> dict[str, Any]:
    """The facts by name; none where the run trained nothing, or its store is not here."""
    digest = run.outputs.get("checkpoint")
    try:
        checkpoint = tiers.store.by_digest(digest or "none")
        resolved = json.loads(tiers.store.path(checkpoint, "resolved.json").read_bytes())
    except (NexaError, ValueError):
        return {}
    body = checkpoint.body
    facts = {
        "method": body.method,
        "steps": f"{body.steps} of {resolved['total_steps']}",
        "first_loss": body.first_loss,
        "final_loss": body.final_loss,
    }
    facts |= {name: getattr(body, name) for name in FACTS}
    facts |= {name: resolved.get(name) for name in CHOICES}
    facts["halvings"] = [_halving(change) for change in resolved.get("halvings") or ()]
    return {name: value for name, value in facts.items() if value not in (None, [], 0)}


def _halving(change: Mapping[str, Any]) -> str:
    """One time that memory was short."""
    return f"step {change['step']}: {change['from']} to {change['to']} tokens a pass"
