"""`nexa eval --harness`: models of this machine on tasks of the lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import UsageError
from nexa.core.identity import slug
from nexa.core.records import Artifact, ScoresBody
from nexa.core.tiers import Tiers
from nexa.eval.harness import HarnessAnswersSpec, HarnessScoresSpec, HarnessSuiteSpec
from nexa.eval.harness_tasks import Loaded, load_tasks
from nexa.lm.local import Engine, common_engine
from nexa.lm.resolve import ModelFiles, Source
from nexa.orchestrate.evaluate import Evaluated, beside, close, export_of, opened_for, sources_of
from nexa.orchestrate.evaluate_api import is_api
from nexa.orchestrate.models import run_of, whole_model
from nexa.orchestrate.run_state import Run

CACHE = "lm_eval"


@dataclass(frozen=True)
class Harness:
    """Which tasks, and how models answer them.

    `tasks_path` is a folder of tasks beside lm-eval's own; `unsafe_code` lets tasks run code that
    a model has written.
    """

    tasks: tuple[str, ...]
    tasks_path: Path | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    apply_chat_template: bool = False
    batch_size: int = 1
    dtype: str = "bfloat16"
    engine: Engine = "auto"
    base_source: Source = "auto"
    unsafe_code: bool = False

    def __post_init__(self) -> None:
        if not self.tasks:
            raise UsageError("--harness names no task", fix="--harness arc_easy,gsm8k")


def evaluate_harness(references: Sequence[str], wanted: Harness, project: Path) -> list[Evaluated]:
    """Every model on every task, as a run with its manifest; one scores record a pair.

    In the order of the tasks, and of the models within each; the first model of a task is what
    the others are set beside.

    Raises:
        MissingExtra: lm-eval is not installed.
        UsageError: a model of an API, which tells no likelihoods.
        ModelError: no such model, or one that the engine asked for cannot answer for.
        EvalError: no such task, or one that cannot be asked here.
    """
    tiers = Tiers.of(project)
    models = _models([run_of(name, tiers) or name for name in references], wanted, tiers)
    tasks = [_loaded(name, wanted, tiers) for name in dict.fromkeys(wanted.tasks)]
    engine = common_engine(list(models.values()), dtype=wanted.dtype, engine=wanted.engine)
    made: list[Evaluated] = []
    with opened_for(tiers, models, subject=next(iter(models.values()))) as run:
        for number, loaded in enumerate(tasks):
            prefix = "" if number == 0 else f"t{number + 1}_"
            made += _on_task(run, loaded, models, wanted, engine, prefix=prefix)
        close(run, made[0].scores)
    return made


def _models(references: Sequence[str], wanted: Harness, tiers: Tiers) -> dict[str, ModelFiles]:
    """The models by their side's prefix, as `nexa eval` names them."""
    if remote := [name for name in references if is_api(name)]:
        raise UsageError(
            "models of an API are not asked by --harness: they tell no likelihoods, and their "
            "prompts are written elsewhere",
            found=", ".join(remote),
            fix="--data FILE or --suite NAME",
        )
    sources = sources_of(references, wanted.base_source)
    return {
        "" if i == 0 else f"m{i + 1}_": whole_model(name, project=tiers.root, source=source)
        for i, (name, source) in enumerate(zip(references, sources, strict=True))
    }


def _loaded(name: str, wanted: Harness, tiers: Tiers) -> Loaded:
    return load_tasks(
        name,
        cache=tiers.scratch / CACHE,
        path=None if wanted.tasks_path is None else wanted.tasks_path.resolve(),
        num_fewshot=wanted.num_fewshot,
        limit=wanted.limit,
        unsafe_code=wanted.unsafe_code,
    )


def _on_task(
    run: Run,
    loaded: Loaded,
    models: Mapping[str, ModelFiles],
    wanted: Harness,
    engine: Engine,
    *,
    prefix: str,
) -> list[Evaluated]:
    """Every model on one task."""
    name = slug(f"lm-eval-{loaded.name}")
    spec = HarnessSuiteSpec(name=name, task=loaded.name, identity=loaded.identity, loaded=loaded)
    suite = run.step(f"{prefix}suite", "harness_suite", spec)
    scores: list[Artifact[ScoresBody]] = []
    for side, model in models.items():
        label = slug(f"{model.name.rsplit('/', 1)[-1]}-{name}")
        asking = HarnessAnswersSpec(
            model=model,
            loaded=loaded,
            name=label,
            batch_size=wanted.batch_size,
            dtype=wanted.dtype,
            engine=engine,
            chat_template=wanted.apply_chat_template,
            cost_per_hour_usd=run.config.infra.cost_per_hour_usd,
        )
        answers = run.step(
            f"{prefix}{side}answers",
            "harness_answers",
            asking,
            suite=suite,
            export=export_of(model, run.tiers),
        )
        scores.append(
            run.step(
                f"{prefix}{side}scores",
                "harness_scores",
                HarnessScoresSpec(loaded=loaded, name=label),
                suite=suite,
                answers=answers,
            )
        )
    first, *others = scores
    return [Evaluated(first), *(beside(run, suite, first, other) for other in others)]
