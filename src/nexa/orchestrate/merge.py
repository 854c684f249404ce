"""`nexa merge`: an adapter into its base, several models into one, or several adapters into one.

Which of the three is told by what is named, and said. The result is sealed with its proof and its
parents, and copied to a folder, as an export is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nexa.core.errors import UsageError
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.records import Artifact
from nexa.core.tiers import Tiers
from nexa.lm.folder import hash_ahead
from nexa.lm.resolve import ALIASES, ModelFiles, Source
from nexa.orchestrate import export
from nexa.orchestrate.adoption import FLAG
from nexa.orchestrate.export import close, tell_place
from nexa.orchestrate.exported import Exported, write_folder
from nexa.orchestrate.output import EXPORTED, check_output
from nexa.orchestrate.run_state import Run, opened_beside
from nexa.orchestrate.subject import (
    Subject,
    base_of_subject,
    checkpoint_of,
    detect,
    stand_in,
    whole,
)
from nexa.weights.folder import SHARD_BYTES
from nexa.weights.merge_adapter import MergeSpec
from nexa.weights.merge_models.adapter_step import MergeAdaptersSpec
from nexa.weights.merge_models.methods import METHODS, Options
from nexa.weights.merge_models.plan import plan
from nexa.weights.merge_models.recipe import Dtype, Recipe, Value, read_recipe, recipe_of
from nexa.weights.merge_models.step import MergeModelsSpec

YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Numbers:
    """How models are merged, by a command line. None stands for the method's own."""

    method: str | None = None
    weights: tuple[float, ...] | None = None
    densities: tuple[float, ...] | None = None
    t: float | None = None
    scale: float | None = None
    normalize: bool | None = None
    tokenizer: str | None = None
    seed: int | None = None
    rank: int | None = None

    def given(self) -> list[str]:
        """The names of those that were given."""
        return [name for name, value in vars(self).items() if value is not None]


@dataclass(frozen=True)
class Request:
    """What is merged, and where it goes."""

    models: tuple[str, ...]
    output: Path
    numbers: Numbers = Numbers()
    base_model: str | None = None
    dtype: Dtype | None = None
    shard_bytes: int | None = None
    name: str | None = None
    source: Source = "auto"
    command: str = "nexa merge"

    @property
    def called(self) -> str:
        """What the result is called: as was said, else as its folder."""
        return slug(self.name or self.output.resolve().name)


@dataclass(frozen=True)
class Preview:
    """What a merge would do: tensors by method, the child's size, what differs."""

    form: str
    models: list[str]
    methods: dict[str, int]
    size_bytes: int
    notes: list[str]
    folder: str


@dataclass(frozen=True)
class _Work:
    """A merge of several, made ready: the recipe, and who its references are."""

    recipe: Recipe
    subjects: Mapping[str, Subject]
    base_model: str | None
    """The option."""

    @property
    def of_adapters(self) -> bool:
        """Whether the result is an adapter: all are, and nothing is asked of single layers."""
        return _are_adapters(self.subjects, self.adapters) and _is_plain(self.recipe)

    @property
    def adapters(self) -> list[str]:
        """What is merged; of SLERP the base first, which is t = 0. A whole base is none of it."""
        own = [model for model in self.recipe.models if model != self.base]
        return sorted(own, key=lambda model: model != self.recipe.base)

    @property
    def base(self) -> str | None:
        """The user's word for what adapters belong on."""
        named = self.recipe.base
        if named is None or self.subjects[named].is_adapter:
            return self.base_model
        return named


def merge(request: Request, project: Path) -> Exported:
    """Merge, prove, seal and copy to the asked folder.

    Raises:
        UsageError: nothing to merge, or numbers that do not suit.
        ConfigError: the recipe; every mistake at once.
        ModelError: no such model, or models that do not fit each other.
        StorageError: the folder holds somebody else's files, or there is no space.
        ParityError: what was written is not what was computed.
    """
    if is_single(request):
        return _into_base(request, project)
    tiers, work = _opening(request, project)
    with opened_beside(tiers, run_type="merge") as run:
        inputs = {f"model{i}": s.digest for i, s in enumerate(work.subjects.values(), 1)}
        run.ledger.amend(student_model=request.called, inputs=inputs)
        made = (_adapters if work.of_adapters else _models)(run, work, request)
        merged = write_folder(run, made, request.output, request.command)
        close(run)
    return merged


