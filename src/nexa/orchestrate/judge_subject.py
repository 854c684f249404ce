"""What is judged: the answers of a run, answers by their name, or those of a model, made now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.core.errors import UsageError
from nexa.core.manifest import RunManifest, find_manifest, list_manifests
from nexa.core.records import AnswersBody, Artifact, DatasetBody, SuiteBody
from nexa.core.tiers import Tiers
from nexa.orchestrate.evaluate import Asked, evaluate_model
from nexa.orchestrate.models import RUN

LATEST = "latest"
BASE, TUNED = "base_", "tuned_"
ANSWERS = "answers"


@dataclass(frozen=True)
class Subject:
    """Answers to one suite, by what their roles begin with; `base_` and `tuned_` of a training."""

    suite: Artifact[SuiteBody]
    sides: dict[str, Artifact[AnswersBody]]
    dataset: Artifact[DatasetBody] | None = None

    @property
    def main(self) -> Artifact[AnswersBody]:
        """The answers of the model that it is about: the tuned one, or the first."""
        return self.sides.get(TUNED) or next(iter(self.sides.values()))

    @property
    def has_both(self) -> bool:
        """Whether base and tuned can be compared."""
        return {BASE, TUNED} <= set(self.sides)


def subject_of(reference: str | None, asked: Asked, project: Path, *, answer: bool) -> Subject:
    """The answers that a reference names; None is the newest run that has some.

    With `answer` a model that is named answers now, as with `nexa eval`.

    Raises:
        UsageError: no such run, or one without answers; a model that may not be asked now.
        UnknownArtifact: no such answers.
        ModelError: no such model.
    """
    tiers = Tiers.of(project)
    reference = reference or LATEST
    if reference.startswith(f"{ANSWERS}/"):
        return _alone(tiers.store.get(ANSWERS, reference), tiers)
    if RUN.fullmatch(reference) and not Path(reference).exists():
        return _of_run(_manifest(reference, tiers), tiers)
    if not answer:
        raise UsageError(
            f"{reference} has not answered yet, so nothing can be told of what judging costs",
            fix=f"nexa eval {reference}, then name its answers, or its run",
        )
    scores = evaluate_model(reference, asked, project)
    return _alone(tiers.store.by_digest(scores.body.answers_digest), tiers)


def _alone(answers: Artifact[AnswersBody], tiers: Tiers) -> Subject:
    return Subject(tiers.store.by_digest(answers.body.suite_digest), {"": answers})


def _manifest(reference: str, tiers: Tiers) -> RunManifest:
    """The run; `latest` is the newest that has answers of its own."""
    if reference != LATEST:
        return find_manifest(tiers.manifests, reference)
    having = [run for run in list_manifests(tiers.manifests) if _answers_in(run.outputs)]
    return having[-1] if having else find_manifest(tiers.manifests, reference)


def _of_run(manifest: RunManifest, tiers: Tiers) -> Subject:
    made = _answers_in(manifest.outputs)
    if not made:
        raise UsageError(
            f"run {manifest.run_id} has no answers to judge",
            found=f"a run of the type {manifest.run_type}, {manifest.status}: "
            + (", ".join(manifest.outputs) or "it made nothing"),
            fix="a run of nexa train or nexa eval, answers/NAME, or a model",
        )
    sides = {role: tiers.store.by_digest(digest) for role, digest in made.items()}
    suite: Artifact[Any] = tiers.store.by_digest(next(iter(sides.values())).body.suite_digest)
    dataset = manifest.outputs.get("dataset")
    return Subject(suite, sides, tiers.store.by_digest(dataset) if dataset else None)


def _answers_in(outputs: dict[str, str]) -> dict[str, str]:
    """What the roles of answers begin with -> their digests."""
    return {
        role.removesuffix(ANSWERS): digest
        for role, digest in outputs.items()
        if role.endswith(ANSWERS)
    }
