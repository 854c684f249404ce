from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import UsageError
from nexa.core.manifest import find_manifest
from nexa.core.store import UnknownArtifact
from nexa.orchestrate.evaluate import Asked, evaluate_models
from nexa.orchestrate.judge_subject import BASE, TUNED, subject_of
from tests.support.project import Finished


def test_a_training_run_has_base_and_tuned_with_their_dataset(project: Finished) -> None:
    outputs = project.manifest.outputs
    for reference in (project.manifest.run_id, "latest", None):
        found = subject_of(reference, Asked(), project.root, answer=False)
        assert list(found.sides) == [BASE, TUNED]
        assert found.has_both
        assert found.main.digest == outputs["tuned_answers"]
        assert found.suite.digest == outputs["suite"]
        assert found.dataset is not None
        assert found.dataset.digest == outputs["dataset"]


def test_an_evaluation_has_each_of_its_models(project: Finished) -> None:
    base = project.tiers.store.by_digest(project.manifest.outputs["base_answers"])
    export = project.tiers.store.by_digest(project.manifest.outputs["export"])
    suite = project.tiers.store.by_digest(project.manifest.outputs["suite"])
    evaluate_models(["latest", export.label], Asked(suite=suite.label), project.root)
    found = subject_of("latest", Asked(), project.root, answer=False)
    assert list(found.sides) == ["", "m2_"]
    assert not found.has_both
    assert found.dataset is None
    alone = subject_of(base.label, Asked(), project.root, answer=False)
    assert (alone.main.digest, alone.has_both) == (base.digest, False)


def test_what_has_no_answers_is_named(project: Finished, tmp_path: Path) -> None:
    with pytest.raises(UnknownArtifact):
        subject_of("answers/none", Asked(), project.root, answer=False)
    with pytest.raises(UsageError, match="has not answered yet"):
        subject_of("smollm2-135m", Asked(), project.root, answer=False)
    with pytest.raises(UsageError, match="there is no run"):
        subject_of(None, Asked(), tmp_path, answer=False)


def test_a_run_that_made_nothing_says_so(project: Finished) -> None:
    ledger = project.tiers.manifests
    manifest = find_manifest(ledger, project.manifest.run_id)
    empty = manifest.model_copy(update={"outputs": {}, "run_id": "2999-01-01-000000-abcd"})
    path = ledger / f"{empty.run_id}.json"
    path.write_text(empty.model_copy(update={"status": "running"}).model_dump_json(by_alias=True))
    with pytest.raises(UsageError, match="it made nothing"):
        subject_of(empty.run_id, Asked(), project.root, answer=False)
