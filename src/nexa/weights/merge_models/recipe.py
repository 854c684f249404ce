"""What is to be merged and how: read from YAML (mergekit's too) or built from a command line.

    merge_method: ties              merge_method: passthrough
    base_model: base                slices:
    models:                           - sources: [{model: a, layer_range: [0, 20]}]
      - model: a                      - sources: [{model: b, layer_range: [10, 30]}]
        parameters: {weight: 0.5}
      - model: b                    a number     0.5
        parameters: {weight: 0.3}   a gradient   [0, 0.5, 1]: over the layers, in equal steps
    parameters: {density: 0.4}      by tensor    [{filter: mlp, value: 0.3}, {value: 0.5}]
    dtype: bfloat16

The keys are mergekit's (0.1.5); `seed`, for DARE, is Nexa's own. A model is whatever `nexa` takes
as one; a relative path counts from the working directory, as with mergekit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nexa.core.errors import UsageError, nearest
from nexa.core.events import emit
from nexa.weights.merge_models import recipe_values as values
from nexa.weights.merge_models.methods import METHODS, Method
from nexa.weights.merge_models.recipe_values import Value as Value
from nexa.weights.merge_models.yaml_page import Page, Place, read_page

Dtype = Literal["bfloat16", "float16", "float32"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
PER_MODEL = ("weight", "density", "scale")
"""The numbers that each model may have its own of; the others hold for all of them."""


@dataclass(frozen=True)
class Slice:
    """Layers `start` to `end` (without it) of one model, with the numbers that hold for them."""

    model: str
    start: int | None = None
    end: int | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """What stands side by side: the same number of layers of every model; they become one."""

    sources: tuple[Slice, ...]
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A merge. `models` has every model's reference once, in order; blocks follow each other.

    Where a method needs its base for every tensor, the base is one of a block's sources, too.
    """

    method: Method
    models: tuple[str, ...]
    blocks: tuple[Block, ...]
    base: str | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    dtype: Dtype = "bfloat16"
    tokenizer: str | None = None
    """The model whose tokenizer and template the child gets; None: the base's, or the first's."""
    seed: int = 0

    @property
    def references(self) -> tuple[str, ...]:
        """What must be resolved for it: the models, and last the base where it is none of them."""
        extra = (self.base,) if self.base is not None and self.base not in self.models else ()
        return (*self.models, *extra)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it is kept in the export's record."""
        return {
            "method": self.method,
            "models": list(self.models),
            "base": self.base,
            "blocks": [_block_json(block) for block in self.blocks],
            "parameters": _parameters_json(self.parameters),
            "dtype": self.dtype,
            "tokenizer": self.tokenizer,
            "seed": self.seed,
        }


def read_recipe(path: Path) -> Recipe:
    """A YAML file, in mergekit's keys.

    What mergekit reads over in silence, a number that the method or the place has no use for, is
    told as a note and left out.

    Raises:
        ConfigError: what cannot be read or is not known, every mistake at once, with its line.
    """
    return _parsed(read_page(path))


def parse_recipe(text: str, *, name: str = "recipe.yaml") -> Recipe:
    """A recipe's text; `name` is what its mistakes are told under. Raises as `read_recipe`."""
    return _parsed(Page(text, name=name))


def recipe_of(
    method: str,
    models: Sequence[str],
    *,
    base: str | None = None,
    weights: Sequence[float] | None = None,
    densities: Sequence[float] | None = None,
    t: float | None = None,
    scale: float | None = None,
    normalize: bool | None = None,
    dtype: str = "bfloat16",
    tokenizer: str | None = None,
    seed: int = 0,
) -> Recipe:
    """The recipe of a command line: whole models, one number for each or one for all of them.

    Without weights every model has 1, without `t` SLERP takes 0.5: both stand in the recipe.

    Raises:
        UsageError: an unknown method or type, or numbers that do not belong to it.
    """
    known = _known_method(method)
    written: Dtype = _one_of("type", dtype, DTYPES)
    _require_once(models)
    if tokenizer is not None and tokenizer not in (*models, base):
        raise UsageError(
            f"the tokenizer must be one of the models', not that of {tokenizer}",
            found=", ".join(models),
        )
    if known == "linear" and base is not None and base not in models:
        raise UsageError(
            "linear knows no base: it is the weighted mean of its models",
            fix="leave the base out, or name it among the models",
        )
    wanted = METHODS[known].numbers
    if "weight" in wanted and not weights:
        weights = [1.0]
    if "t" in wanted and t is None:
        t = 0.5
    per_model = _each(known, models, {"weight": weights, "density": densities})
    for_all = _for_all(known, t=t, scale=scale, normalize=normalize)
    sources = [Slice(model, parameters=per_model[place]) for place, model in enumerate(models)]
    return Recipe(
        method=known,
        models=tuple(models),
        blocks=(Block(_with_base(sources, known, base)),),
        base=base,
        parameters=for_all,
        dtype=written,
        tokenizer=tokenizer,
        seed=seed,
    )