def preview(request: Request, project: Path) -> Preview | export.Preview:
    """What `merge` would do; nothing is made. Raises as `merge`."""
    if is_single(request):
        single = _single(request)
        tiers, subject = export.opening(single, project)
        _require_parts(subject)
        return export.preview(single, project)
    tiers, work = _opening(request, project)
    if work.of_adapters:
        _one_base(work, tiers)
        return Preview("adapters", list(work.subjects), {}, 0, [], str(request.output))
    models = [stand_in(work.subjects[name], tiers) for name in work.recipe.references]
    planned = plan(_named(work.recipe, models), models)
    width = 4 if work.recipe.dtype == "float32" else 2
    return Preview(
        f"models, {work.recipe.dtype}",
        list(work.subjects),
        dict(Counter(task.method for task in planned.tasks)),
        width * sum(math.prod(task.shape) for task in planned.tasks),
        list(planned.notes),
        str(request.output),
    )


def is_single(request: Request) -> bool:
    """Whether one model is named: then its adapter goes into its base."""
    return len(request.models) == 1 and not _is_recipe(request)


def _is_recipe(request: Request) -> bool:
    first = Path(request.models[0])
    return len(request.models) == 1 and first.suffix in YAML and not first.is_dir()


# -- one: an adapter into its base -----------------------------------------------------------------


def _into_base(request: Request, project: Path) -> Exported:
    single = _single(request)
    tiers, subject = export.opening(single, project)
    _require_parts(subject)
    with opened_beside(tiers, run_type="merge") as run:
        run.ledger.amend(student_model=subject.name, inputs={"model": subject.digest})
        made = export.make(run, subject, single)
        merged = write_folder(run, made, request.output, request.command)
        close(run)
    return merged


def _single(request: Request) -> export.Request:
    if given := request.numbers.given():
        raise UsageError(
            f"{', '.join(given)}: for two models or more",
            found=f"one model: {request.models[0]}",
            fix="name the others too, or a recipe.yaml",
        )
    return export.Request(
        request.models[0],
        request.output,
        format="safetensors",
        dtype=request.dtype,
        shard_bytes=request.shard_bytes,
        name=request.name,
        base_model=request.base_model,
        source=request.source,
        command=request.command,
    )


def _require_parts(subject: Subject) -> None:
    if not subject.has_parts:
        raise UsageError(
            f"{subject.reference} is {subject.said}: there is nothing to merge",
            found="one model, and no adapter",
            fix="name a second model and --method, or: nexa export " + subject.reference,
        )


# -- several ---------------------------------------------------------------------------------------


def _opening(request: Request, project: Path) -> tuple[Tiers, _Work]:
    """The recipe and who is meant by it: all that can be refused before there is a run."""
    tiers = Tiers.of(project)
    check_output(request.output, EXPORTED)
    tell_place(tiers)
    given = read_recipe(Path(request.models[0])) if _is_recipe(request) else None
    _require_said_once(request)
    named = given.references if given else request.models
    hash_ahead([Path(reference).expanduser() for reference in named])
    subjects = {
        reference: detect(reference, tiers, source=_source(reference, request))
        for reference in named
    }
    recipe = given or _recipe(request, adapters=_are_adapters(subjects, request.models))
    for reference in recipe.references:
        if reference not in subjects:  # the base
            subjects[reference] = detect(reference, tiers, source=_source(reference, request))
    work = _Work(recipe, subjects, request.base_model)
    if request.numbers.rank is not None and not work.of_adapters:
        raise UsageError("--rank is for merging adapters with each other", fix="leave it out")
    if work.of_adapters:
        emit("note", text="all of them are adapters: they are merged into one adapter")
    return tiers, work


def _source(reference: str, request: Request) -> Source:
    """The option is for the aliases among them; with none it is refused by name."""
    some = set(request.models) & set(ALIASES) or request.base_model in ALIASES
    return request.source if reference in ALIASES or not some else "auto"


def _require_said_once(request: Request) -> None:
    if not _is_recipe(request):
        return
    given = [name for name in request.numbers.given() if name != "rank"]
    given += [name for name in ("base_model", "dtype") if getattr(request, name) is not None]
    if given:
        raise UsageError(
            f"{request.models[0]} is a recipe, which says this itself",
            found=", ".join(given),
            fix="write it into the recipe",
        )


def _recipe(request: Request, *, adapters: bool) -> Recipe:
    """The recipe of a command line. Of adapters the base is what they belong on, no part of it."""
    numbers = request.numbers
    if numbers.method is None:
        raise UsageError(
            f"{len(request.models)} models, and no word of how they are merged",
            fix=f"--method {'|'.join(METHODS)}",
        )
    return recipe_of(
        numbers.method,
        request.models,
        base=None if adapters else request.base_model,
        weights=numbers.weights,
        densities=numbers.densities,
        t=numbers.t,
        scale=numbers.scale,
        normalize=numbers.normalize,
        dtype=request.dtype or MergeSpec.dtype,
        tokenizer=numbers.tokenizer,
        seed=numbers.seed or 0,
    )


