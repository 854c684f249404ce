"""`data.train_path: dataset/NAME@vN`: a dataset that the project made, trained on as it is sealed.

It was filtered when it was made, and kept clean of a suite then: nothing is read, split or dropped
once more. Which version a bare name stands for is the registry's to say: the newest one that no
round of improvement has rolled back or is still trying.
"""

from __future__ import annotations

from pathlib import Path

from nexa.core.config import Config
from nexa.core.errors import DataError, TemplateError
from nexa.core.events import emit
from nexa.core.records import Artifact, DatasetBody, SuiteBody
from nexa.core.tiers import Tiers
from nexa.data import registry
from nexa.data.prepare import PrepareSpec
from nexa.data.sources import Source
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer

PREFIX = "dataset/"
REGISTRY = "dataset_registry.yaml"
TRAIN = "train"
FILE = f"{TRAIN}.parquet"
FORMAT = "messages"  # of the rows that a dataset's files hold


def name_in(reference: str, root: Path) -> str | None:
    """`NAME` or `NAME@vN` of a path that names a sealed dataset; None: it names files.

    A folder of the name `dataset` wins: a path that exists is always meant as one.
    """
    if not reference.startswith(PREFIX) or (root / reference).exists():
        return None
    return reference.removeprefix(PREFIX)


def find(reference: str, tiers: Tiers) -> Artifact[DatasetBody] | None:
    """The dataset that `data.train_path` names; None: it names files.

    Raises:
        UnknownArtifact: there is no such dataset here; says the nearest.
        DataError: every version of it was rolled back.
    """
    name = name_in(reference, tiers.root)
    return None if name is None else current(name, tiers)


def current(name: str, tiers: Tiers) -> Artifact[DatasetBody]:
    """A version by `name@vN`; of a bare name the newest that stands.

    Raises:
        UnknownArtifact: there is none of that name; says the nearest.
        DataError: every version of it was rolled back.
    """
    newest: Artifact[DatasetBody] = tiers.store.get("dataset", name)
    if "@" in name:
        return newest
    entries = registry.read(tiers.root / REGISTRY).get(newest.name, {})
    for version in reversed(tiers.store.versions("dataset", newest.name)):
        if registry.stands(entries.get(version, {})):
            found: Artifact[DatasetBody] = tiers.store.get("dataset", f"{name}@{version}")
            if found.version != newest.version:
                told = f"{newest.label} is not taken: the registry says that it does not stand"
                emit("note", text=f"{found.label} is the newest of {name} that stands; {told}")
            return found
    raise DataError(
        f"no version of the dataset {name} stands: each was rolled back",
        fix=f"name one all the same: {name}@v1",
    )


def rows_of(dataset: Artifact[DatasetBody], base: ModelFiles, tiers: Tiers) -> PrepareSpec:
    """The rows of its training split, as who only looks at rows reads them: no recipe to run."""
    path = file_of(dataset, tiers)
    return PrepareSpec(
        dataset_id=dataset.name,
        sources=(Source(f"{dataset.name}@{dataset.version}", dataset.files[FILE], path),),
        model=base,
        format=FORMAT,
        max_length=dataset.body.max_length or None,
        only_split="train",
        near_duplicates="keep",
        scratch=tiers.scratch,
    )


def file_of(dataset: Artifact[DatasetBody], tiers: Tiers) -> Path:
    """Its training split under a readable name, in a folder that may be removed at any time.

    Raises:
        DataError: it has no rows to train on.
        IntegrityError: its blob is gone or was changed.
    """
    split = dataset.body.splits.get(TRAIN)
    if split is None or not split.rows:
        raise DataError(
            f"{dataset.label} has no rows to train on",
            found=", ".join(f"{name} {s.rows}" for name, s in dataset.body.splits.items()),
        )
    folder = tiers.root / ".nexa" / "cache" / "datasets" / dataset.digest[:16]
    path = folder / FILE
    if not path.exists():
        tiers.store.checkout(dataset, folder)
    return path


def require_template(dataset: Artifact[DatasetBody], base: ModelFiles) -> None:
    """Refuse rows whose lengths were measured under another model's chat template.

    Raises:
        TemplateError: they were.
    """
    own = ChatTemplate(load_tokenizer(base)).sha256
    if own != dataset.body.template_sha256:
        raise TemplateError(
            f"{dataset.label} was prepared for another chat template than that of {base.name}",
            found=f"template {dataset.body.template_sha256[:16] or 'unknown'}, not {own[:16]}",
            fix="prepare its files for this model: data.train_path: FILE",
        )


def require_suite(
    dataset: Artifact[DatasetBody], suite: Artifact[SuiteBody] | None
) -> Artifact[SuiteBody]:
    """The suite that it is kept clean of: what its model is asked, where no file is named.

    Raises:
        DataError: there is none: nothing would be held out.
    """
    if suite is None:
        raise DataError(
            f"{dataset.label} has no suite: nothing is held out that its model could be asked",
            fix="name held-out rows: data.eval_path: FILE",
        )
    return suite


def tell_settled(config: Config, dataset: Artifact[DatasetBody]) -> None:
    """Say which keys of config.yaml have no say any more: the dataset was made under others."""
    given = sorted(
        config.data.model_fields_set & {"filters", "balance", "near_duplicates", "max_length"}
    )
    if given:
        keys = ", ".join(f"data.{name}" for name in given)
        emit("note", text=f"{dataset.label} is trained on as it was sealed: {keys} has no effect")
