"""The words and numbers of a recipe's file: what is known, what is refused and what helps then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.lm.sealed import KINDS
from nexa.weights.merge_models.yaml_page import Page, Place

KEYS = (
    *("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype"),
    *("tokenizer_source", "tokenizer", "chat_template", "seed"),
)
NUMBERS = ("weight", "density", "t", "lambda", "scale", "normalize", "rescale", "int8_mask")
FLAGS = ("normalize", "rescale", "int8_mask")
BELOW_PARAMETERS = {name: f"parameters.{name}" for name in NUMBERS}

_MOE = "a mixture of experts is not built from models; merge them with one of the methods"
NOT_TAKEN = {
    "modules": "models of several parts are not merged; name language models under models",
    "name": "a file holds one recipe; the child is named on the command line",
    **dict.fromkeys(
        ("experts", "shared_experts", "gate_mode", "experts_per_token", "architecture"), _MOE
    ),
}
NOT_IN_SLICES = {"residual_weight": "mergekit itself has no use for it; leave it out"}
NOT_IN_TOKENIZER = {
    "tokens": "no embedding is made anew; merge models whose tokenizers have the same entries",
    "pad_to_multiple_of": "the child has the rows that its models have; leave it out",
}
_NO_METHOD = "it belongs to {}, which is not built; leave it out"
NOT_NUMBERS = {
    "embed_slerp": "embeddings are merged like every other tensor; leave it out, or give them "
    "numbers of their own with filter: embed_tokens",
    "gamma": _NO_METHOD.format("breadcrumbs"),
    "epsilon": _NO_METHOD.format("della"),
    "select_topk": _NO_METHOD.format("sce"),
    "filter_wise": _NO_METHOD.format("model_stock"),
    "max_iter": _NO_METHOD.format("karcher"),
    "tol": _NO_METHOD.format("karcher"),
    "nuslerp_flatten": _NO_METHOD.format("nuslerp"),
    "nuslerp_row_wise": _NO_METHOD.format("nuslerp"),
    "normalize_weights": _NO_METHOD.format("multislerp"),
}
# mergekit's other methods, and which of Nexa's comes closest.
KIN = {
    "breadcrumbs": "the nearest is dare_linear",
    "breadcrumbs_ties": "the nearest is ties",
    "della": "the nearest is dare_ties",
    "della_linear": "the nearest is dare_linear",
    "sce": "the nearest is ties",
    "ram": "the nearest is ties",
    "ramplus_tl": "the nearest is ties",
    "model_stock": "the nearest is linear, the base among the models",
    "karcher": "the nearest is slerp of two models, or linear",
    "multislerp": "the nearest is slerp of two models, or linear",
    "nuslerp": "the nearest is slerp",
    "nearswap": "the nearest is slerp",
    "arcee_fusion": "the nearest is ties",
}
OTHER_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "float64": "float32"}
_WORDS = {"true": 1.0, "yes": 1.0, "on": 1.0, "false": 0.0, "no": 0.0, "off": 0.0}


@dataclass(frozen=True)
class Value:
    """A number of the recipe: one, or a gradient over the layers, for some tensors or for all.

    `filters` are (substring of a tensor's name, or None for all; the points that are interpolated
    linearly over the layers), the first that fits counts.
    """

    filters: tuple[tuple[str | None, tuple[float, ...]], ...]

    @property
    def ever(self) -> bool:
        """Whether it is anything but zero for some tensor."""
        return any(point for _, points in self.filters for point in points)

    def points(self, tensor: str) -> tuple[float, ...] | None:
        """The points that count for a tensor; None where no filter fits."""
        for wanted, points in self.filters:
            if wanted is None or wanted in tensor:
                return points
        return None

    def to_json(self) -> Any:
        """As a recipe's file has it: a number, a list, or a list of filters with theirs."""
        shown = [
            ({} if wanted is None else {"filter": wanted})
            | {"value": points[0] if len(points) == 1 else list(points)}
            for wanted, points in self.filters
        ]
        return shown[0]["value"] if len(shown) == 1 and "filter" not in shown[0] else shown


def between(points: tuple[float, ...], at: float, *, flag: bool = False) -> float:
    """The value of a gradient at `at`, from 0 (its first point) to 1 (its last).

    Numbers are interpolated linearly between points in equal steps. A flag is never half true: it
    has the value of the last point that was reached. Both as in mergekit.
    """
    reached = at * (len(points) - 1)
    low = int(reached)
    if flag or low == len(points) - 1:
        return points[low]
    part = reached - low
    return (1 - part) * points[low] + part * points[low + 1]


def read_value(page: Page, raw: Any, place: Place, name: str) -> Value | None:
    """The number called `name` at `place`; None where it is a mistake, which the page keeps."""
    items = [raw] if isinstance(raw, Mapping) else raw
    if not isinstance(items, list) or not any(isinstance(item, Mapping) for item in items):
        points = _points(page, raw, place, name)
        return Value(((None, points),)) if points else None
    filters: list[tuple[str | None, tuple[float, ...]]] = []
    for i, item in enumerate(items):
        at = place if isinstance(raw, Mapping) else (*place, i)
        found = page.section(item, at, ("filter", "value"))
        wanted = found.get("filter")
        if wanted is not None and not isinstance(wanted, str):
            page.wrong((*at, "filter"), f"should be a part of a tensor's name (got {wanted!r})")
        if "value" not in found:
            page.wrong((*at, "value"), "is missing: the number for the tensors of this filter")
            continue
        points = _points(page, found["value"], (*at, "value"), name)
        filters.append((None if wanted in (None, "", "*") else str(wanted), points))
    return Value(tuple(filters)) if all(points for _, points in filters) and filters else None


def not_one_model(name: str) -> str | None:
    """Why a reference that mergekit takes is not taken here; None where it is."""
    if Path(name).expanduser().exists():
        return None
    if "+" in name:
        model, _, adapter = name.partition("+")
        return (
            f"is a model with an adapter ({name}): merge {adapter} into {model} first, then name "
            "what came out"
        )
    if "@" in name and name.partition("/")[0] not in KINDS:
        model, _, revision = name.partition("@")
        return (
            f"names a revision ({revision}): download that of {model} into a folder and name the "
            "folder"
        )
    return None


def _points(page: Page, raw: Any, place: Place, name: str) -> tuple[float, ...]:
    """The numbers of a value; none where one of them is a mistake."""
    listed = raw if isinstance(raw, list) else [raw]
    if not listed:
        page.wrong(place, "is an empty list: a gradient has at least one number")
    numbers = []
    for i, item in enumerate(listed):
        number = _flag(item) if name in FLAGS else _number(item)
        if number is None or (name == "density" and not 0 <= number <= 1):
            wanted = "true or false" if name in FLAGS else "a number"
            wanted = "a number from 0 to 1" if name == "density" else wanted
            page.wrong(
                (*place, i) if raw is listed else place, f"should be {wanted} (got {item!r})"
            )
        else:
            numbers.append(number)
    return tuple(numbers) if len(numbers) == len(listed) else ()


def _number(item: Any) -> float | None:
    """A finite number; mergekit takes one in quotes, or as 1e-3, too."""
    if isinstance(item, bool) or not isinstance(item, int | float | str):
        return None
    try:
        number = float(item)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _flag(item: Any) -> float | None:
    if isinstance(item, str):
        return _WORDS.get(item.lower())
    return float(item) if isinstance(item, int | float) and item in (0, 1) else None
