from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from nexa.cli.main import main
from nexa.core.manifest import find_manifest
from tests.support.foreign import as_trainer_checkpoint, peft_adapter
from tests.support.hub_emulator import HubEmulator
from tests.support.project import Finished, rows, write_config, write_rows

Captured = pytest.CaptureFixture[str]
LOCAL = ["--repo", "you/elements", "--hub", "local"]
TOKEN = "hf_" + "publish" * 5


@pytest.fixture
def published(project: Finished, capsys: Captured) -> Path:
    assert main(["publish", *LOCAL, "-q"]) == 0
    capsys.readouterr()
    return project.root / ".nexa" / "hub" / "you" / "elements"


# -- into a folder -------------------------------------------------------------------------------


def test_it_prints_where_it_is_and_how_to_check_it(project: Finished, capsys: Captured) -> None:
    assert main(["publish", *LOCAL, "./output"]) == 0
    folder = project.root / ".nexa" / "hub" / "you" / "elements"
    out, err = capsys.readouterr()
    first, root, check = out.splitlines()
    assert first == f"Published: {folder}"
    digest = root.split()[-1]
    assert digest in (folder / "nexa" / "ROOT").read_text()
    words = check.split("nexa ")[1].split()
    assert words == ["verify", str(folder), "--expect", digest[:16]]
    assert main(words) == 0
    assert f"./output: the output of run {project.manifest.run_id}" in err


