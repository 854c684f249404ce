"""`nexa distill`: from a teacher on loopback to a trained and judged student."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import BudgetSpent, ConfigError, ModelError, UsageError
from nexa.core.events import Event, listening
from nexa.core.lineage import verify, walk
from nexa.core.manifest import list_manifests
from nexa.core.tiers import Tiers
from nexa.lm.client import Price
from nexa.orchestrate.distill import distill, preview_distillation
from nexa.orchestrate.distill_data import Answers
from nexa.orchestrate.replay import replay
from nexa.orchestrate.resume import resume
from nexa.orchestrate.teaching import Choice
from nexa.publish.verify import verify_folder
from tests.support.project import rows, write_config, write_project, write_rows
from tests.support.scripted_endpoint import Script, ScriptedEndpoint
from tests.support.teacher import teach

PRICE = Price(1.0, 2.0, source="a test")
ALL = Answers("", max_new_tokens=64)


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(Script(function=teach)) as served:
        yield served


@pytest.fixture
def here(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "p"
    write_project(folder, tiny_llama)
    monkeypatch.chdir(folder)
    return folder


def choice_of(endpoint: ScriptedEndpoint, **changes: Any) -> Choice:
    fields = {"name": "wise", "base_url": endpoint.url, "price": PRICE}
    return Choice(**{**fields, **changes})


def test_a_student_is_trained_on_what_the_teacher_answers_and_judged(
    here: Path, tiny_llama: Path, endpoint: ScriptedEndpoint
) -> None:
    student = shutil.copytree(tiny_llama, here / "student")
    manifest = distill(choice_of(endpoint), "./student", ALL, here)
    assert (manifest.run_type, manifest.status) == ("distill", "done")
    assert (manifest.teacher_model, manifest.student_model) == ("wise", student.name)
    assert manifest.dataset_id == "p-wise@v1"
    assert manifest.verdict is not None
    assert manifest.teacher_tokens["output"] > 0
    assert manifest.cost is not None
    assert manifest.cost.teacher_usd == pytest.approx(manifest.cost_estimate_usd_total, abs=1e-6)
    store = Tiers.of(here).store
    report = store.by_digest(manifest.outputs["report"])
    assert {"teacher", "synthetic", "base"} <= {node.role for node in walk(report, store)}
    assert verify(report, store) == []
    told = json.loads((here / "output" / "final_model.json").read_text())
    assert told["dataset"] == "dataset/p-wise@v1"
    assert (here / "output" / "model.safetensors").is_file()
    assert len(endpoint.billed) == 40


def test_the_same_command_makes_nothing_twice(here: Path, endpoint: ScriptedEndpoint) -> None:
    first = distill(choice_of(endpoint), None, ALL, here)
    again = distill(choice_of(endpoint), None, ALL, here)
    assert len(endpoint.billed) == 40
    assert again.outputs["checkpoint"] == first.outputs["checkpoint"]
    assert {"synthetic", "dataset", "checkpoint"} <= set(again.reused)
    assert again.teacher_model == "wise"
    assert again.cost_estimate_usd_total == 0.0


def test_a_distillation_can_be_replayed(here: Path, endpoint: ScriptedEndpoint) -> None:
    manifest = distill(choice_of(endpoint), None, ALL, here)
    assert replay(manifest.run_id, here).equal


def test_what_was_stopped_in_the_training_goes_on_without_asking_again(
    here: Path, endpoint: ScriptedEndpoint
) -> None:
    def stop(event: Event) -> None:
        if event["kind"] == "step.start" and event["step"] == "finetune":
            raise KeyboardInterrupt

    with listening(stop), pytest.raises(KeyboardInterrupt):
        distill(choice_of(endpoint), None, ALL, here)
    [stopped] = list_manifests(Tiers.of(here).manifests)
    assert (stopped.status, stopped.teacher_model) == ("interrupted", "wise")
    assert stopped.cost_estimate_usd_total > 0
    with pytest.raises(UsageError, match="distils"):
        resume(stopped.run_id, here)
    done = distill(choice_of(endpoint), None, ALL, here)
    assert done.status == "done"
    assert done.attempts == 2
    assert len(endpoint.billed) == 40


def test_a_budget_that_does_not_reach_trains_nothing(
    here: Path, endpoint: ScriptedEndpoint
) -> None:
    with pytest.raises(BudgetSpent):
        distill(choice_of(endpoint, budget_usd=0.001), None, ALL, here)
    [stopped] = list_manifests(Tiers.of(here).manifests)
    assert stopped.status == "failed"
    assert not (here / "output").exists()
    paid = len(endpoint.billed)
    done = distill(choice_of(endpoint, budget_usd=1.0), None, ALL, here)
    assert done.status == "done"
    assert 0 < paid < len(endpoint.billed) == 40


def test_without_a_config_the_recipe_for_the_student_is_taken(
    tmp_path: Path, tiny_llama: Path, endpoint: ScriptedEndpoint
) -> None:
    write_rows(tmp_path / "asked.jsonl", [{"prompt": row["context"]} for row in rows(range(24))])
    answers = Answers("asked.jsonl", max_new_tokens=64)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.chdir(tmp_path)
        found = preview_distillation(choice_of(endpoint), str(tiny_llama), answers, tmp_path)
        assert found.held_out == "a tenth of the answers"
        assert not (tmp_path / ".nexa" / "requests").exists()
        done = distill(choice_of(endpoint), str(tiny_llama), answers, tmp_path)
    assert (done.status, done.dataset_id) == ("done", "asked-wise@v1")
    text = (tmp_path / ".nexa" / "distill" / "asked-wise.yaml").read_text()
    assert "method: lora" in text


def test_a_dry_run_tells_tokens_dollars_and_time(here: Path, endpoint: ScriptedEndpoint) -> None:
    before = [path for path in here.rglob("*") if path.is_file()]
    found = preview_distillation(choice_of(endpoint), None, ALL, here)
    assert found.teaching.requests == 40
    assert found.teaching.usd == pytest.approx(
        PRICE.cost_usd(found.teaching.input_tokens, found.teaching.output_tokens)
    )
    assert found.seconds > 0
    assert "min at most" in found.training
    assert found.held_out == "./eval.jsonl"
    assert found.to_json()["teaching"]["teacher"] == "wise"
    assert endpoint.received == []
    # Where the model lies is noted, as with `nexa train --dry-run`.
    after = [path for path in here.rglob("*") if path.is_file() and path.suffix != ".place"]
    assert sorted(after) == sorted(before)


def test_what_is_missing_is_told_before_anything_is_asked(
    here: Path, tmp_path: Path, tiny_llama: Path, endpoint: ScriptedEndpoint
) -> None:
    with pytest.raises(ModelError, match="it can teach, it cannot be trained"):
        distill(choice_of(endpoint), "gpt-4o", ALL, here)
    with pytest.raises(ModelError, match="mistral-7b"):
        distill(choice_of(endpoint), "mistral-7", ALL, here)
    with pytest.raises(ConfigError, match="no prompts"):
        distill(choice_of(endpoint), str(tiny_llama), ALL, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no student"):
        distill(choice_of(endpoint), None, Answers("train.jsonl"), tmp_path / "nowhere")
    assert endpoint.received == []


def test_the_config_keeps_what_it_says_of_everything_else(
    here: Path, tiny_llama: Path, endpoint: ScriptedEndpoint
) -> None:
    write_config(here, "elsewhere", data={"format": "record"}, training={"max_steps": 2})
    distill(choice_of(endpoint), str(tiny_llama), ALL, here)
    text = (here / ".nexa" / "distill" / "p-wise.yaml").read_text()
    assert "max_steps: 2" in text
    assert "train_path: p-wise" in text
    assert "format" not in text


def test_what_is_published_names_the_teacher_and_no_address(
    tmp_path: Path,
    tiny_llama: Path,
    endpoint: ScriptedEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_project(tmp_path / "p", tiny_llama, publish={"repo": "you/it", "hub": "local"})
    monkeypatch.chdir(tmp_path / "p")
    manifest = distill(choice_of(endpoint), None, ALL, tmp_path / "p")
    folder = Path(manifest.publications[0])
    verify_folder(folder)
    card = (folder / "README.md").read_text()
    assert "A teacher, wise (wise-scripted), wrote 40 rows of it by `distill`" in card
    texts = [path.read_bytes() for path in (folder / "nexa").iterdir()]
    assert not any(b"127.0.0.1" in text for text in texts)