# -- plain data ----------------------------------------------------------------------------------


def _block_json(block: Block) -> dict[str, Any]:
    return {
        "sources": [
            {
                "model": source.model,
                "layers": None if source.start is None else [source.start, source.end],
                "parameters": _parameters_json(source.parameters),
            }
            for source in block.sources
        ],
        "parameters": _parameters_json(block.parameters),
    }


def _parameters_json(parameters: Mapping[str, Value]) -> dict[str, Any]:
    return {name: value.to_json() for name, value in parameters.items()}


# -- from a command line -------------------------------------------------------------------------


def _known_method(name: str) -> Method:
    found: Method = _one_of("method", name, tuple(METHODS))
    return found


def _one_of(what: str, name: str, known: tuple[Any, ...]) -> Any:
    if name in known:
        return name
    near = nearest(name, known)
    raise UsageError(
        f"there is no {what} {name!r} of merging",
        found="known: " + ", ".join(known),
        fix=f"did you mean {near}?" if near else values.KIN.get(name),
    )


def _require_once(models: Sequence[str]) -> None:
    twice = sorted({model for model in models if models.count(model) > 1})
    if twice:
        raise UsageError("a model can be merged once only", found=", ".join(twice) + " twice")


def _each(
    method: Method, models: Sequence[str], given: Mapping[str, Sequence[float] | None]
) -> list[dict[str, Value]]:
    """The numbers of every model, by name."""
    found: list[dict[str, Value]] = [{} for _ in models]
    for name, numbers in given.items():
        if not numbers:
            continue
        _require_used(method, name)
        if len(numbers) not in (1, len(models)):
            raise UsageError(
                f"{name}: one number for each of {len(models)} models, or one for all",
                found=", ".join(map(str, numbers)),
            )
        spread = list(numbers) * len(models) if len(numbers) == 1 else numbers
        for parameters, number in zip(found, spread, strict=False):
            parameters[name] = _plain(name, number)
    return found


def _for_all(
    method: Method, *, t: float | None, scale: float | None, normalize: bool | None
) -> dict[str, Value]:
    """The numbers that hold for all models, by their names in a recipe."""
    name = "scale" if method == "passthrough" else "lambda"
    found = {}
    for key, number in (("t", t), (name, scale), ("normalize", normalize)):
        if number is not None:
            _require_used(method, key)
            found[key] = _plain(key, number)
    return found


def _require_used(method: Method, name: str) -> None:
    if name not in METHODS[method].numbers:
        having = ", ".join(other for other, needs in METHODS.items() if name in needs.numbers)
        raise UsageError(f"{method} has no {name}", found=f"{name} is of {having}")


def _plain(name: str, number: float) -> Value:
    if not math.isfinite(number) or (name == "density" and not 0 <= number <= 1):
        wanted = "from 0 to 1" if name == "density" else "finite"
        raise UsageError(f"{name} must be {wanted}", found=str(number))
    return Value(((None, (float(number),)),))


def _with_base(sources: Sequence[Slice], method: Method, base: str | None) -> tuple[Slice, ...]:
    """Whole models and, where the method reads it and it is not there, their base."""
    taken = base is None or method == "passthrough" or base in {s.model for s in sources}
    return tuple(sources) if taken or base is None else (*sources, Slice(base))


# -- from a file ---------------------------------------------------------------------------------


