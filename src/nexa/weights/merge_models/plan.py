"""From a recipe and its models to the list of tensors to compute.

No weight is read here, but for heads that may be their embedding (`parents.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.errors import ModelError, UsageError
from nexa.core.events import emit
from nexa.lm.resolve import ModelFiles
from nexa.weights.folder import STALE_CONFIG, TOKEN_KEYS
from nexa.weights.merge_models import methods
from nexa.weights.merge_models.embeddings import rows_of, untied
from nexa.weights.merge_models.methods import METHODS, Method, Options
from nexa.weights.merge_models.parents import Ends, Parent, compare, ends_of, read_parent, some
from nexa.weights.merge_models.recipe import Block, Recipe, Slice
from nexa.weights.merge_models.recipe_values import FLAGS, Value, between
from nexa.weights.merge_models.tokenizers import agree

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


@dataclass(frozen=True)
class Source:
    """One tensor that goes in: which model (its place in the plan's `models`), under which name."""

    model: int
    name: str


@dataclass(frozen=True)
class Task:
    """One tensor of the child, `shape`, and how it is made.

    Of the methods that work on task vectors (task arithmetic, TIES, DARE) the base is in `base` and
    not among `sources`. SLERP has its two tensors in `sources`, the one at t = 0 first, and no
    base; linear and passthrough have none either. `options.weights` and `options.densities` have
    one number a source; passthrough has one source, multiplied with `options.scale`.
    """

    name: str
    shape: tuple[int, ...]
    method: Method
    sources: tuple[Source, ...]
    base: Source | None
    options: Options
    vocabulary: bool = False
    """Whether its rows are the tokenizer's entries: then `Plan.rows` holds for its sources."""


@dataclass(frozen=True)
class Plan:
    """Everything that a merge will do.

    `rows` gives, for a model whose tokenizer numbers the same strings otherwise or whose vocabulary
    is padded to more rows, the rows of its embedding and head: row i of the child is row
    `rows[model][i]` of that model.
    """

    models: tuple[ModelFiles, ...]
    tasks: tuple[Task, ...]
    config: Mapping[str, Any]
    """The child's config.json."""
    tie: bool
    tokenizer: int
    """The place of the model whose tokenizer, template and generation config the child gets."""
    rows: Mapping[int, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    """What a user should know about how the models differ; told as events too."""


def plan(recipe: Recipe, models: Sequence[ModelFiles]) -> Plan:
    """Resolve a recipe for these models (`recipe.models`, and last `recipe.base` if it is not one).

    The child's config is the base's, or the first model's. Numbers of a gradient are spread over
    the layers of their block; embedding, last norm and head have its first number, of the first
    block and of the last one: as in mergekit.

    Raises:
        ModelError: unlike architectures, or tokenizers that differ; with a table of what.
        VocabularyError: a tokenizer whose ids its model has no rows for.
        UsageError: a method with too few models, or without its base or its numbers.
    """
    place_of = {reference: place for place, reference in enumerate(recipe.references)}
    owner = place_of[recipe.base or recipe.models[0]]
    speaker = place_of[recipe.tokenizer or recipe.base or recipe.models[0]]
    parents = [read_parent(files) for files in models]
    own, notes = compare(parents, owner)
    agreement = agree(models, speaker)
    ends = ends_of(parents[owner])
    rows, count, more = rows_of(parents, agreement, ends, speaker)
    notes += [*agreement.notes, *more]
    own_head, more = untied(parents, ends)
    notes += more
    planner = _Planner(recipe, parents, ends, place_of, count)
    if planner.ends_differ and not own_head:
        own_head = True
        notes.append("embedding and head are of other models: the child has a head of its own")
    config = _config(parents, planner.lineup, owner=owner, speaker=speaker)
    config |= own | {"vocab_size": count, "tie_word_embeddings": not own_head}
    config["dtype"] = recipe.dtype
    tasks = tuple(planner.tasks(own_head=own_head))
    for note in notes:
        emit("note", text=note)
    return Plan(
        models=tuple(models),
        tasks=tasks,
        config=config,
        tie=not own_head,
        tokenizer=speaker,
        rows=rows,
        notes=tuple(notes),
    )


# -- the child's config --------------------------------------------------------------------------


def _config(
    parents: Sequence[Parent], lineup: Sequence[tuple[int, int]], *, owner: int, speaker: int
) -> dict[str, Any]:
    """The owner's config.json with the child's layers and the ids of the child's tokenizer.

    `lineup` has for each of the child's layers a parent and that parent's layer.
    """
    first = parents[owner]
    config = {k: v for k, v in first.files.config.items() if k not in STALE_CONFIG}
    depth = next((key for key in DEPTH_KEYS if key in config), DEPTH_KEYS[0])
    config[depth] = len(lineup)
    for key, values in first.per_layer.items():
        own = [parents[place].per_layer[key][layer] for place, layer in lineup]
        # Where the file leaves a list out, transformers makes it from the number of layers.
        if key in config or own != values:
            config[key] = own
    for key in TOKEN_KEYS if speaker != owner else ():
        config.pop(key, None)
        if key in parents[speaker].files.config:
            config[key] = parents[speaker].files.config[key]
    return config


# -- the tensors ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Span:
    """A source of a block, with the parent it means."""

    source: Slice
    place: int
    parent: Parent
    start: int


@dataclass(frozen=True)
class _Stretch:
    """A block with its sources as the method takes them, and the base where it works on one."""

    block: Block
    spans: tuple[_Span, ...]
    base: _Span | None
    length: int

    @property
    def everyone(self) -> tuple[_Span, ...]:
        """Whatever is read; what the child's config follows comes first."""
        return (*([self.base] if self.base else ()), *self.spans)


class _Planner:
    """The tasks of a recipe, for parents that can be merged."""

    def __init__(
        self,
        recipe: Recipe,
        parents: Sequence[Parent],
        ends: Ends,
        place_of: Mapping[str, int],
        rows: int,
    ) -> None:
        self.recipe, self.parents, self.ends, self.rows = recipe, parents, ends, rows
        self.place_of = place_of
        self.stretches = [self._stretch(block) for block in recipe.blocks]

    @property
    def lineup(self) -> list[tuple[int, int]]:
        """For each of the child's layers the parent that its config follows, and which layer."""
        return [
            (stretch.everyone[0].place, stretch.everyone[0].start + i)
            for stretch in self.stretches
            for i in range(stretch.length)
        ]

    @property
    def ends_differ(self) -> bool:
        """Whether the models of the first layers, and so of the embedding, are not the last's."""
        first, last = self.stretches[0], self.stretches[-1]
        return {s.place for s in first.everyone} != {s.place for s in last.everyone}

    def tasks(self, *, own_head: bool) -> Iterator[Task]:
        """Every tensor of the child, in the order of the model."""
        yield from self._outer(self.stretches[0], first=True, own_head=own_head)
        number = 0
        for stretch in self.stretches:
            for i in range(stretch.length):
                # A block of one layer has a gradient's last number, as in mergekit.
                at = i / (stretch.length - 1) if stretch.length > 1 else 1.0
                yield from self._layer(stretch, i, number, at)
                number += 1
        yield from self._outer(self.stretches[-1], first=False, own_head=own_head)

    # -- who is read

    def _stretch(self, block: Block) -> _Stretch:
        spans = [self._span(source) for source in block.sources]
        lengths = {self._length(span) for span in spans}
        if len(lengths) != 1:
            told = ", ".join(f"{span.parent.name} {self._length(span)}" for span in spans)
            raise UsageError(
                "layers side by side must be as many of each model",
                found=told or "no model",
                fix="name the layers: slices with a layer_range for each model",
            )
        base_at = next((s for s in spans if s.source.model == self.recipe.base), None)
        works_on_base = METHODS[self.recipe.method].base
        if (
            self.recipe.base is not None
            and base_at is None
            and (works_on_base or self.recipe.method == "slerp")
        ):
            raise UsageError(
                f"{self.recipe.method} reads its base for every layer",
                found=f"{self.recipe.base} is not among the sources of a slice",
                fix="name it there too, with a layer_range",
            )
        if self.recipe.method == "slerp" and base_at is not None:
            spans.sort(key=lambda span: span is not base_at)
        if not works_on_base:
            return _Stretch(block, tuple(spans), None, lengths.pop())
        others = tuple(span for span in spans if span is not base_at)
        return _Stretch(block, others, base_at, lengths.pop())

    def _span(self, source: Slice) -> _Span:
        place = self.place_of[source.model]
        parent = self.parents[place]
        start, end = source.start or 0, len(parent.layers) if source.end is None else source.end
        if not 0 <= start < end <= len(parent.layers):
            raise UsageError(
                f"{parent.name} has no layers {start} to {end}",
                found=f"it has {len(parent.layers)}, from 0; the end is not taken",
            )
        return _Span(source, place, parent, start)

    @staticmethod
    def _length(span: _Span) -> int:
        end = len(span.parent.layers) if span.source.end is None else span.source.end
        return end - span.start

    # -- what is read

    def _layer(self, stretch: _Stretch, i: int, number: int, at: float) -> Iterator[Task]:
        names = [span.parent.layers[span.start + i] for span in stretch.everyone]
        self._require_kind(stretch, i)
        self._require_same(stretch, [set(inner) for inner in names], f"layer {number}")
        stack = self.parents[0].stack
        for rest in names[0]:
            yield self._task(stretch, f"{stack}{number}.{rest}", [n[rest] for n in names], at)

    def _outer(self, stretch: _Stretch, *, first: bool, own_head: bool) -> Iterator[Task]:
        """The tensors before the first layer, or those after the last."""
        held = [
            {name for name in span.parent.outer if self._is_first(name) == first} - {self.ends.head}
            for span in stretch.everyone
        ]
        self._require_same(stretch, held, "tensors of no layer")
        names = sorted(held[0]) + [self.ends.head] * (own_head and not first)
        for name in names:
            # A gradient's first number, at either end: as in mergekit.
            yield self._task(stretch, name, [self._named(s, name) for s in stretch.everyone], 0.0)

    def _is_first(self, name: str) -> bool:
        return name == self.ends.embedding or "embed" in name or ".wpe." in name

    def _named(self, span: _Span, name: str) -> str:
        """Where a parent keeps an outer tensor: the head of a tied one is its embedding."""
        return self.ends.embedding if name == self.ends.head and span.parent.tied else name

    def _task(self, stretch: _Stretch, name: str, names: Sequence[str], at: float) -> Task:
        """One tensor; `names` are those of `stretch.everyone`."""
        vocabulary = name in (self.ends.embedding, self.ends.head, self._head_bias)
        shape = self._shape(stretch, name, names, vocabulary=vocabulary)
        read = [Source(s.place, own) for s, own in zip(stretch.everyone, names, strict=True)]
        base = read.pop(0) if stretch.base else None
        options = self._options(stretch, name, [source.name for source in read], at)
        try:
            methods.check(self.recipe.method, options, models=len(read), base=base is not None)
        except UsageError as error:
            found = f"{error.found} for {name}" if error.found else name
            raise UsageError(error.what, found=found, fix=error.fix) from error
        return Task(name, shape, self.recipe.method, tuple(read), base, options, vocabulary)

    @property
    def _head_bias(self) -> str:
        return self.ends.head.removesuffix("weight") + "bias"

    def _shape(
        self, stretch: _Stretch, name: str, names: Sequence[str], *, vocabulary: bool
    ) -> tuple[int, ...]:
        shapes = [
            s.parent.stored[own].shape for s, own in zip(stretch.everyone, names, strict=True)
        ]
        if vocabulary:
            shapes = [(self.rows, *shape[1:]) for shape in shapes]
        if len(set(shapes)) != 1:
            told = [
                f"{s.parent.name} {shape}"
                for s, shape in zip(stretch.everyone, shapes, strict=True)
            ]
            raise ModelError(
                f"cannot merge {name}: its shape is not the same in every model",
                found=", ".join(told),
            )
        return shapes[0]

    def _require_same(self, stretch: _Stretch, held: Sequence[set[str]], where: str) -> None:
        """Every model must have the same tensors."""
        every = set().union(*held)
        for span, own in zip(stretch.everyone, held, strict=True):
            if missing := sorted(every - own):
                raise ModelError(
                    f"{span.parent.name} lacks tensors that other models have",
                    found=f"{where}: {some(missing)}",
                    fix="merge models of one architecture",
                )

    def _require_kind(self, stretch: _Stretch, i: int) -> None:
        """Layers that become one must attend alike: what a config says of each layer."""
        first = stretch.everyone[0]
        for key, values in first.parent.per_layer.items():
            kinds = {
                repr(span.parent.per_layer.get(key, values)[span.start + i])
                for span in stretch.everyone
            }
            if len(kinds) > 1:
                raise ModelError(
                    f"layers that are to become one are of unlike {key}",
                    found=f"{', '.join(sorted(kinds))} at layer {first.start + i} of "
                    f"{first.parent.name}",
                )

    # -- the numbers

    def _options(self, stretch: _Stretch, name: str, names: Sequence[str], at: float) -> Options:
        """The numbers of one tensor.

        A model's own win over its block's, these over the recipe's; where no filter of a level
        fits, the next level counts. A model's numbers look at its own tensor's name, those for all
        at the child's: as in mergekit.
        """
        wanted = METHODS[self.recipe.method].numbers
        above = (stretch.block.parameters, self.recipe.parameters)

        def each(key: str) -> tuple[float, ...]:
            return tuple(
                self._number(key, (span.source.parameters, *above), own, at, span.parent.name)
                for span, own in zip(stretch.spans, names, strict=True)
            )

        def one(key: str, default: float) -> float:
            return self._number(key, above, name, at, "") if key in wanted else default

        scales = each("scale") if "scale" in wanted else ()
        return Options(
            weights=each("weight") if "weight" in wanted else (),
            densities=each("density") if "density" in wanted else (),
            t=one("t", Options.t),
            scale=scales[0] if scales else one("lambda", Options.scale),
            normalize=bool(one("normalize", Options.normalize)),
            rescale=bool(one("rescale", Options.rescale)),
            seed=self.recipe.seed,
        )

    def _number(
        self,
        key: str,
        levels: Sequence[Mapping[str, Value]],
        tensor: str,
        at: float,
        model: str,
    ) -> float:
        for parameters in levels:
            points = parameters[key].points(tensor) if key in parameters else None
            if points:
                return between(points, at, flag=key in FLAGS)
        default = METHODS[self.recipe.method].numbers[key]
        if default is None:
            raise UsageError(
                f"{self.recipe.method} needs a {key} for every tensor",
                found=f"none for {tensor}" + f" of {model}" * bool(model),
                fix=f"name it in the recipe's parameters: {{{key}: 0.5}}",
            )
        return float(default)
