from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nexa.cli.main import main
from tests.support.project import Finished, train, write_config

Captured = pytest.CaptureFixture[str]


def test_runs_are_listed_oldest_first(project: Finished, capsys: Captured) -> None:
    assert main(["train", "-q", "--no-check"]) == 0
    assert main(["data", "prepare", "-q"]) == 0
    capsys.readouterr()
    assert main(["runs", "list"]) == 0
    heading, first, *others = capsys.readouterr().out.splitlines()
    assert heading.split()[:5] == ["run", "type", "status", "model", "dataset"]
    assert first.split()[:5] == [
        *(project.manifest.run_id, "train", "done", "tiny-llama", "elements@v1")
    ]
    assert [line.split()[1] for line in others] == ["train", "data_gen"]


def test_runs_are_listed_as_json(project: Finished, capsys: Captured) -> None:
    assert main(["runs", "list", "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert told == project.manifest.model_dump(mode="json", by_alias=True)


def test_without_runs_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "list"]) == 0
    assert capsys.readouterr().out == "no runs yet\n"
    assert main(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("words", [[], ["latest"], ["{run_id}"], ["{day}"]])
def test_one_run_is_shown_field_by_field(
    project: Finished, capsys: Captured, words: list[str]
) -> None:
    run_id = project.manifest.run_id
    given = [word.format(run_id=run_id, day=run_id[:10]) for word in words]
    assert main(["runs", "show", *given]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["run_id"] == run_id
    assert told["status"] == "done"
    assert told["machine.bf16"] in ("True", "False")
    assert told["outputs.report"] == project.manifest.outputs["report"]
    assert told["cost.cost_total_usd"] == "0"
    assert "error" not in told
    assert "reused" not in told


def test_what_was_reused_is_a_line(project: Finished, capsys: Captured) -> None:
    assert main(["train", "-q", "--no-check"]) == 0
    capsys.readouterr()
    assert main(["runs", "show"]) == 0
    assert "  eval_dataset, suite, dataset, checkpoint, " in capsys.readouterr().out
    assert main(["runs", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reused"][0] == "eval_dataset"


def test_how_the_training_went_is_shown(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    assert main(["runs", "show", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["training"]
    assert told["steps"] == "4 of 4"
    assert (told["method"], told["precision"]) == ("lora", "float32")
    assert "stopped" not in told
    assert main(["runs", "show"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["training.engine"].startswith(("fused", "generic"))
    shutil.rmtree(project.tiers.store.root / "records")
    assert main(["runs", "show", "--json"]) == 0
    assert "training" not in json.loads(capsys.readouterr().out)


def test_the_facts_in_which_two_runs_differ_stand_side_by_side(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    write_config(project.root, tiny_llama, training={"seed": 7})
    other = train(project.config)
    assert main(["runs", "diff", project.manifest.run_id]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["fact", project.manifest.run_id, other.run_id]
    facts = {row.split()[0]: row.split()[1:] for row in rows}
    assert facts["seed"] == ["0", "7"]
    assert "training.final_loss" in facts
    assert "dataset_hash" not in facts
    assert main(["runs", "diff", project.manifest.run_id, other.run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == {"a": 0, "b": 7}
    assert main(["runs", "diff", other.run_id]) == 0
    assert capsys.readouterr().out == "the same run\n"


def test_an_unknown_run_names_those_there_are(project: Finished, capsys: Captured) -> None:
    assert main(["runs", "show", "1999-01-01"]) == 2
    told = capsys.readouterr().err
    assert "there is no run 1999-01-01" in told
    assert project.manifest.run_id in told


# -- lineage -------------------------------------------------------------------------------------


def test_a_run_s_report_is_traced_to_files_and_model(project: Finished, capsys: Captured) -> None:
    assert main(["lineage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("report/tiny-llama-elements@v1  [analyze]  ")
    ends = {line.strip().rsplit("  ", 1)[0] for line in lines if line.startswith("      ")}
    assert {"source: train.jsonl  [file]", "base: tiny-llama (folder)  [model]"} <= ends
    export = next(line for line in lines if line.strip().startswith("export: "))
    assert export.startswith("      export: export/tiny-llama-elements@v1  [merge]")


def test_any_artifact_is_traced_and_json_has_the_depths(
    project: Finished, capsys: Captured
) -> None:
    assert main(["lineage", "suite/elements", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(node["depth"], node["label"]) for node in told] == [
        (0, "suite/elements@v1"),
        (1, "dataset/elements-eval@v1"),
        (2, "eval.jsonl"),
    ]
    assert told[0]["digest"] == project.manifest.outputs["suite"]


@pytest.mark.parametrize(
    ("what", "code", "complaint"),
    [
        ("report/tiny-lama-elements", 1, "report/tiny-llama-elements"),
        ("1999-01-01", 2, "there is no run 1999-01-01"),
        ("0123456789abcdef", 1, "no records begin with the digest"),
    ],
)
def test_an_unknown_name_ends_with_a_line(
    project: Finished, capsys: Captured, what: str, code: int, complaint: str
) -> None:
    assert main(["lineage", what]) == code
    assert complaint in capsys.readouterr().err


def test_a_gap_in_the_lineage_is_an_error(project: Finished, capsys: Captured) -> None:
    digest = project.manifest.outputs["suite"]
    (project.tiers.store.root / "records" / "suite" / f"{digest}.json").unlink()
    assert main(["lineage"]) == 10
    assert "has a gap" in capsys.readouterr().err
