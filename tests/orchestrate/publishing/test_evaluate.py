from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from nexa.core.config import PublishSection
from nexa.core.errors import EvalError, GateError, IntegrityError, ModelError, UsageError
from nexa.core.events import Event, listening
from nexa.core.manifest import list_manifests
from nexa.core.records import Artifact, PublicationBody
from nexa.core.tiers import Tiers
from nexa.orchestrate.publishing import evaluate as publish_evaluate
from nexa.orchestrate.publishing.publish import Request, publish
from nexa.orchestrate.publishing.source import Source
from nexa.publish.verify import verify_folder
from tests.support.foreign import CONFIG, as_trainer_checkpoint, full_model, peft_adapter
from tests.support.project import Finished, notes, rows, write_config, write_rows
from tests.support.tiny import write_tiny_model

WAIVED = ("worse", "forgetting")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_rows(tmp_path / "held_out.jsonl", rows(range(100, 104)))
    return tmp_path


def published(root: Path, model: Path | str, **more: Any) -> Artifact[PublicationBody]:
    section = PublishSection(repo="you/theirs", hub="local", **more.pop("section", {}))
    asked = {"eval_data": root / "held_out.jsonl", "allow": WAIVED}
    return publish(Request(section, model, **asked | more), Tiers.of(root))


def manifest_in(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "nexa" / "manifest.json").read_text())
    return told


# -- what others trained -------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_by_plain_peft_is_merged_evaluated_and_published(
    root: Path, tiny_llama: Path
) -> None:
    adapter = peft_adapter(root / "adapter", tiny_llama)
    folder = Path(published(root, adapter).body.location)
    verify_folder(folder)
    shipped = manifest_in(folder)
    assert shipped["run_type"] == "publish"
    assert shipped["dataset_id"] is None
    assert "contamination was not checked" in (folder / "README.md").read_text()
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, folder, subfolder="adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, atol=0.02, rtol=0.0)


def test_the_same_adapter_again_changes_nothing(root: Path, tiny_llama: Path) -> None:
    adapter = as_trainer_checkpoint(peft_adapter(root / "adapter", tiny_llama))
    folder = Path(published(root, adapter).body.location)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    heard: list[Event] = []
    with listening(heard.append):
        again = published(root, adapter)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert any(text.startswith("already published") for text in notes(heard))
    assert [e["step"] for e in heard if e["kind"] == "step.start"] == ["publish"]
    runs = list_manifests(Tiers.of(root).manifests)
    assert [run.status for run in runs] == ["done", "done"]
    assert runs[1].publications == [again.body.location]
    assert runs[1].reused == list(runs[1].outputs)
    card = (folder / "README.md").read_text()
    assert "optimizer.pt, trainer_state.json, training_args.bin" in card
    assert "| step | 60," in card
    # The export can now be named, and is what was published.
    export = Tiers.of(root).store.by_digest(runs[0].outputs["export"])
    named = published(root, export.label, eval_data=None)
    assert named.digest == again.digest


