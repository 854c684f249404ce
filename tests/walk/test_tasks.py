"""Tasks from the file that describes them to scores in a run, on the tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexa.core.config_sections import PublishSection
from nexa.core.errors import EvalError
from nexa.core.events import Event, listening
from nexa.core.records import ScoresBody
from nexa.orchestrate.evaluate import Asked, evaluate_model
from nexa.orchestrate.publishing.publish import Request, publish
from nexa.orchestrate.verifying.verify import verify
from tests.support.project import finish, notes, write_rows


def scored(folder: Path, model: Path, targets: list[Any], **asked: Any) -> ScoresBody:
    """What `nexa eval --data` says of answers in the lab's own shape."""
    made = [
        {"prompt": f"Question {i}?", "target_answer": target, "group": f"g{i}"}
        for i, target in enumerate(targets)
    ]
    data = write_rows(folder / "held.jsonl", made)
    asked = {"max_new_tokens": 8, **asked}
    return evaluate_model(str(model), Asked(data=data, **asked), folder).body


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_may_be_judged_by_likelihood_and_verifies(tmp_path: Path, tiny_llama: Path) -> None:
    project = finish(tmp_path, tiny_llama, eval={"task": "perplexity", "rows": 8})
    outputs = project.manifest.outputs
    store = project.tiers.store
    body = store.by_digest(outputs["tuned_scores"]).body
    assert set(body.metrics) == {"token_probability"}
    assert body.corpus is not None
    assert body.corpus["perplexity"].mean > 1
    report = store.by_digest(outputs["report"]).body
    assert report.primary == "token_probability"
    assert verify("latest", project.root)
    section = PublishSection(repo="you/it", hub="local")
    request = Request(
        section, project.root / "output", allow=("worse", "forgetting", "no evidence")
    )
    published = publish(request, project.tiers)
    assert verify(published.body.location, project.root)


def test_rows_with_choices_are_asked_by_name(folder: Path, tiny_llama: Path) -> None:
    targets = [{"choices": ["iron", "gold", "tin"], "answer": i % 3} for i in range(6)]
    body = scored(folder, tiny_llama, targets, task="multiple_choice")
    assert set(body.metrics) == {"acc", "acc_norm", "probability"}
    assert body.metrics["probability"].n == 6
    assert body.counts == {"choices": 18}


def test_a_file_describes_how_answers_are_scored(folder: Path, tiny_llama: Path) -> None:
    (folder / "far.yaml").write_text("kind: numeric\nunit: km\nmetrics: [rouge1]\n")
    body = scored(folder, tiny_llama, ["3.2 km", "5"], task="far.yaml")
    assert set(body.metrics) == {"correct", "rouge1"}
    (folder / "far.yaml").unlink()  # the suite has what it said
    again = evaluate_model(str(tiny_llama), Asked(suite="held"), folder).body
    assert again.metrics == body.metrics
    assert again.seal == body.seal


def test_code_needs_leave(folder: Path, tiny_llama: Path) -> None:
    targets = ["assert double(2) == 4"]
    with pytest.raises(EvalError, match="--run-code"):
        scored(folder, tiny_llama, targets, task="code")
    body = scored(folder, tiny_llama, targets, task="code", run_code=True)
    assert body.metrics["passed"].mean == 0
    assert sum(body.counts.values()) == 1
    heard: list[Event] = []
    with listening(heard.append):
        verify("latest", folder)
    assert any("its code is not run again" in text for text in notes(heard))
