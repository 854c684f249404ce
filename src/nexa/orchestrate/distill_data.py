"""`nexa data distill`: a teacher's answers to prompts, as a dataset of the project.

Held-out prompts are never asked: a suite is refused by name, a folder's eval and test files are
left out as in training, and what gives a prompt of the project's suite away is not sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nexa.core.config import Config, load_config
from nexa.core.config_sections import DataSection, ModelSection
from nexa.core.errors import LeakError
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.records import Artifact, DatasetBody, SuiteBody, SyntheticBody
from nexa.core.store import write_atomic
from nexa.core.tiers import Tiers
from nexa.data.distill_materialize import DistillSpec, requests_of
from nexa.data.registry import register
from nexa.data.sources import Source, files_of, named_sources
from nexa.data.synthetic import ROWS
from nexa.lm.resolve import ModelFiles
from nexa.orchestrate import deliver, plan
from nexa.orchestrate.data_files import name_of_data, place_of, training_files
from nexa.orchestrate.merge_data import suite_of
from nexa.orchestrate.run_state import CONFIG, Run, opened
from nexa.orchestrate.teaching import Choice, Preview, open_teacher, preview, rows_of, taught

STEP = "distill_materialize"


@dataclass(frozen=True)
class Answers:
    """Which prompts are answered, and how. `rows` are the first so many; None: all."""

    prompts: str
    rows: int | None = None
    seed: int = 0
    temperature: float = 0.0
    system: str = ""
    max_new_tokens: int = 1024


@dataclass(frozen=True)
class Found:
    """Prompts that were found: a dataset of the project, or files."""

    name: str
    dataset: Artifact[DatasetBody] | None
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Distilled:
    """What the teacher said, and the dataset that was made of it."""

    run_id: str
    synthetic: Artifact[SyntheticBody]
    dataset: Artifact[DatasetBody]


def distill_data(
    answers: Answers,
    choice: Choice,
    project: Path,
    *,
    dataset_id: str | None = None,
    model: str | None = None,
    output: Path | None = None,
) -> Distilled:
    """Have prompts answered, and make a dataset of the answers.

    Its rows are measured with `model`, or with that of config.yaml. `output` is a file that gets
    the rows, too.

    Raises:
        LeakError: the prompts are held-out ones.
        DataError: there is no prompt, or no answer gave a row.
        BudgetSpent: the budget does not reach for all; what was answered is kept.
    """
    tiers = Tiers.of(project)
    config, path = config_for(answers, model, tiers)
    found = find_prompts(answers.prompts, config, tiers)
    spec = spec_of(answers, found, choice, tiers)
    with opened(tiers, config, path, run_type="data_gen") as run:
        base = plan.base_model(config, tiers)
        materialise(run, spec, found, base, dataset_id or distilled_name(found, choice))
        synthetic, dataset = run.made["synthetic"], run.made["dataset"]
        if output is not None:
            write_atomic(output, tiers.store.path(synthetic, ROWS).read_bytes())
        run.meter()
        run.ledger.close("done", eval_status="skipped")
    return Distilled(run.run_id, synthetic, dataset)


def preview_distill(answers: Answers, choice: Choice, project: Path) -> Preview:
    """Rows, requests, tokens and dollars at most; nothing is sent, nothing is written.

    Prompts that give a held-out row away are counted: which they are is known when it is asked.

    Raises:
        LeakError: the prompts are held-out ones.
        DataError: there is no prompt.
    """
    tiers = Tiers.of(project)
    path = tiers.root / CONFIG
    config = load_config(path) if path.exists() else None
    found = find_prompts(answers.prompts, config, tiers)
    spec = spec_of(answers, found, choice, tiers, asks=False)
    requests = requests_of(spec, dataset=found.dataset, store=tiers.store)
    return preview(STEP, spec, requests, tiers, dataset=found.dataset)


def materialise(run: Run, spec: DistillSpec, found: Found, base: ModelFiles, name: str) -> None:
    """The answers, the dataset and the suite that it is kept clean of, all made in this run.

    Held out are the rows of data.eval_path; else those that the prompts' own dataset is kept clean
    of; else a share of the teacher's answers.
    """
    suite = _suite(run, found, base)
    synthetic = taught(run, STEP, spec, dataset=found.dataset, suite=suite)
    rows = rows_of(synthetic, name, base, run)
    if suite is None:
        share = run.config.data.eval_fraction
        emit("note", text=f"held out are answers of the teacher itself, {share:.0%} of them")
        rows = replace(rows, eval_fraction=share)
    else:
        rows = replace(rows, only_split="train")
    length = run.config.data.max_length
    rows = replace(rows, max_length=None if length == "auto" else length)
    dataset = run.step("dataset", "prepare_synthetic", rows, synthetic=synthetic, suite=suite)
    if suite is None:
        freeze = replace(plan.freeze(run.config, run.tiers.root), name=dataset.name)
        run.step("suite", "freeze", freeze, dataset=dataset)
    register(run.tiers.root / "dataset_registry.yaml", dataset)
    deliver.commit_dataset(run.tiers, dataset)
    run.ledger.amend(dataset_id=f"{dataset.name}@{dataset.version}", dataset_hash=dataset.digest)


def spec_of(
    answers: Answers, found: Found, choice: Choice, tiers: Tiers, *, asks: bool = True
) -> DistillSpec:
    """The job, with its teacher opened."""
    return DistillSpec(
        teacher=open_teacher(choice, tiers.root, asks=asks),
        sources=found.sources,
        rows=answers.rows,
        system=answers.system,
        temperature=answers.temperature,
        seed=answers.seed,
        max_new_tokens=answers.max_new_tokens,
        name=found.name,
    )


def find_prompts(reference: str, config: Config | None, tiers: Tiers) -> Found:
    """A dataset of the project by its name, else files: a path that exists wins.

    Raises:
        LeakError: a suite, or the project's held-out file.
        DataError: there is nothing of that name.
    """
    if reference.startswith("suite/"):
        raise LeakError(
            f"{reference} is what models are judged by: its prompts are never trained on",
            fix="give a dataset, or a file of other prompts",
        )
    name = reference.removeprefix("dataset/")
    exists = (tiers.root / reference).expanduser().exists()
    if not exists and name.partition("@")[0] in tiers.store.names("dataset"):
        dataset = tiers.store.get("dataset", name)
        return Found(dataset.name, dataset, ())
    eval_path = config.data.eval_path if config else None
    held_out = place_of(eval_path, tiers.root).path if eval_path else None
    files, _ = training_files(place_of(reference, tiers.root).path, held_out)
    held = [path.resolve() for path in files_of(held_out)] if held_out else []
    if any(path.resolve() in held for path in files):
        raise LeakError(
            f"{reference} has the rows that models are judged by: they are never trained on",
            found=f"data.eval_path: {eval_path}",
        )
    return Found(slug(name_of_data(reference, tiers.root)), None, named_sources(files))


def distilled_name(found: Found, choice: Choice) -> str:
    """What the dataset is called where nobody said: its prompts and who answered them."""
    teacher = choice.label.rsplit("/", 1)[-1]
    return slug(f"{found.name}-{teacher}".replace(".", "-"))


def config_for(answers: Answers, model: str | None, tiers: Tiers) -> tuple[Config, Path | None]:
    """config.yaml, with another model where one is named; the defaults where there is no file."""
    path = tiers.root / CONFIG
    if path.exists() or model is None:
        config = load_config(path)
        if model is not None:
            config = config.model_copy(update={"model": ModelSection(path=model)})
        return config, path
    data = DataSection(train_path=answers.prompts)
    return Config(model=ModelSection(path=model), data=data), None


def _suite(run: Run, found: Found, base: ModelFiles) -> Artifact[SuiteBody] | None:
    config, tiers = run.config, run.tiers
    if config.data.eval_path is not None:
        held_out = run.step("eval_dataset", "prepare", plan.held_out(config, tiers.root, base))
        freeze = plan.freeze(config, tiers.root)
        return run.step("suite", "freeze", freeze, dataset=held_out)
    suite = suite_of(found.dataset, tiers.store) if found.dataset else None
    if suite is not None:
        run.made["suite"] = suite
        run.ledger.amend(outputs={**run.ledger.manifest.outputs, "suite": suite.digest})
    return suite
