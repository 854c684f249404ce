from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nexa.core.config import PublishSection
from nexa.core.errors import UsageError
from nexa.core.tiers import Tiers
from nexa.orchestrate.publishing.preview import Preview, preview
from nexa.orchestrate.publishing.publish import Request, publish
from tests.support.foreign import WEIGHTS, as_trainer_checkpoint, full_model, peft_adapter
from tests.support.hub_emulator import HubEmulator
from tests.support.project import Finished, rows, write_rows


def seen(root: Path, model: Path | str, **more: Any) -> Preview:
    section = PublishSection(repo="you/it", **{"hub": "local"} | more.pop("section", {}))
    return preview(Request(section, model, **more), Tiers.of(root))


def test_it_lists_exactly_what_would_be_published(project: Finished) -> None:
    found = seen(project.root, project.root / "output")
    assert found.findings == ()
    section = PublishSection(repo="you/it", hub="local")
    made = publish(Request(section, project.root / "output"), project.tiers)
    sizes = {name: (Path(made.body.location) / name).stat().st_size for name in made.files}
    assert found.files == sizes
    assert found.location == made.body.location


def test_findings_of_the_evidence_are_told_and_waivers_count(
    root_worse: Path, tiny_llama: Path
) -> None:
    latest = seen(root_worse, "latest")
    assert any("forgot" in text or "worse" in text for text in latest.findings)
    waived = seen(root_worse, "latest", allow=("worse", "forgetting"))
    assert waived.findings == ()
    assert any("(allowed: " in text for text in waived.notes)
    assert "contamination was not checked" in waived.notes[-1]


@pytest.fixture
def root_worse(tmp_path: Path, tiny_llama: Path) -> Path:
    """A project in which a bad model was published although it forgets."""
    write_rows(tmp_path / "held_out.jsonl", rows(range(100, 104)))
    model = full_model(tmp_path / "bad", tiny_llama, strength=0.5)
    request = Request(
        PublishSection(repo="you/bad", hub="local"),
        model,
        base_model=str(tiny_llama),
        allow=("worse", "forgetting"),
        eval_data=tmp_path / "held_out.jsonl",
    )
    publish(request, Tiers.of(tmp_path))
    return tmp_path


def test_a_changed_output_and_lost_records_are_findings(project: Finished) -> None:
    (project.root / "output" / "config.json").write_text("{}")
    assert (
        "was changed after it was evaluated (config.json)"
        in seen(project.root, project.root / "output").findings[0]
    )
    shutil.rmtree(project.tiers.store.root)
    findings = seen(project.root, project.root / "output").findings
    assert "are not all in" in findings[1]


def test_an_adapter_without_a_report_says_what_is_missing(tmp_path: Path, tiny_llama: Path) -> None:
    folder = as_trainer_checkpoint(peft_adapter(tmp_path / "adapter", tiny_llama))
    found = seen(tmp_path, folder)
    assert set(found.files) == {WEIGHTS, "adapter_config.json"}
    assert found.files[WEIGHTS] == (folder / WEIGHTS).stat().st_size
    assert "has no report" in found.findings[0]
    left = "left out: README.md, optimizer.pt, trainer_state.json, training_args.bin"
    assert found.notes[0] == left
    ready = seen(tmp_path, folder, eval_data=Path("rows.jsonl"))
    assert ready.findings == ()
    assert ready.notes[0] == "merged and evaluated on rows.jsonl first, against its base"
    assert not (tmp_path / ".nexa").exists()


def test_full_weights_and_a_bare_checkpoint(project: Finished, tiny_llama: Path) -> None:
    full = seen(
        project.root, full_model(project.root / "full", tiny_llama), eval_data=Path("rows.jsonl")
    )
    assert full.notes[0] == "evaluated on rows.jsonl first, against its base"
    assert "model.safetensors" in full.files
    shutil.rmtree(project.tiers.manifests)
    label = project.tiers.store.by_digest(project.manifest.outputs["checkpoint"]).label
    bare = seen(project.root, label)
    assert bare.files == {}
    assert "has no report" in bare.findings[0]


def test_a_secret_is_a_finding(tmp_path: Path, tiny_llama: Path) -> None:
    folder = full_model(tmp_path / "full", tiny_llama)
    (folder / "chat_template.jinja").write_text("{# hf_" + "aB3" * 12 + " #}")
    found = seen(tmp_path, folder, eval_data=Path("rows.jsonl"))
    assert found.findings == (
        "cannot publish: a file holds what looks like a secret (chat_template.jinja line 1)",
    )


def test_the_hub_is_only_asked_who_we_are(project: Finished, hub_emulator: HubEmulator) -> None:
    found = seen(project.root, "latest", section={"hub": hub_emulator.url})
    assert "there is no Hub token" in found.findings[0]
    assert found.to_json()["would_publish"] is False
    assert found.location == f"{hub_emulator.url}/you/it"


def test_words_that_do_not_fit_are_refused_as_when_publishing(project: Finished) -> None:
    with pytest.raises(UsageError, match="everything"):
        seen(project.root, "latest", allow=("everything",))
    with pytest.raises(UsageError, match="leave --base-model out"):
        seen(project.root, "latest", base_model="m")