def test_push_is_publish_and_with_json_it_prints_the_record(
    project: Finished, capsys: Captured
) -> None:
    assert main(["push", *LOCAL, "--json", "-q"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["repo"] == "you/elements"
    assert Path(record["location"]).is_dir()


def test_the_config_s_publish_section_is_enough(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    publish = {"repo": "me/mine", "hub": "./hub", "model_card": False}
    write_config(project.root, tiny_llama, publish=publish)
    assert main(["publish"]) == 0
    folder = project.root / "hub" / "me" / "mine"
    assert f"Published: {folder}\n" in capsys.readouterr().out
    assert not (folder / "README.md").exists()
    assert main(["publish", "--model-card", "--repo", "me/other"]) == 0
    assert (project.root / "hub" / "me" / "other" / "README.md").exists()


def test_choices_reach_the_publication(project: Finished, capsys: Captured) -> None:
    words = ["--private", "--no-merge-adapters", "--licence", "mit", "--hub", "hub"]
    assert main(["publish", "--repo", "me/mine", *words]) == 0
    assert "no private repositories" in capsys.readouterr().err
    folder = project.root / "hub" / "me" / "mine"
    assert not (folder / "model.safetensors").exists()
    assert 'license: "mit"' in (folder / "README.md").read_text()


def test_twice_says_that_there_is_nothing_to_do(published: Path, capsys: Captured) -> None:
    assert main(["publish", *LOCAL]) == 0
    out, err = capsys.readouterr()
    assert "already published, nothing to do" in err
    assert f"Published: {published}\n" in out


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--hub", "local"], 2, "--repo OWNER/NAME, or a publish section in config.yaml"),
        (["--repo", "no-owner"], 2, "--repo: should be owner/name"),
        ([*LOCAL, "--allow", "everything"], 2, "no evidence, worse, contaminated"),
        ([*LOCAL, "nowhere"], 2, "there is no folder nowhere to publish"),
        ([*LOCAL, "config.yaml"], 2, "config.yaml is a file, not a model's folder"),
        ([*LOCAL, "--eval-data", "eval.jsonl"], 2, "leave --eval-data out"),
        ([*LOCAL, "--base-model", "m"], 2, "leave --base-model out"),
        (["--rope", "a/b"], 2, "nexa publish --help"),
    ],
)
def test_bad_words_end_with_their_code_and_a_line(
    project: Finished, capsys: Captured, words: list[str], code: int, complaint: str
) -> None:
    assert main(["publish", *words, "-q"]) == code
    assert complaint in capsys.readouterr().err


def test_an_edited_model_is_refused_by_name(project: Finished, capsys: Captured) -> None:
    with (project.root / "output" / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert main(["publish", *LOCAL]) == 9
    told = capsys.readouterr().err
    assert "was changed after it was evaluated" in told
    assert "found  model.safetensors" in told


# -- to a Hub on the network ---------------------------------------------------------------------


@pytest.fixture
def hub(hub_emulator: HubEmulator, monkeypatch: pytest.MonkeyPatch) -> HubEmulator:
    monkeypatch.setenv("HF_TOKEN", hub_emulator.add_token(TOKEN))
    return hub_emulator


def uploads(hub: HubEmulator) -> list[tuple[str, str]]:
    return [(r.method, r.path) for r in hub.requests if r.method in ("PUT", "POST")]


def test_the_hub_is_where_it_goes_when_nothing_else_is_said(
    project: Finished, hub: HubEmulator, capsys: Captured
) -> None:
    assert main(["publish", "--repo", "tester/elements", "--private"]) == 0
    out, err = capsys.readouterr()
    location = f"{hub.url}/tester/elements"
    assert out.startswith(f"Published: {location}\n")
    assert "hf download tester/elements --local-dir elements" in out
    assert hub.repo("tester/elements").private
    files = hub.files("tester/elements")
    assert files["model.safetensors"] == (project.root / "output/model.safetensors").read_bytes()
    downloaded = project.root / "downloaded"
    for name, data in files.items():
        (downloaded / name).parent.mkdir(parents=True, exist_ok=True)
        (downloaded / name).write_bytes(data)
    digest = out.split("root digest ")[1].split()[0]
    assert main(["verify", str(downloaded), "--expect", digest]) == 0
    told = find_manifest(project.tiers.manifests, project.manifest.run_id)
    assert told.publications == [location]
    assert TOKEN not in out + err


def test_the_same_evidence_again_uploads_nothing(
    project: Finished, hub: HubEmulator, capsys: Captured
) -> None:
    words = ["publish", "--repo", "tester/elements", "--hub", hub.url]
    assert main(words) == 0
    before, commit = uploads(hub), hub.repo("tester/elements").head.id
    assert main(words) == 0
    assert uploads(hub) == before
    assert hub.repo("tester/elements").head.id == commit
    assert "already published, nothing to do" in capsys.readouterr().err


def test_a_repository_made_by_hand_is_replaced_only_when_it_is_allowed(
    project: Finished, hub: HubEmulator, capsys: Captured
) -> None:
    hub.add_repo("tester/elements", {"notes.md": b"mine"})
    words = ["publish", "--repo", "tester/elements"]
    assert main(words) == 9
    told = capsys.readouterr().err
    assert "notes.md" in told
    assert "--allow 'foreign files'" in told
    assert "notes.md" in hub.files("tester/elements")
    assert main([*words, "--allow", "foreign files"]) == 0
    assert "notes.md" not in hub.files("tester/elements")


def test_without_a_token_it_names_login_and_the_local_hub_before_any_upload(
    project: Finished, hub_emulator: HubEmulator, capsys: Captured
) -> None:
    words = ["publish", "--repo", "tester/my-model", "--no-model-card", "--licence", "mit"]
    assert main(words) == 23
    told = capsys.readouterr().err
    assert "nexa login" in told
    assert "--hub local" in told
    *_, last = told.strip().splitlines()
    assert sorted(shlex.split(last)) == sorted(["nexa", *words])
    assert not hub_emulator.requests


def test_a_read_only_token_is_told_before_any_upload(
    project: Finished, hub: HubEmulator, capsys: Captured
) -> None:
    hub.add_token(TOKEN, role="read")
    assert main(["publish", "--repo", "tester/elements"]) == 23
    assert "read-only" in capsys.readouterr().err
    assert not hub.has_repo("tester/elements")


def test_a_failed_upload_ends_with_the_command_that_goes_on(
    project: Finished, hub: HubEmulator, capsys: Captured
) -> None:
    hub.plan_fault("POST", r".*/commit/.*", 404, times=1)
    words = ["publish", "--repo", "tester/elements", "--allow", "no evidence", "--no-model-card"]
    assert main(words) == 12
    told = capsys.readouterr().err
    assert "cannot publish to tester/elements" in told
    assert sorted(shlex.split(told.strip().splitlines()[-1])) == sorted(["nexa", *words])
    run_id = project.manifest.run_id
    assert find_manifest(project.tiers.manifests, run_id).publications == []
    assert find_manifest(project.tiers.manifests, run_id).status == "done"
    assert main(words) == 0
    assert "README.md" not in hub.files("tester/elements")


def test_a_run_publishes_to_the_hub_when_its_gates_pass(
    project: Finished, tiny_llama: Path, hub: HubEmulator, capsys: Captured
) -> None:
    write_config(project.root, tiny_llama, publish={"repo": "tester/trained", "private": True})
    assert main(["train"]) == 0
    assert hub.repo("tester/trained").private
    told = find_manifest(project.tiers.manifests, "latest")
    assert (told.status, told.publications) == ("done", [f"{hub.url}/tester/trained"])


def test_a_run_stays_done_when_publishing_fails(
    project: Finished, tiny_llama: Path, hub: HubEmulator, capsys: Captured
) -> None:
    write_config(project.root, tiny_llama, publish={"repo": "tester/trained"})
    hub.plan_fault("POST", r".*/commit/.*", 404, times=1)
    assert main(["train"]) == 12
    told = find_manifest(project.tiers.manifests, "latest")
    assert (told.status, told.publications) == ("done", [])
    retry = shlex.split(capsys.readouterr().err.strip().splitlines()[-1])
    assert retry[:3] == ["nexa", "publish", told.run_id]
    assert main(retry[1:]) == 0
    assert find_manifest(project.tiers.manifests, told.run_id).publications


def test_training_does_not_begin_without_a_token_to_publish_with(
    project: Finished, tiny_llama: Path, hub_emulator: HubEmulator, capsys: Captured
) -> None:
    write_config(project.root, tiny_llama, publish={"repo": "tester/trained"})
    before = sorted(project.tiers.manifests.iterdir())
    assert main(["train"]) == 23
    assert "nexa login" in capsys.readouterr().err
    assert sorted(project.tiers.manifests.iterdir()) == before


# -- as GGUF -------------------------------------------------------------------------------------


def test_gguf_files_are_published_to_a_hub_as_large_objects_and_verified_offline(
    project: Finished, hub: HubEmulator, capsys: Captured
) -> None:
    words = ["publish", "--repo", "tester/elements", "--format", "gguf"]
    assert main([*words, "--quantization", "q8_0", "--quantization", "F16", "-q"]) == 0
    digest = capsys.readouterr().out.split("root digest ")[1].split()[0]
    files = hub.files("tester/elements")
    ggufs = [name for name in files if name.endswith(".gguf")]
    assert len(ggufs) == 2
    assert not any(name.startswith("model") for name in files)
    tree = hub.repo("tester/elements").head.tree
    assert all(tree[name].lfs for name in ggufs)
    downloaded = project.root / "downloaded"
    for name, data in files.items():
        (downloaded / name).parent.mkdir(parents=True, exist_ok=True)
        (downloaded / name).write_bytes(data)
    assert main(["verify", str(downloaded), "--expect", digest]) == 0
    told = capsys.readouterr().out
    assert "  --  model.safetensors is not in this folder (sha256 " in told


def test_training_publishes_gguf_files_into_a_folder(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    publish = {"repo": "me/small", "hub": "local", "format": "gguf", "quantization": "q8_0, q4_0"}
    write_config(project.root, tiny_llama, publish=publish)
    assert main(["train", "-q", "--no-check"]) == 0
    folder = project.root / ".nexa" / "hub" / "me" / "small"
    assert len(list(folder.glob("*.gguf"))) == 2
    assert main(["verify", str(folder)]) == 0
    assert main(["verify"]) == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--quantization", "q8_0"], "--quantization: is of format: gguf, and the format is saf"),
        (["--format", "gguf", "--quantization", "q4km"], "did you mean 'q4_k_m'?"),
        (["--format", "gguf", "--no-merge-adapters"], "--format: gguf is made from merged weights"),
        (["--format", "onnx"], "'onnx' is not one of 'safetensors', 'gguf'"),
    ],
)
def test_words_on_gguf_that_do_not_fit_are_refused(
    project: Finished, capsys: Captured, words: list[str], complaint: str
) -> None:
    assert main(["publish", *LOCAL, *words, "-q"]) == 2
    assert complaint in capsys.readouterr().err


def test_a_dry_run_says_what_is_not_made_yet(project: Finished, capsys: Captured) -> None:
    assert main(["publish", *LOCAL, "--format", "gguf", "--dry-run"]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if ".gguf" in line)
    assert line.endswith("(about; not made yet)")
    assert "  note     converted to GGUF first: q8_0\n" in out


def test_a_failed_upload_of_gguf_ends_with_the_whole_command(
    project: Finished, tiny_llama: Path, hub: HubEmulator, capsys: Captured
) -> None:
    publish = {"repo": "tester/trained", "format": "gguf", "quantization": ["q8_0", "q4_0"]}
    write_config(project.root, tiny_llama, publish=publish)
    hub.plan_fault("POST", r".*/commit/.*", 404, times=1)
    assert main(["train", "--no-check"]) == 12
    retry = shlex.split(capsys.readouterr().err.strip().splitlines()[-1])
    assert retry[-4:] == ["--format", "gguf", "--quantization", "q8_0,q4_0"]
    assert main(retry[1:]) == 0


# -- what others made ----------------------------------------------------------------------------


def test_an_adapter_from_elsewhere_needs_rows_to_be_judged_on(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    adapter = as_trainer_checkpoint(peft_adapter(project.root / "theirs", tiny_llama))
    assert main(["publish", "theirs", *LOCAL]) == 9
    told = capsys.readouterr().err
    assert "theirs: an adapter, a checkpoint of transformers' Trainer at step 60" in told
    assert "theirs has no report" in told
    assert "nexa publish theirs --repo you/elements --hub local --eval-data FILE" in told
    write_rows(project.root / "held_out.jsonl", rows(range(200, 206)))
    words = ["--eval-data", "held_out.jsonl", "--allow", "worse", "--allow", "forgetting"]
    assert main(["publish", str(adapter), *LOCAL, *words]) == 0
    out, err = capsys.readouterr()
    assert "training data unknown to Nexa: contamination was not checked" in err
    assert "not published with it: README.md, optimizer.pt, trainer_state.json" in err
    folder = out.split("Published: ")[1].split("\n")[0]
    assert main(["verify", folder]) == 0


# -- dry run -------------------------------------------------------------------------------------


def test_a_dry_run_shows_everything_and_writes_nothing(project: Finished, capsys: Captured) -> None:
    before = {p: p.stat().st_mtime_ns for p in project.root.rglob("*")}
    assert main(["publish", *LOCAL, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"the output of run {project.manifest.run_id}" in out
    assert str(project.root / ".nexa" / "hub" / "you" / "elements") in out
    assert "MB  model.safetensors" in out
    assert "MB  nexa/ROOT" in out
    assert out.endswith("This would be published. Nothing was written or uploaded.\n")
    assert {p: p.stat().st_mtime_ns for p in project.root.rglob("*")} == before


def test_a_dry_run_without_a_token_shows_that_too(
    project: Finished, hub_emulator: HubEmulator, capsys: Captured
) -> None:
    assert main(["publish", "--repo", "tester/elements", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "finding  cannot publish to tester/elements: there is no Hub token" in out
    assert out.endswith("This would be refused. Nothing was written or uploaded.\n")
    assert not hub_emulator.requests


def test_a_dry_run_with_json_is_one_object(project: Finished, capsys: Captured) -> None:
    assert main(["publish", *LOCAL, "--dry-run", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["would_publish"] is True
    assert told["files"]["config.json"] > 0


def test_a_dry_run_shows_notes_and_findings_of_several_lines(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    folder = peft_adapter(project.root / "theirs", tiny_llama)
    secret = "hf_" + "aB3" * 12
    (folder / "adapter_config.json").write_text(f"{secret}\n{secret}\n")
    assert main(["publish", "theirs", *LOCAL, "--private", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "(private if it is new)" in out
    assert "  note     left out: README.md\n" in out
    assert "adapter_config.json line 1\n           adapter_config.json line 2)\n" in out
    assert secret not in out