def test_full_weights_are_compared_with_the_base_that_is_named(
    root: Path, tiny_llama: Path
) -> None:
    model = full_model(root / "model", tiny_llama)
    with pytest.raises(UsageError, match="is to be compared with") as refused:
        published(root, model)
    assert refused.value.fix == "--base-model MODEL"
    with pytest.raises(UsageError, match="nothing to leave unmerged"):
        published(root, model, base_model=str(tiny_llama), section={"merge_adapters": False})
    folder = Path(published(root, model, base_model=str(tiny_llama)).body.location)
    verify_folder(folder)
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_another_base_than_the_adapter_names_can_be_given(
    root: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    adapter = peft_adapter(root / "adapter", tiny_llama)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": "/gone/away"}))
    with pytest.raises(ModelError) as refused:
        published(root, adapter)
    assert refused.value.fix is not None
    assert "--base-model MODEL" in refused.value.fix
    folder = Path(published(root, adapter, base_model=str(tiny_llama)).body.location)
    assert "| base named by | --base-model |" in (folder / "README.md").read_text()
    (adapter / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(UsageError, match="is to be compared with"):
        published(root, adapter)
    with pytest.raises(ModelError, match="there is no model"):
        published(root, adapter, base_model="no-such-model")


def test_a_model_under_another_chat_template_is_not_compared(root: Path, tiny_llama: Path) -> None:
    other = write_tiny_model(root / "other", seed=3, chat_template=None)
    with pytest.raises(EvalError, match="not taken alike"):
        published(root, other, base_model=str(tiny_llama))
    (run,) = list_manifests(Tiers.of(root).manifests)
    assert (run.status, run.eval_status) == ("failed", "failed")


def test_an_adapter_that_does_nothing_is_refused(root: Path, tiny_llama: Path) -> None:
    adapter = peft_adapter(root / "adapter", tiny_llama, strength=0.0)
    with pytest.raises(Exception, match="adapter_acts"):
        published(root, adapter)
    (run,) = list_manifests(Tiers.of(root).manifests)
    assert run.status == "failed"


# -- what nexa trained and did not evaluate ------------------------------------------------------


@pytest.fixture
def unfinished(project: Finished) -> Finished:
    """A project whose run left a checkpoint and no manifest."""
    shutil.rmtree(project.tiers.manifests)
    return project


def checkpoint_of(project: Finished) -> Artifact[Any]:
    return project.tiers.store.by_digest(project.manifest.outputs["checkpoint"])


def test_a_checkpoint_without_a_report_is_judged_with_its_training_rows_known(
    unfinished: Finished, tiny_llama: Path
) -> None:
    checkpoint = checkpoint_of(unfinished)
    write_config(unfinished.root, tiny_llama, infra={"cost_per_hour_usd": 2.0})
    write_rows(unfinished.root / "held_out.jsonl", rows(range(200, 206)))
    folder = Path(published(unfinished.root, checkpoint.label).body.location)
    verify_folder(folder)
    shipped = manifest_in(folder)
    assert shipped["tokens_trained"] == checkpoint.body.tokens_trained
    assert shipped["cost"]["cost_per_hour_usd"] == 2.0
    card = (folder / "README.md").read_text()
    assert "No row of the suite occurs in the training rows." in card
    assert "## Training" in card


def test_training_rows_in_the_evaluation_are_found(unfinished: Finished) -> None:
    write_rows(unfinished.root / "held_out.jsonl", rows(range(0, 6)))
    with pytest.raises(GateError, match="contaminated"):
        published(unfinished.root, checkpoint_of(unfinished).label)


def test_a_checkpoint_s_base_may_be_named_if_it_is_that_one(
    unfinished: Finished, tiny_llama: Path
) -> None:
    write_rows(unfinished.root / "held_out.jsonl", rows(range(200, 204)))
    label = checkpoint_of(unfinished).label
    other = write_tiny_model(unfinished.root / "other", seed=9)
    with pytest.raises(UsageError, match="was not trained from"):
        published(unfinished.root, label, base_model=str(other))
    assert published(unfinished.root, label, base_model=str(tiny_llama)).body.repo == "you/theirs"


# -- how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), "interrupted", "interrupted by the user"),
        (IntegrityError("bytes changed"), "failed", "bytes changed"),
        (RuntimeError("a bug"), "failed", "RuntimeError: a bug"),
    ],
)
def test_whatever_ends_it_is_in_its_manifest(
    root: Path,
    tiny_llama: Path,
    error: BaseException,
    status: str,
    told: str,
) -> None:
    def fail(event: Event) -> None:
        if event["kind"] == "step.start" and event["step"] == "generate":
            raise error

    with listening(fail), pytest.raises(type(error)):
        published(root, peft_adapter(root / "adapter", tiny_llama))
    (run,) = list_manifests(Tiers.of(root).manifests)
    assert (run.status, run.error) == (status, told)
    assert not any(Tiers.of(root).scratch.iterdir())


def test_a_model_needs_a_folder_to_be_adopted_from(root: Path) -> None:
    with pytest.raises(UsageError, match="lies in no folder"):
        publish_evaluate.evaluate(
            Source("adapter", "an adapter"), root / "held_out.jsonl", None, Tiers.of(root)
        )