def _models(run: Run, work: _Work, request: Request) -> Artifact[Any]:
    """Whole models: what is an adapter among them is merged into its base first."""
    found = [
        whole(run, work.subjects[reference], side=f"parent{number}_")
        for number, reference in enumerate(work.recipe.references, 1)
    ]
    models = [one.model for one in found]
    spec = MergeModelsSpec(
        _named(work.recipe, models),
        tuple(models),
        shard_bytes=request.shard_bytes or SHARD_BYTES,
        name=request.called,
        scratch=run.scratch,
    )
    parents = {f"parent{i}": one.export for i, one in enumerate(found, 1) if one.export}
    return run.step("export", "merge_models", spec, **parents)


def _named(recipe: Recipe, models: Sequence[ModelFiles]) -> Recipe:
    """The recipe with the models' public names, for a place of this machine is no part of it."""
    names: dict[str, str] = {}
    for reference, model in zip(recipe.references, models, strict=True):
        taken = sum(name.partition("#")[0] == model.name for name in names.values())
        names[reference] = f"{model.name}#{taken + 1}" if taken else model.name
    blocks = tuple(
        replace(
            block,
            sources=tuple(replace(part, model=names[part.model]) for part in block.sources),
        )
        for block in recipe.blocks
    )
    return replace(
        recipe,
        models=tuple(names[model] for model in recipe.models),
        blocks=blocks,
        base=names[recipe.base] if recipe.base is not None else None,
        tokenizer=names[recipe.tokenizer] if recipe.tokenizer is not None else None,
    )


# -- adapters with each other ----------------------------------------------------------------------


def _adapters(run: Run, work: _Work, request: Request) -> Artifact[Any]:
    """Adapters of one base; each is sealed, and so is what becomes of them."""
    base = _one_base(work, run.tiers)
    parents = {
        f"parent{number}": checkpoint_of(run, work.subjects[model], base, f"parent{number}_")
        for number, model in enumerate(work.adapters, 1)
    }
    spec = MergeAdaptersSpec(
        base,
        work.recipe.method,
        _options(work.recipe, work.adapters),
        rank=request.numbers.rank,
        name=request.called,
        scratch=run.scratch,
    )
    return run.step("checkpoint", "merge_adapters", spec, **parents)


def _are_adapters(subjects: Mapping[str, Subject], models: Sequence[str]) -> bool:
    return all(subjects[model].is_adapter for model in models)


def _is_plain(recipe: Recipe) -> bool:
    """Whether every model is taken whole, and every number is one for all its layers."""
    given = [recipe.parameters]
    for block in recipe.blocks:
        given += [block.parameters, *(part.parameters for part in block.sources)]
    filters = [value.filters for parameters in given for value in parameters.values()]
    numbers = all(len(f) == 1 and f[0][0] is None and len(f[0][1]) == 1 for f in filters)
    taken_whole = all(part.start is None for block in recipe.blocks for part in block.sources)
    return len(recipe.blocks) == 1 and taken_whole and numbers


def _one_base(work: _Work, tiers: Tiers) -> ModelFiles:
    """The base that all of the adapters belong on."""
    bases = {
        model: base_of_subject(replace(work.subjects[model], base=work.base), tiers)
        for model in work.adapters
    }
    first, *others = bases.values()
    if any(base.digest != first.digest for base in others):
        raise UsageError(
            "the adapters do not belong on one base",
            found="\n".join(f"{model}: {b.name} ({b.digest[:16]})" for model, b in bases.items()),
            fix=f"{FLAG} MODEL, if they do; or merge each into its base, then merge these models",
        )
    return first


def _options(recipe: Recipe, adapters: Sequence[str]) -> Options:
    """The numbers of a plain recipe: of each adapter its own, else what holds for all."""
    [block] = recipe.blocks
    for_all = {**recipe.parameters, **block.parameters}
    parts = sorted(
        (part for part in block.sources if part.model in adapters),
        key=lambda part: adapters.index(part.model),
    )
    defaults = METHODS[recipe.method].numbers

    def number(given: Mapping[str, Value], name: str, otherwise: float) -> float:
        value = given.get(name)
        default = defaults.get(name)
        return value.filters[0][1][0] if value else otherwise if default is None else default

    return Options(
        weights=tuple(number({**for_all, **part.parameters}, "weight", 1.0) for part in parts),
        densities=tuple(number({**for_all, **part.parameters}, "density", 1.0) for part in parts),
        t=number(for_all, "t", 0.5),
        scale=number(for_all, "lambda", 1.0),
        normalize=bool(number(for_all, "normalize", True)),
        rescale=bool(number(for_all, "rescale", True)),
        seed=recipe.seed,
    )