def _parsed(page: Page) -> Recipe:
    top = page.section(
        page.values, (), values.KEYS, refused=values.NOT_TAKEN, elsewhere=values.BELOW_PARAMETERS
    )
    reader = _Reader(page, _method(page, top))
    base = reader.reference(top["base_model"], ("base_model",)) if "base_model" in top else None
    blocks = reader.blocks(top, base)
    parameters = reader.parameters(top.get("parameters"), ("parameters",), of_model=False)
    models = tuple(dict.fromkeys(s.model for block in blocks for s in block.sources))
    recipe = Recipe(
        method=reader.method,
        models=models,
        blocks=blocks,
        base=base,
        parameters=parameters,
        dtype=_dtype(page, top),
        tokenizer=reader.tokenizer(top, {*models, *([base] if base else [])}),
        seed=_seed(page, top),
    )
    page.close()
    if not {"dtype", "out_dtype"} & set(top):
        reader.notes.append(f"{page.name} names no dtype: the child is written in {recipe.dtype}")
    for note in reader.notes:
        emit("note", text=note)
    return recipe


def _method(page: Page, top: Mapping[str, Any]) -> Method:
    known = ", ".join(METHODS)
    name = top.get("merge_method")
    for method in METHODS:
        if name == method:
            return method
    if name is None:
        page.wrong(("merge_method",), f"is missing: one of {known}")
    elif name in values.KIN:
        page.wrong(("merge_method",), f"{name!r} is not built: {values.KIN[name]}")
    else:
        near = nearest(str(name), METHODS)
        text = f"did you mean {near!r}?" if near else f"known: {known}"
        page.wrong(("merge_method",), f"{name!r} is no method: {text}")
    return "linear"  # never used: the page tells its mistakes first


def _dtype(page: Page, top: Mapping[str, Any]) -> Dtype:
    """What is written; mergekit's `dtype` is that of its arithmetic, which here is float32."""
    found: Dtype = "bfloat16"
    for key in ("dtype", "out_dtype"):
        name = str(top.get(key, found)).removeprefix("torch.")
        name = {"float64": "float32"}.get(name, name) if key == "dtype" else name
        match = [dtype for dtype in DTYPES if dtype == name]
        if not match:
            near = values.OTHER_DTYPES.get(name) or nearest(name, DTYPES)
            text = f"did you mean {near!r}?" if near else f"known: {', '.join(DTYPES)}"
            page.wrong((key,), f"{name!r} is no type: {text}")
        else:
            found = match[0]
    return found


def _seed(page: Page, top: Mapping[str, Any]) -> int:
    seed = top.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        page.wrong(("seed",), f"should be a whole number (got {seed!r})")
        return 0
    return seed


