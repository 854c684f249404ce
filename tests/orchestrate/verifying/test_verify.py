"""`verify`: what it is asked about, and what it says of what is not whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nexa.core.config import PublishSection
from nexa.core.errors import IntegrityError, UsageError
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.ledger import SUMS
from nexa.core.manifest import ManifestFile, RunManifest, read_manifest
from nexa.core.store import UnknownArtifact
from nexa.core.store_check import StoreCheck
from nexa.core.tiers import MARKER, Tiers
from nexa.orchestrate.publishing.publish import Request, publish, publish_folder
from nexa.orchestrate.verifying import durable as verify_durable
from nexa.orchestrate.verifying.durable import DurableCheck
from nexa.orchestrate.verifying.run import RunCheck
from nexa.orchestrate.verifying.verify import verify
from nexa.train import checkpoint
from tests.support.foreign import peft_adapter
from tests.support.project import Finished, rows, write_rows


def problems(project: Finished, what: str | None = None) -> str:
    with pytest.raises(IntegrityError) as caught:
        verify(what, project.root)
    return str(caught.value.found)


def manifest_path(project: Finished) -> Path:
    return project.tiers.manifests / f"{project.manifest.run_id}.json"


def rewrite(project: Finished, **facts: Any) -> None:
    """The same run with another manifest, closed and kept as its own."""
    path = manifest_path(project)
    manifest = read_manifest(path).model_copy(update=facts)
    path.unlink()
    (path.parent / SUMS).unlink()
    ledger = ManifestFile(path, manifest)
    ledger._write()
    project.tiers.write(ledger.to_bytes(), f"manifests/{manifest.run_id}.json")


# -- what is asked -------------------------------------------------------------------------------


def test_a_run_an_artifact_a_folder_and_everything_are_what_can_be_named(project: Finished) -> None:
    run_id = project.manifest.run_id
    assert verify("latest", project.root).subject == f"run {run_id}"
    assert verify(str(project.root / "output"), project.root).subject == f"run {run_id}"
    report = verify("report/tiny-llama-elements", project.root)
    assert report.subject == "report/tiny-llama-elements@v1"
    assert verify("dataset/elements@v1", project.root).subject == "dataset/elements@v1"
    told = verify(None, project.root)
    assert told.subject == "everything here"
    assert "files in the store" in told.notes[0]


def test_a_published_folder_is_verified_by_itself_and_by_its_run(project: Finished) -> None:
    flags = {"repo": "you/elements", "hub": "local"}
    folder = Path(publish_folder(project.root / "output", project.root, flags).body.location)
    root = (folder / "nexa" / "ROOT").read_text()
    assert "model card" in verify(str(folder), project.root).checks
    assert verify("latest", project.root)
    digest = next(word for word in root.split() if len(word) == 64)
    with pytest.raises(IntegrityError, match="expected"):
        verify(str(folder), project.root, expect=digest[::-1])
    (folder / "README.md").write_text("# better\n")
    assert str(folder / "README.md") in problems(project, "latest")
    shutil.rmtree(folder)
    assert verify("latest", project.root)


def test_what_has_no_root_digest_takes_no_expect(project: Finished) -> None:
    with pytest.raises(UsageError, match="--expect is for a published folder"):
        verify("latest", project.root, expect="ab" * 32)


def test_a_name_that_leads_nowhere_is_said(project: Finished) -> None:
    with pytest.raises(UsageError, match="there is no run nothing"):
        verify("nothing", project.root)
    with pytest.raises(UnknownArtifact, match="no dataset named 'element'") as caught:
        verify("dataset/element", project.root)
    assert caught.value.fix == "dataset/elements"
    with pytest.raises(IntegrityError, match="is not a folder that nexa published"):
        verify(str(project.root / "runs"), project.root)


def test_where_nothing_was_made_there_is_nothing_wrong(tmp_path: Path) -> None:
    assert verify(None, tmp_path).notes == ("0 records, 0 files in the store",)


# -- a run ---------------------------------------------------------------------------------------


def test_a_run_under_way_has_no_digest_yet_and_that_is_no_fault(project: Finished) -> None:
    run_id = "9999-01-01-000000-0000"
    ManifestFile.open(project.tiers.manifests, RunManifest(run_id=run_id, run_type="train"))
    assert verify(run_id, project.root).subject == f"run {run_id}"
    assert verify(None, project.root)


def test_a_manifest_without_its_digest_is_named(project: Finished) -> None:
    (project.tiers.manifests / SUMS).unlink()
    assert "has ended, and SHA256SUMS has no digest of it" in problems(project, "latest")


def test_a_manifest_that_is_gone_is_named(project: Finished) -> None:
    manifest_path(project).unlink()
    assert "is missing; SHA256SUMS has a digest of it" in problems(project)


def test_a_manifest_that_is_none_is_named(project: Finished) -> None:
    path = project.tiers.manifests / "9999-01-01-000000-0000.json"
    path.write_text('{"status": "running", "odd": 1}')
    assert f"{path}: " in problems(project, "9999")
    path.write_text("{")
    assert "has ended, and SHA256SUMS" in problems(project, "9999")


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"verdict": "contaminated"}, "its verdict is not what the records say"),
        ({"eval_summary": {"exact": 1.0}}, "its eval_summary is not"),
        ({"dataset_hash": "0" * 64}, "its dataset_hash is not"),
        ({"mask_sha256": "0" * 64}, "its mask_sha256 is not"),
        ({"eval_report": "/x/leaderboard_1999-01-01.parquet"}, "cannot read"),
        ({"outputs": {"report": "0" * 64}}, "names the record 0000000000000000, which is not"),
    ],
)
def test_a_manifest_that_tells_other_than_the_records_is_named(
    project: Finished, facts: dict[str, Any], what: str
) -> None:
    rewrite(project, **facts)
    assert what in problems(project, "latest")


def test_a_model_folder_of_a_later_run_is_that_run_s(project: Finished) -> None:
    card = project.root / "output" / "final_model.json"
    told = json.loads(card.read_bytes())
    card.write_text(json.dumps({**told, "run_id": "9999-01-01-000000-0000"}))
    assert verify("latest", project.root)
    card.unlink()
    assert verify("latest", project.root)


def test_a_file_of_the_model_folder_that_is_gone_is_named(project: Finished) -> None:
    (project.root / "output" / "tokenizer.json").unlink()
    assert "tokenizer.json: is missing" in problems(project, "latest")


def test_a_project_that_was_moved_is_verified_where_it_is(
    project: Finished, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(project.root, moved)
    (moved / "output" / "config.json").write_text("{}")
    assert verify("latest", project.root)
    with pytest.raises(IntegrityError) as caught:
        verify("latest", moved)
    assert str(moved / "output" / "config.json") in str(caught.value.found)


def test_a_manifest_that_names_no_ledger_is_taken_at_its_word(project: Finished) -> None:
    rewrite(project, deliverables={})
    assert verify("latest", project.root)


def test_a_durable_file_that_is_gone_is_named(project: Finished) -> None:
    name = f"evals/reports/{project.manifest.run_id}.html"
    path = Path(project.tiers.durable_place(name))
    path.unlink()
    assert f"{path}: is missing" in problems(project, "latest")


def reseal(
    project: Finished, role: str, files: dict[str, bytes] | None = None, **changes: Any
) -> None:
    """A record whose numbers were forged and sealed anew, and a manifest that names it."""
    store = project.tiers.store
    sealed = store.by_digest(project.manifest.outputs[role])
    body = sealed.body.model_copy(update=changes)
    record = {**sealed.to_json(), "body": body.model_dump(mode="json"), "version": "v9"}
    record["files"] |= {name: store.put(data) for name, data in (files or {}).items()}
    bare = {key: value for key, value in record.items() if key not in ("name", "version")}
    digest = sha256_bytes(canonical_json(bare))
    folder = store.root / "records" / sealed.kind
    (folder / f"{digest}.json").write_bytes(canonical_json(record))
    (store.root / "names" / sealed.kind / sealed.name / "v9").write_text(digest)
    rewrite(project, outputs={**project.manifest.outputs, role: digest})


def test_rows_that_do_not_follow_from_the_answers_are_named(project: Finished) -> None:
    scores = project.tiers.store.by_digest(project.manifest.outputs["tuned_scores"])
    found = project.tiers.store.path(scores, "scores.jsonl").read_bytes()
    reseal(project, "tuned_scores", files={"scores.jsonl": found.replace(b'"stopped":', b'"s":')})
    assert "its rows do not follow from the answers" in problems(project, "latest")


def test_red_flags_that_were_talked_away_are_named(project: Finished) -> None:
    scores = project.tiers.store.by_digest(project.manifest.outputs["tuned_scores"])
    hidden = scores.body.safety.model_copy(update={"red_flag_count": 7})
    reseal(project, "tuned_scores", safety=hidden)
    assert "its numbers do not follow from the answers" in problems(project, "latest")


def test_scores_that_do_not_follow_from_the_answers_are_named(project: Finished) -> None:
    reseal(project, "tuned_scores", general_cross_entropy=1.0)
    assert "its numbers do not follow from the answers" in problems(project, "latest")


def test_a_report_that_does_not_follow_from_the_scores_is_named(project: Finished) -> None:
    reseal(project, "report", forgetting_nats=-1.0)
    assert "does not follow from the scores and the dataset" in problems(project, "latest")


def test_scores_of_another_suite_cannot_be_derived(project: Finished) -> None:
    store = project.tiers.store
    scores = store.by_digest(project.manifest.outputs["tuned_scores"])
    other = project.manifest.outputs["eval_dataset"]
    record = {**scores.to_json(), "inputs": {**scores.inputs, "suite": other}, "version": "v9"}
    bare = {key: value for key, value in record.items() if key not in ("name", "version")}
    digest = sha256_bytes(canonical_json(bare))
    (store.root / "records" / "scores" / f"{digest}.json").write_bytes(canonical_json(record))
    (store.root / "names" / "scores" / scores.name / "v9").write_text(digest)
    rewrite(project, outputs={**project.manifest.outputs, "tuned_scores": digest})
    assert "cannot be derived again" in problems(project, "latest")


def test_what_other_code_has_scored_is_not_derived_again(
    project: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from nexa.orchestrate.steps import STEPS

    reseal(project, "report", forgetting_nats=-1.0)
    monkeypatch.setitem(STEPS, "analyze", replace(STEPS["analyze"], version=99))
    assert "does not follow" not in problems_or_none(project)


def problems_or_none(project: Finished) -> str:
    try:
        verify("latest", project.root)
    except IntegrityError as error:
        return str(error.found)
    return ""


def test_damage_that_was_told_once_is_not_derived_from(project: Finished) -> None:
    store, durable = StoreCheck(project.tiers.store), DurableCheck(project.tiers)
    answers = project.tiers.store.by_digest(project.manifest.outputs["tuned_answers"])
    blob = project.tiers.store.path(answers, "answers.jsonl")
    blob.chmod(0o644)
    blob.write_bytes(b"{}")
    assert list(store.everything())
    run = RunCheck(project.tiers, project.manifest.run_id, store, durable)
    names = [name for name, _ in run.everything()]
    assert "records and their files" in names
    assert "scores and report, derived again" not in names


def test_many_problems_are_counted_and_the_first_are_listed(project: Finished) -> None:
    shutil.rmtree(project.tiers.store.root / "blobs")
    lines = problems(project).splitlines()
    assert len(lines) == 21
    assert lines[-1].startswith("and ")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_model_from_elsewhere_is_verified_as_it_was_evaluated(
    tmp_path: Path, tiny_llama: Path
) -> None:
    held_out = write_rows(tmp_path / "held_out.jsonl", rows(range(100, 104)))
    adapter = peft_adapter(tmp_path / "adapter", tiny_llama)
    section = PublishSection(repo="you/theirs", hub="local")
    asked = Request(section, adapter, eval_data=held_out, allow=("worse", "forgetting"))
    publish(asked, Tiers.of(tmp_path))
    assert "scores and report, derived again" in verify("latest", tmp_path).checks
    assert verify(None, tmp_path).subject == "everything here"


# -- durable storage -----------------------------------------------------------------------------


def committed(tmp_path: Path) -> tuple[Tiers, Path]:
    tiers = Tiers.of(tmp_path, {"NEXA_DURABLE": str(tmp_path / "durable")})
    (tmp_path / "a").write_bytes(b"alpha")
    tiers.commit({"a": tmp_path / "a"}, "datasets/x/v1")
    return tiers, tmp_path / "durable" / "datasets" / "x" / "v1"


def durable_problems(tiers: Tiers) -> list[str]:
    return [problem.what for problem in DurableCheck(tiers).everything()]


def test_a_committed_folder_holds_what_its_marker_names_and_nothing_else(tmp_path: Path) -> None:
    tiers, folder = committed(tmp_path)
    assert durable_problems(tiers) == []
    (folder / ".b.123").write_bytes(b"torn")
    assert durable_problems(tiers) == []
    (folder / "b").write_bytes(b"stranger")
    assert durable_problems(tiers) == ["is not one of the committed files"]
    (folder / "b").unlink()
    (folder / "a").unlink()
    assert durable_problems(tiers) == ["is missing"]


@pytest.mark.parametrize(
    "marker", [b"", b"[]", b'{"files": {"a": 1}}', b'{"files":{"a":"xyz"}}', b'{"files": {}}']
)
def test_a_marker_that_nexa_did_not_write_is_named(tmp_path: Path, marker: bytes) -> None:
    tiers, folder = committed(tmp_path)
    (folder / MARKER).write_bytes(marker)
    assert durable_problems(tiers) == ["is not a marker that nexa wrote"]


def test_a_folder_that_lost_its_marker_or_holds_other_files_than_its_record(
    tmp_path: Path,
) -> None:
    tiers, folder = committed(tmp_path)
    check = DurableCheck(tiers)
    (problem,) = check.folder("datasets/x/v1", {"a": "0" * 64})
    assert problem.what == "does not name the files that were sealed"
    (folder / MARKER).unlink()
    assert durable_problems(tiers) == []
    (problem,) = DurableCheck(tiers).folder("datasets/x/v1", {})
    assert "never committed" in problem.what


def test_run_state_is_told_and_is_no_fault(project: Finished) -> None:
    state = project.tiers.scratch / "checkpoints" / "abc" / "step-000001"
    state.mkdir(parents=True)
    (state / checkpoint.MARKER).write_text("torn")
    project.tiers.commit({"a": project.config}, f"{verify_durable.RUN_STATE}abc/step-000001")
    copy = Path(project.tiers.durable_place(f"{verify_durable.RUN_STATE}abc/step-000001/a"))
    copy.unlink()
    stray = project.tiers.store.root / "recipes" / ".left.1"
    stray.write_bytes(b"")
    notes = verify(None, project.root).notes
    assert sum("resuming passes over it" in note for note in notes) == 2
    assert any("left by stopped writers" in note for note in notes)
