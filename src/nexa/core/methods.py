"""The ways to train, by the names that people know them by."""

from __future__ import annotations

from collections.abc import Sequence

from nexa.core.records import AdoptedBody, CheckpointBody

VARIANTS = {None: "LoRA", "rslora": "rsLoRA", "dora": "DoRA", "dora+rslora": "DoRA with rsLoRA"}


def method_name(body: CheckpointBody | AdoptedBody) -> str:
    """What a checkpoint was trained by: `LoRA`, `QLoRA`, `QLoRA with DoRA`, `all weights`."""
    if body.method == "full":
        return "all weights"
    name = VARIANTS[body.variant]
    if quantised(body):
        name = "QLoRA" if body.variant is None else f"QLoRA with {name}"
    plus = isinstance(body, CheckpointBody) and body.plus_ratio is not None
    return f"{name} with LoRA+" if plus else name


def method_told(body: CheckpointBody | AdoptedBody) -> str:
    """The method with what belongs to it: rank, alpha and layers; the form of the base."""
    if body.method == "full":
        return method_name(body)
    told = f"{method_name(body)}, {_strength(body)}"
    if isinstance(body, CheckpointBody) and body.plus_ratio is not None:
        told += f", B's rate {body.plus_ratio:g} times A's"
    told += f", on {', '.join(body.target_modules)}"
    form = quantised(body)
    return f"{told}; the frozen base in {form}" if form else told


def ending_told(body: CheckpointBody) -> list[tuple[str, str]]:
    """What is not so in every training, where it was so in this one: name and value.

    What was measured by on the way, an end before the last step, weights of another step than the
    last, and every return after a loss spike.
    """
    told = []
    if body.validation_rows:
        rows = f"{body.validation_rows:,} rows kept out of the training split"
        told.append(("measured on the way by", rows))
    if body.stopped is not None:
        told.append(("ended early", body.stopped))
    if body.best_step is not None:
        told.append(("weights of", f"step {body.best_step}: the lowest validation loss"))
    return [*told, *(("went back", rollback) for rollback in body.rollbacks)]


def _strength(body: CheckpointBody | AdoptedBody) -> str:
    """Rank and alpha; of an adopted adapter whose layers differ, every one that there is."""
    adopted = body if isinstance(body, AdoptedBody) else None
    ranks: Sequence[float | None] = (adopted and adopted.ranks) or [body.rank]
    alphas: Sequence[float | None] = (adopted and adopted.alphas) or [body.alpha]
    return f"rank {_listed(ranks)}, alpha {_listed(alphas)}"


def _listed(values: Sequence[float | None]) -> str:
    return " / ".join(f"{value:g}" for value in values)


def quantised(body: CheckpointBody | AdoptedBody) -> str | None:
    """The form that a training held its frozen base in, if it was not the base's own."""
    if isinstance(body, AdoptedBody) or body.quantization is None:
        return None
    double = " with double quantisation" if body.double_quantization else ""
    return f"{body.quantization.upper()}{double}"