class _Reader:
    """The parts of a page, for one method; what is wrong goes to the page."""

    def __init__(self, page: Page, method: Method) -> None:
        self.page, self.method = page, method
        self.notes: list[str] = []

    def blocks(self, top: Mapping[str, Any], base: str | None) -> tuple[Block, ...]:
        """Of `models` one block of whole models, of `slices` one each."""
        given = [key for key in ("models", "slices") if top.get(key)]
        if len(given) != 1:
            both = "models and slices are both there" if given else "neither models nor slices"
            self.page.wrong(("models",), f"or slices, one of the two, is what is merged: {both}")
            return ()
        place: Place = (given[0],)
        items = top[given[0]]
        if not isinstance(items, list):
            self.page.wrong(place, f"should be a list (got {items!r:.40})")
            return ()
        if given == ["models"]:
            sources = [self._model(item, (*place, i)) for i, item in enumerate(items)]
            self._require_once(sources, place)
            return (Block(_with_base(sources, self.method, base)),)
        return tuple(self._slice(item, (*place, i), base) for i, item in enumerate(items))

    def _model(self, item: Any, place: Place) -> Slice:
        if isinstance(item, str):
            return Slice(self.reference(item, place))
        found = self.page.section(
            item, place, ("model", "parameters"), elsewhere=values.BELOW_PARAMETERS
        )
        return self._source(found, place)

    def _slice(self, item: Any, place: Place, base: str | None) -> Block:
        found = self.page.section(
            item,
            place,
            ("sources", "parameters", "base_model"),
            refused=values.NOT_IN_SLICES,
            elsewhere=values.BELOW_PARAMETERS,
        )
        if found.get("base_model", base) != base:
            self.page.wrong((*place, "base_model"), "is another than the recipe's: a merge has one")
        sources = found.get("sources")
        if not isinstance(sources, list) or not sources:
            self.page.wrong((*place, "sources"), "should be a list of models with a layer_range")
            return Block(())
        layers = [self._layers(source, (*place, "sources", i)) for i, source in enumerate(sources)]
        counts = [(layer.end or 0) - (layer.start or 0) for layer in layers]
        if len(set(counts)) > 1:
            told = ", ".join(map(str, counts))
            self.page.wrong(place, f"should take as many layers of each model (got {told})")
        self._require_once(layers, place)
        parameters = found.get("parameters")
        return Block(
            tuple(layers), self.parameters(parameters, (*place, "parameters"), of_model=False)
        )

    def _layers(self, item: Any, place: Place) -> Slice:
        found = self.page.section(
            item, place, ("model", "layer_range", "parameters"), elsewhere=values.BELOW_PARAMETERS
        )
        source = self._source(found, place)
        span = found.get("layer_range")
        if (
            not isinstance(span, list)
            or [type(number) for number in span] != [int, int]
            or not 0 <= span[0] < span[1]
        ):
            self.page.wrong(
                (*place, "layer_range"),
                f"should be the first layer and the one after the last, as [0, 16] (got {span!r})",
            )
            span = [0, 1]
        return Slice(source.model, span[0], span[1], source.parameters)

    def _source(self, found: Mapping[str, Any], place: Place) -> Slice:
        model = self.reference(found.get("model"), (*place, "model"))
        parameters = found.get("parameters")
        return Slice(
            model,
            parameters=self.parameters(parameters, (*place, "parameters"), of_model=True),
        )

    def _require_once(self, sources: Sequence[Slice], place: Place) -> None:
        names = [source.model for source in sources if source.model]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.page.wrong(place, f"has {name} twice: a model can be merged once only")

    def reference(self, value: Any, place: Place) -> str:
        """The name of a model; what only mergekit takes is a mistake."""
        if not isinstance(value, str) or not value.strip():
            got = "" if value is None else f" (got {value!r:.40})"
            self.page.wrong(place, f"should name a model: a folder, a Hub id, a run{got}")
            return ""
        name = value.strip()
        if problem := values.not_one_model(name):
            self.page.wrong(place, problem)
        return name

    def parameters(self, value: Any, place: Place, *, of_model: bool) -> dict[str, Value]:
        """The numbers of a level; those without effect are noted and left out."""
        found = self.page.section(value, place, values.NUMBERS, refused=values.NOT_NUMBERS)
        numbers: dict[str, Value] = {}
        for name, raw in found.items():
            number = values.read_value(self.page, raw, (*place, name), name)
            if name == "int8_mask":
                continue  # how mergekit keeps its masks in memory, without effect on the result
            if name == "rescale" and self.method == "ties" and number and number.ever:
                self.page.wrong((*place, name), "is not built for ties: leave it out, or use DARE")
            elif name not in METHODS[self.method].numbers:
                self._note((*place, name), f"{self.method} has no {name}")
            elif of_model and name not in PER_MODEL:
                self._note((*place, name), f"{name} holds for all models: name it above them")
            elif number is not None:
                numbers[name] = number
        return numbers

    def _note(self, place: Place, why: str) -> None:
        line = self.page.line(place)
        self.notes.append(f"{self.page.name}, line {line}: {place[-1]} has no effect ({why})")

    def tokenizer(self, top: Mapping[str, Any], models: set[str]) -> str | None:
        """The model whose tokenizer is taken; None for mergekit's `base` and `union`.

        A union is what every model has already: tokenizers with other entries are not merged.
        """
        place: Place = ("tokenizer_source",)
        source = top.get("tokenizer_source")
        if "tokenizer" in top:
            if source is not None:
                self.page.wrong(place, "and tokenizer are both there: one of the two")
            place = ("tokenizer",)
            found = self.page.section(
                top["tokenizer"], place, ("source",), refused=values.NOT_IN_TOKENIZER
            )
            source, place = found.get("source"), (*place, "source")
        template = top.get("chat_template", "auto")
        if template != "auto":
            self.page.wrong(
                ("chat_template",),
                "is not taken, but for auto: the child has the template of the model in "
                "tokenizer_source, so name the one that has yours",
            )
        if source in (None, "base", "union"):
            return None
        name = self.reference(source, place)
        if name and name not in models:
            self.page.wrong(place, f"should be base or one of the models (got {name})")
        return name
