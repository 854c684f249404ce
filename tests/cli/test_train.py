from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from nexa.cli.main import INTERRUPTED, main
from nexa.core.events import Event, listening
from nexa.core.manifest import list_manifests
from tests.support.project import Finished, rows, write_config, write_project, write_rows
from tests.support.tiny import write_tiny_model


def test_it_tells_the_story_and_where_everything_is(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_project(tmp_path, tiny_llama)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--no-check"]) == 0
    out, err = capsys.readouterr()
    assert "Epoch 1/1: loss=" in err
    assert f"Saved: {tmp_path}/output/model.safetensors (" in err
    lines = [line.split() for line in out.splitlines()]
    assert ["metric", "base", "tuned", "difference"] in lines
    assert any(line[:1] == ["Verdict:"] for line in lines)
    [manifest] = list_manifests(tmp_path / "runs" / "manifests")
    for name, address in manifest.deliverables.items():
        assert [name, address] in lines
    assert out.endswith(f"Next: nexa publish --repo OWNER/NAME --hub local {tmp_path}/output\n")


def test_a_second_time_it_says_what_it_reused(
    project: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--no-check"]) == 0
    told = capsys.readouterr().err
    for label in ("dataset/elements@v1", "checkpoint/tiny-llama-elements@v1"):
        assert f"reused {label}: made before by the same recipe\n" in told
    assert "Epoch" not in told


def test_with_json_it_is_one_object(project: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--json", "-q", "--no-check"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["manifest"]["status"] == "done"
    assert told["report"]["verdict"] == told["manifest"]["verdict"]
    assert err == ""


def test_a_plan_is_shown_and_nothing_is_made(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_project(tmp_path, tiny_llama)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["method", "lora", "(rank", "4,", "alpha", "8)"] in lines
    assert main(["train", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows a step"] == 4
    assert not (tmp_path / "runs").exists()


def test_a_config_of_another_folder_is_taken_as_it_stands_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_model(tmp_path / "sub" / "my-model")
    write_rows(tmp_path / "sub" / "data" / "train.jsonl", rows(range(40)))
    write_rows(tmp_path / "sub" / "data" / "eval.jsonl", rows(range(100, 110)))
    data = {"train_path": "data/train.jsonl", "eval_path": "data/eval.jsonl"}
    publish = {"repo": "you/it", "hub": "./hub"}
    write_config(tmp_path / "sub", "my-model", data=data, publish=publish)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    config = os.path.join(os.pardir, "sub", "config.yaml")
    assert main(["train", config, "--no-check"]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    folder = tmp_path / "sub" / "hub" / "you" / "it"
    assert f"Published: {folder}\n" in out
    assert f"check it with: nexa verify {folder}\n" in out
    assert "Next:" not in out
    assert list(elsewhere.iterdir()) == []
    assert main(["publish", "../sub/output", "--repo", "you/again", "--hub", "hub"]) == 0
    assert (elsewhere / "hub" / "you" / "again" / "config.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["missing.yaml"], 3, "there is no missing.yaml"),
        (["."], 3, "cannot read ."),
        (["broken.yaml"], 3, "line 1: modle is not a key: did you mean 'model'?"),
        (["no-data.yaml"], 4, "there is no"),
        (["no-model.yaml"], 5, "no-model"),
        (["guarded.yaml"], 6, "training changed nothing"),
        (["full-folder.yaml"], 11, "thesis.tex"),
        (["network.yaml"], 23, "there is no Hub token"),
        (["--nonsense"], 2, "nexa train --help"),
    ],
)
def test_bad_input_ends_with_its_code_and_a_line(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").write_text("years of work")
    configs = {
        "no-data": write_config(tmp_path, tiny_llama, data={"train_path": "no.jsonl"}),
    }
    write_rows(tmp_path / "eval.jsonl", rows(range(100, 110)))
    configs["no-data"].rename(tmp_path / "no-data.yaml")
    write_config(tmp_path, "./no-model").rename(tmp_path / "no-model.yaml")
    optimizer = {"name": "sgd", "lr": 1e-30}
    write_project(tmp_path, tiny_llama, optimizer=optimizer).rename(tmp_path / "guarded.yaml")
    training = {"output_dir": "docs"}
    write_config(tmp_path, tiny_llama, training=training).rename(tmp_path / "full-folder.yaml")
    publish = {"repo": "you/it"}
    write_config(tmp_path, tiny_llama, publish=publish).rename(tmp_path / "network.yaml")
    (tmp_path / "broken.yaml").write_text("modle: {path: m}\n")
    assert main(["train", *words, "-q", "--no-check"]) == code
    assert complaint in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_keeps_what_was_finished(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(event: Event) -> None:
        if event["kind"] == "progress" and event["task"] == "training":
            raise KeyboardInterrupt

    write_project(tmp_path, tiny_llama)
    monkeypatch.chdir(tmp_path)
    with listening(stop):
        assert main(["train", "-q", "--no-check"]) == INTERRUPTED
    assert "what was finished is kept" in capsys.readouterr().err
    assert main(["train", "--no-check"]) == 0
    assert "reused dataset/" in capsys.readouterr().err


def test_sigterm_ends_with_143_and_says_how_to_go_on(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(event: Event) -> None:
        if event["kind"] == "progress" and event["task"] == "training" and event["done"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    write_project(tmp_path, tiny_llama)
    monkeypatch.chdir(tmp_path)
    with listening(stop):
        assert main(["train", "-q", "--no-check"]) == 143
    assert "it goes on from step 2" in capsys.readouterr().err
    assert main(["train", "--no-check"]) == 0
    assert "Going on from step 2 of 4: " in capsys.readouterr().err


def test_a_refused_publication_ends_with_its_code_after_a_run_that_ended_well(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(
        tmp_path,
        tiny_llama,
        optimizer={"lr": 0.02},
        training={"max_steps": 10},
        eval={"forgetting_limit_nats": 1e-6},
        publish={"repo": "you/it", "hub": "local"},
    )
    assert main(["train", "-q", "--no-check"]) == 9
    assert "--allow forgetting" in capsys.readouterr().err
    assert main(["publish", "-q", "--allow", "forgetting"]) == 0
    assert "Published: " in capsys.readouterr().out
